"""decoding.py: the published crops and images, photos turned by cameras, and odd files."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from effnet_tf.data import decoding
from tests.helpers import broken, memory
from tests.helpers.goldens import REFERENCE

PREPROCESS = dict(np.load(REFERENCE / "preprocess.npz"))


@pytest.mark.parametrize("key", [key for key in PREPROCESS if key.startswith("eval")])
def test_evaluation_images_are_the_originals_to_the_last_bit(key):
    _, name, size, _, crop = key.split("_")
    padding = 32 if crop == "pad32" else decoding.padding_of(0.875, int(size))
    encoded = tf.constant(PREPROCESS[f"jpeg_{name}"].tobytes())
    image = decoding.evaluation_image(encoded, int(size), padding)
    assert image.dtype == tf.float32
    np.testing.assert_array_equal(image[::4, ::4], PREPROCESS[key])


@pytest.mark.parametrize("size, padding", [(224, 32), (300, 43), (600, 86)])
def test_padding_of_the_originals_last_version(size, padding):
    assert decoding.padding_of(0.875, size) == padding


class TestPhotos:
    @pytest.mark.parametrize("turn", range(1, 9))
    @pytest.mark.parametrize("first", [b"Intel", b"Motorola"])
    def test_are_turned_as_their_exif_data_say(self, turn, first):
        exif = PIL.Image.Exif()
        exif.endian = "<" if first == b"Intel" else ">"
        exif[0x010F], exif[0x0112] = "Maker", turn
        file = broken.encoded(broken.photo(120, 200), "JPEG", quality=95, exif=exif.tobytes())
        upright = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(file))))
        assert decoding.orientation_of(tf.constant(file)) == turn
        window = tf.constant([10, 20, 60, 50])
        ours = decoding._decode_window(
            file, window, tf.constant(upright.shape[:2]), 32, tf.constant(turn), False
        )
        part = upright[10:70, 20:70].astype(float)
        assert np.abs(ours.numpy() - part).mean() < 3  # chroma differs
        whole = decoding.whole_image(tf.constant(file), True)
        assert whole.shape == upright.shape

    @pytest.mark.parametrize(
        "data",
        [b"", b"MM", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff", b"MM\0*\xff\xff\xff\xff", b"x" * 2000],
    )
    def test_damaged_exif_data_leave_them_as_they_are(self, data):
        file = broken.encoded(broken.photo(40, 60), "JPEG", exif=b"Exif\0\0" + data)
        assert decoding.orientation_of(tf.constant(file)) == 1

    def test_without_exif_data(self):
        for kind in ("JPEG", "PNG", "GIF"):
            file = tf.constant(broken.encoded(broken.photo(40, 60), kind))
            assert decoding.orientation_of(file) == 1

    @pytest.mark.parametrize(
        "window, expected",
        [
            ((0, 0, 1200, 1600), 150),
            ((100, 133, 700, 900), 87),
            ((3, 3, 300, 300), 75),
            ((3, 3, 127, 200), 127),
        ],
    )
    def test_large_ones_are_decoded_smaller(self, window, expected):
        file = tf.constant(broken.encoded(broken.photo(1200, 1600), "JPEG", quality=95))
        window = tf.constant(window)
        small, plain = (
            decoding._decode_raw_window(file, window, 64, scaled) for scaled in (True, False)
        )
        assert small.shape[0] == expected and plain.shape[0] == window[2]
        images = [decoding.resize(image, 64).numpy().astype(float) for image in (small, plain)]
        assert np.abs(images[0] - images[1]).mean() < 5  # they sample other places


class TestHeaders:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
    def test_say_the_size(self, kind):
        file = tf.constant(broken.encoded(broken.photo(293, 371), kind))
        assert decoding.shape_of(file).numpy().tolist() == [293, 371]

    def test_of_a_bmp_that_begins_at_the_top(self):
        file = bytearray(broken.encoded(broken.photo(30, 40), "BMP"))
        file[22:26] = (-30).to_bytes(4, "little", signed=True)
        assert decoding.shape_of(tf.constant(bytes(file))).numpy().tolist() == [30, 40]
        assert decoding.evaluation_image(tf.constant(bytes(file)), 32, 0).shape == (32, 32, 3)

    @pytest.mark.parametrize("file", [b"", b"G", b"no image", b"RIFF....WEBPVP8 "])
    def test_of_what_is_no_image(self, file):
        assert decoding.header_shape(tf.constant(file)).numpy().tolist() == [0, 0]
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoding.shape_of(tf.constant(file))

    def test_too_many_pixels_are_refused_before_decoding(self):
        file = bytearray(broken.encoded(broken.photo(30, 40), "PNG"))
        file[16:24] = (20_000).to_bytes(4, "big") * 2
        with pytest.raises(tf.errors.InvalidArgumentError, match="20000"):
            decoding.training_image(
                tf.constant(bytes(file)),
                32,
                crop_area_min=0.08,
                crop_padding=32,
                flip=True,
                seed=tf.constant([1, 2], tf.int64),
            )

    @pytest.mark.parametrize("name", ["bomb.png", "bomb.jpg"])
    def test_in_a_graph_they_take_no_memory(self, name):
        encoded = tf.constant(broken.bad()[name][0])  # 1.2 GB once decoded

        @tf.function(autograph=False)
        def make(encoded):
            return decoding.training_image(
                encoded,
                32,
                crop_area_min=0.08,
                crop_padding=32,
                flip=True,
                seed=tf.constant([1, 2], tf.int64),
            )

        def run():
            for _ in range(5):
                with pytest.raises(tf.errors.InvalidArgumentError):
                    make(encoded)

        assert memory.taken_by(run) < 290  # MiB

    def test_cmyk(self):
        image = broken.photo(90, 120)
        file = tf.constant(broken.encoded(image.convert("CMYK"), "JPEG", quality=95))
        assert np.abs(decoding.decode(file).numpy() - np.asarray(image, float)).mean() < 3
        part = decoding._decode_raw_window(file, tf.constant([10, 20, 30, 40]), 32, False)
        np.testing.assert_array_equal(part, decoding.decode(file)[10:40, 20:60])

    def test_first_frame_of_an_animation(self):
        frames = [broken.photo(40, 50, seed=seed) for seed in range(3)]
        file = broken.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
        first = np.asarray(PIL.Image.open(io.BytesIO(file)).convert("RGB"))
        np.testing.assert_array_equal(decoding.decode(tf.constant(file)), first)


class TestErasing:
    image = tf.constant(np.random.default_rng(0).integers(0, 120, (64, 80, 3)).astype("uint8"))

    def drawn(self, probability, count=200):
        seeds = tf.stack([tf.range(count, dtype=tf.int64)] * 2, 1)
        draw = tf.function(
            lambda: tf.map_fn(
                lambda seed: decoding.erase(self.image, probability, seed),
                seeds,
                fn_output_signature=tf.uint8,
            )
        )
        return draw().numpy()

    def test_paints_one_rectangle_of_the_papers_size(self):
        for image in self.drawn(1.0):
            grey = (image == decoding.ERASED).all(-1)
            rows, columns = np.flatnonzero(grey.any(1)), np.flatnonzero(grey.any(0))
            height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
            assert grey.sum() == height * width  # filled, and nothing else is grey
            assert 0.012 < grey.mean() < 0.43 and 0.2 < height / width < 5
            np.testing.assert_array_equal(image[~grey], self.image.numpy()[~grey])

    def test_probability_and_place(self):
        drawn = self.drawn(0.25, 400)
        painted = (drawn != self.image.numpy()).any((1, 2, 3))
        assert 0.17 < painted.mean() < 0.33
        covered = (self.drawn(1.0) == decoding.ERASED).all(-1).mean(0)
        assert (covered > 0).mean() > 0.95 and covered[32, 40] > covered[0, 0]  # wholly inside

    def test_same_seed_same_image(self):
        seed = tf.constant([3, 4], tf.int64)
        np.testing.assert_array_equal(
            decoding.erase(self.image, 1.0, seed), decoding.erase(self.image, 1.0, seed)
        )


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
        window = decoding.central_window(tf.constant([*shape, 3]), size, padding)
        assert tuple(window.numpy()) == expected

    def test_resize_is_tensorflow_1s_bicubic(self, photo):
        expected = tf.compat.v1.image.resize_bicubic(photo[tf.newaxis], (64, 64))[0]
        ours = decoding.resize(photo, 64)
        np.testing.assert_array_equal(ours, np.clip(np.round(expected), 0, 255).astype("uint8"))
        modern = tf.image.resize(photo, (64, 64), "bicubic")
        assert np.abs(np.asarray(ours, "float32") - modern).mean() > 1

    @pytest.mark.parametrize("encode", [tf.io.encode_jpeg, tf.io.encode_png])
    def test_training_crop_of_jpeg_and_png(self, photo, encode):
        encoded = encode(photo)
        decoded = decoding.decode(encoded)
        seed = tf.constant([3, 4], tf.int64)
        make = tf.function(
            lambda: decoding.training_image(
                encoded, 48, crop_area_min=0.08, crop_padding=32, flip=True, seed=seed
            )
        )
        image = make()
        assert image.shape == (48, 48, 3) and image.dtype == tf.uint8
        np.testing.assert_array_equal(image, make())
        # The fused decode gives the same pixels as decoding everything and cutting.
        png = decoding.training_image(
            tf.io.encode_png(decoded), 48, crop_area_min=0.08, crop_padding=32, flip=True, seed=seed
        )
        assert np.abs(np.asarray(image, "float32") - np.asarray(png, "float32")).mean() < 2

    def test_random_crops_have_the_papers_areas_and_shapes(self):
        shape = tf.constant([300, 400, 3])
        windows = np.array(
            [
                decoding._random_window(
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
            lambda number: decoding.training_image(
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
        train = decoding.training_image(
            encoded,
            64,
            crop_area_min=1.0,
            crop_padding=32,
            flip=False,
            seed=tf.constant([0, 0], tf.int64),
        )
        plain = decoding.to_bytes(decoding.evaluation_image(encoded, 64, 32))
        np.testing.assert_array_equal(train, plain)

    def test_half_of_the_images_are_mirrored(self, photo):
        encoded = tf.io.encode_png(photo)
        plain = decoding.to_bytes(decoding.evaluation_image(encoded, 32, 0)).numpy()
        flips = 0
        for number in range(60):
            image = decoding.training_image(
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
        assert decoding.evaluation_image(encoded, 32, 32).shape == (32, 32, 3)
        assert decoding.training_image(
            encoded, 32, crop_area_min=0.08, crop_padding=32, flip=True, seed=seed
        ).shape == (32, 32, 3)
