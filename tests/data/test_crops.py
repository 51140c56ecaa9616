"""crops.py: the published crops and images, to the last bit."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.data import augment, batches, crops, decoding
from effnet_tf.data.crops import EvaluationCrop
from effnet_tf.recipes import Recipe
from effnet_tf.variants import PREPROCESSING
from tests.helpers import broken
from tests.helpers.goldens import REFERENCE


def training_image(encoded, size, *, seed, flip, **crop):
    """A training image, cropped and mirrored by two seeds."""
    crop_seed, flip_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    image = crops.resize(crops.training_crop(encoded, size, seed=crop_seed, **crop), size)
    return augment.mirror(image, flip_seed) if flip else image


PREPROCESS = dict(np.load(REFERENCE / "preprocess.npz"))


@pytest.mark.parametrize("key", [key for key in PREPROCESS if key.startswith("eval")])
def test_evaluation_images_are_the_originals_to_the_last_bit(key):
    _, name, size, _, crop = key.split("_")
    padding = 32 if crop == "pad32" else crops.padding_of(0.875, int(size))
    encoded = tf.constant(PREPROCESS[f"jpeg_{name}"].tobytes())
    image = EvaluationCrop(int(size), padding)(encoded)
    assert image.dtype == tf.float32
    np.testing.assert_array_equal(image[::4, ::4], PREPROCESS[key])


OF_V2 = dict(np.load(REFERENCE / "preprocess_v2.npz"))
KINDS = {"v2": "v2", "legacy": "v1", "ft": "whole"}
PIXELS = {"v2": "v2", "legacy": "imagenet", "ft": "inception"}


@pytest.mark.parametrize("key", [key for key in OF_V2 if "jpeg" not in key])
def test_evaluation_images_of_v2_are_the_originals(key):
    """Those of `legacy` and `ft` were normalised in another order, so that the last bits differ."""
    code, name, size = key.split("_")
    encoded = tf.constant(PREPROCESS[f"jpeg_{name}"].tobytes())
    image = EvaluationCrop(int(size), 32, kind=KINDS[code])(encoded)
    mean, std = PREPROCESSING[PIXELS[code]]
    found = (image[::4, ::4] - np.float32(mean)) / np.float32(std)
    np.testing.assert_allclose(found, OF_V2[key], rtol=0, atol=0 if code == "v2" else 2e-6)


@pytest.mark.parametrize(
    "variant, size, said, expected",
    [
        ("b0", 224, None, "v1"),
        ("v2-b0", 224, None, "v1"),
        ("v2-s", 384, None, "v2"),
        ("v2-s", 384, "whole", "whole"),
        ("b0", 224, "v2", "v2"),
    ],
)
def test_the_kind_is_the_variants_unless_the_recipe_says_it(variant, size, said, expected):
    recipe = Recipe(variant=variant, crops=said, image_size=size)
    assert EvaluationCrop.of_recipe(recipe, size).kind == expected
    assert crops.kind_of_recipe(recipe) == expected


def test_training_images_of_v2_are_resized_as_its_evaluation_does():
    encoded = tf.constant(PREPROCESS["jpeg_small"].tobytes())
    for variant, size in (("v2-s", 384), ("b0", 96)):
        recipe = Recipe(variant=variant, crop_area_min=1.0, flip=False, augment="none")
        found = batches.draw(recipe, encoded, size, 0)
        expected = EvaluationCrop.of_recipe(recipe, size).rounded(encoded)
        np.testing.assert_array_equal(found, expected)


def test_small_crops_are_drawn_where_nothing_must_be_covered():
    """v1 wants a tenth of the image covered, whatever the least area."""
    encoded, areas = tf.constant(PREPROCESS["jpeg_small"].tobytes()), {}
    whole = decoding.whole_image(encoded)
    for kind in ("v1", "v2"):
        found = [
            crops.training_crop(
                encoded, 32, crop_area_min=0.05, crop_padding=0, seed=[seed, 0], kind=kind
            )
            for seed in range(60)
        ]
        areas[kind] = min(tf.size(each) for each in found) / tf.size(whole)
    assert areas["v2"] < 0.09 < areas["v1"]


@pytest.mark.parametrize("size, padding", [(224, 32), (300, 43), (600, 86)])
def test_padding_of_the_originals_last_version(size, padding):
    assert crops.padding_of(0.875, size) == padding


class TestEvaluationCrop:
    """One callable for batches, checks, exports and serving."""

    crop = EvaluationCrop(32, 4, exif_rotation=True, scaled_decode=True)
    files = [broken.encoded(broken.photo(300, 200, seed=seed), quality=95) for seed in range(3)]

    def test_is_the_same_in_graphs_and_pipelines(self):
        expected = np.array([self.crop(tf.constant(file)) for file in self.files])
        assert expected.dtype == np.float32 and expected.shape == (3, 32, 32, 3)
        traced = tf.function(self.crop)
        np.testing.assert_array_equal([traced(tf.constant(file)) for file in self.files], expected)
        dataset = tf.data.Dataset.from_tensor_slices(self.files).map(self.crop).batch(3)
        np.testing.assert_array_equal(dataset.get_single_element(), expected)
        mapped = tf.map_fn(self.crop, tf.constant(self.files), fn_output_signature=tf.float32)
        np.testing.assert_array_equal(mapped, expected)

    def test_rounds(self):
        file = tf.constant(self.files[0])
        rounded = self.crop.rounded(file)
        assert rounded.dtype == tf.uint8
        np.testing.assert_array_equal(rounded, np.clip(np.round(self.crop(file)), 0, 255))

    def test_is_a_value(self):
        assert self.crop == EvaluationCrop(32, 4, True, True) != EvaluationCrop(32, 4)
        assert hash(self.crop) == hash(EvaluationCrop(32, 4, True, True))
        with pytest.raises(dataclasses.FrozenInstanceError):
            self.crop.size = 64

    @pytest.mark.parametrize(
        "changes, padding", [(dict(eval_crop_padding=16), 16), (dict(eval_crop_fraction=0.875), 43)]
    )
    def test_of_a_recipe(self, changes, padding):
        recipe = Recipe(exif_rotation=True, **changes)
        crop = EvaluationCrop.of_recipe(recipe, 300)
        assert crop == EvaluationCrop(300, padding, True, recipe.scaled_decode)

    def test_refuses_what_is_no_image(self):
        with pytest.raises(tf.errors.InvalidArgumentError):
            self.crop(tf.constant(b"no image"))


class TestAugment:
    @pytest.fixture(scope="class")
    def photo(self):
        random = np.random.default_rng(0)
        small = random.integers(0, 256, (15, 20, 3)).astype("uint8")
        return tf.cast(tf.image.resize(small, (150, 200)), tf.uint8)

    @pytest.mark.parametrize(
        "shape, size, padding, expected",
        [
            # int(size / (size + padding) * short side), offset ((h - c) + 1) // 2: FACTS.md 3.
            ((375, 500), 224, 32, (24, 86, 328, 328)),
            ((500, 333), 300, 32, (100, 17, 300, 300)),
            ((8, 8), 32, 0, (0, 0, 8, 8)),
            ((1, 1), 224, 32, (1 // 2, 1 // 2, 1, 1)),
        ],
    )
    def test_central_window_is_the_published_one(self, shape, size, padding, expected):
        window = crops.central_window(tf.constant([*shape, 3]), size, padding)
        assert tuple(window.numpy()) == expected

    def test_resize_is_tensorflow_1s_bicubic(self, photo):
        expected = tf.compat.v1.image.resize_bicubic(photo[tf.newaxis], (64, 64))[0]
        ours = crops.resize(photo, 64)
        np.testing.assert_array_equal(ours, np.clip(np.round(expected), 0, 255).astype("uint8"))
        modern = tf.image.resize(photo, (64, 64), "bicubic")
        assert np.abs(np.asarray(ours, "float32") - modern).mean() > 1

    @pytest.mark.parametrize("encode", [tf.io.encode_jpeg, tf.io.encode_png])
    def test_training_crop_of_jpeg_and_png(self, photo, encode):
        encoded = encode(photo)
        decoded = decoding.decode(encoded)
        seed = tf.constant([3, 4], tf.int64)
        make = tf.function(
            lambda: training_image(
                encoded, 48, crop_area_min=0.08, crop_padding=32, flip=True, seed=seed
            )
        )
        image = make()
        assert image.shape == (48, 48, 3) and image.dtype == tf.uint8
        np.testing.assert_array_equal(image, make())
        # The fused decode gives the same pixels as decoding everything and cutting.
        png = training_image(
            tf.io.encode_png(decoded), 48, crop_area_min=0.08, crop_padding=32, flip=True, seed=seed
        )
        assert np.abs(np.asarray(image, "float32") - np.asarray(png, "float32")).mean() < 2

    def test_random_crops_have_the_papers_areas_and_shapes(self):
        shape = tf.constant([300, 400, 3])
        windows = np.array(
            [
                crops._random_window(
                    shape,
                    lambda: tf.constant([0, 0, 0, 0]),
                    0.08,
                    tf.constant([1, number], tf.int64),
                )
                for number in range(300)
            ]
        )
        windows = windows[windows[:, 2] > 0]
        areas = windows[:, 2] * windows[:, 3] / 120_000
        ratios = windows[:, 3] / windows[:, 2]
        assert 0.079 < areas.min() < 0.12 and areas.max() > 0.85
        assert 0.73 < ratios.min() < 0.8 and 1.25 < ratios.max() < 1.36

    def test_the_mirror_does_not_depend_on_the_crop(self):
        # Crop and flip of one seed were once drawn from the same numbers.
        ramp = np.tile(np.arange(120, dtype="uint8")[None, :, None], (90, 1, 3))
        encoded = tf.io.encode_png(ramp)
        make = tf.function(
            lambda number: training_image(
                encoded,
                32,
                crop_area_min=0.08,
                crop_padding=0,
                flip=True,
                seed=tf.stack([tf.constant(1, tf.int64), number]),
            )
        )
        images = np.array([make(tf.constant(number, tf.int64)) for number in range(400)], "float32")
        widths = np.abs(images[:, 16, 31, 0] - images[:, 16, 0, 0])
        mirrored = images[:, 16, 31, 0] < images[:, 16, 0, 0]
        for half in (widths < np.median(widths), widths >= np.median(widths)):
            assert 0.4 < mirrored[half].mean() < 0.6
        assert abs(np.corrcoef(widths, mirrored)[0, 1]) < 0.15

    def test_without_crop_and_flip_training_sees_the_evaluation_image(self, photo):
        encoded = tf.io.encode_png(photo)
        train = training_image(
            encoded,
            64,
            crop_area_min=1.0,
            crop_padding=32,
            flip=False,
            seed=tf.constant([0, 0], tf.int64),
        )
        plain = EvaluationCrop(64, 32).rounded(encoded)
        np.testing.assert_array_equal(train, plain)

    def test_half_of_the_images_are_mirrored(self, photo):
        encoded = tf.io.encode_png(photo)
        plain = EvaluationCrop(32, 0).rounded(encoded).numpy()
        flips = 0
        for number in range(60):
            image = training_image(
                encoded,
                32,
                crop_area_min=1.0,
                crop_padding=0,
                flip=True,
                seed=tf.constant([0, number], tf.int64),
            )
            mirrored = not np.array_equal(image, plain)
            assert not mirrored or np.array_equal(image[:, ::-1], plain)
            flips += mirrored
        assert 15 < flips < 45

    @pytest.mark.parametrize(
        "encoded",
        [
            tf.io.encode_jpeg(tf.zeros((40, 50, 1), tf.uint8)),  # grey
            tf.io.encode_png(tf.zeros((40, 50, 4), tf.uint8)),  # with alpha
            tf.io.encode_png(tf.zeros((40, 50, 1), tf.uint16)),  # 16 bits
            tf.io.encode_png(tf.zeros((1, 1, 3), tf.uint8)),
        ],
    )
    def test_odd_images(self, encoded):
        seed = tf.constant([1, 2], tf.int64)
        assert EvaluationCrop(32, 32)(encoded).shape == (32, 32, 3)
        assert training_image(
            encoded, 32, crop_area_min=0.08, crop_padding=32, flip=True, seed=seed
        ).shape == (32, 32, 3)
