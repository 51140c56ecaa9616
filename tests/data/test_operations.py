"""operations.py: what AutoAugment and RandAugment do to pixels, as the original code does it."""

import functools
import json
import math

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.data import compiling, operations, policies
from effnet_tf.data.operations import OPERATIONS
from effnet_tf.data.policies import POLICY_V0
from tests.helpers.goldens import REFERENCE

GOLDEN = json.loads((REFERENCE / "policies.json").read_text())
AT_TEN = {"aa": policies.AUTOAUGMENT, "ra": policies.RANDAUGMENT}
NAMES = list(OPERATIONS)
SIGNED = {name for name, (*_, kind) in OPERATIONS.items() if kind == "signed"}
DRAWS = 6000


def noise(height, width):
    """A (height, width, 3) uint8 image, its grey levels in [10, 240]."""
    return np.random.default_rng(0).integers(10, 241, (height, width, 3)).astype("uint8")


def operate(name, image, argument, style="original"):
    function, *_ = operations.STYLES[style][name]
    return function(tf.constant(image), argument).numpy()


@functools.cache
def traced(name, style="original"):
    """An operation in a graph, where XLA compiles it."""
    function, *_ = operations.STYLES[style][name]
    return tf.function(function, autograph=False)


def operate_traced(name, image, argument, style="original"):
    return traced(name, style)(tf.constant(image), tf.constant(argument, tf.float32)).numpy()


HOWS = pytest.mark.parametrize("how", [operate, operate_traced])


@pytest.fixture(scope="module")
def pixels():
    """The image of the goldens and the original's outputs for it."""
    with np.load(REFERENCE / "policies.npz") as file:
        return dict(file)


class TestOriginal:
    @HOWS
    @pytest.mark.parametrize("key", GOLDEN["outputs"])
    def test_operations_give_its_pixels(self, key, how, pixels):
        policy, name, level, sign = key.split("_")
        argument = policies.argument_of(name, float(level), AT_TEN[policy])
        ours = how(name, pixels["image"], argument if sign == "p" else -argument)
        assert ours.dtype == np.uint8 and ours.shape == pixels["image"].shape
        golden = GOLDEN["outputs"][key]
        some = ours[pixels["rows"]][:, pixels["columns"]].astype(int)
        # Equal where this was written; other processors may round another way.
        assert np.abs(some - pixels["outputs"][golden["output"]]).max() <= 1
        sums = ours.sum((0, 1), dtype=int)
        assert np.abs(sums - golden["sums"]).max() <= 0.002 * ours[..., 0].size

    # The transform of Rotate is computed outside of XLA, and there as elsewhere.
    @pytest.mark.parametrize("name", [name for name in NAMES if name not in ("Cutout", "Rotate")])
    def test_compiling_changes_no_pixel(self, name):
        image = np.random.default_rng(1).integers(0, 256, (96, 80, 3)).astype("uint8")
        for level in (1, 3, 6, 7.7, 9):
            argument = np.float32(policies.argument_of(name, level, policies.RANDAUGMENT))
            assert (
                operate(name, image, argument) == operate_traced(name, image, argument)
            ).all(), level

    def test_operations_get_its_arguments(self):
        ours = {}
        for key in GOLDEN["arguments"]:
            policy, name, level, sign = key.split("_")
            argument = policies.argument_of(name, float(level), AT_TEN[policy])
            ours[key] = argument if sign == "p" else -argument
        assert ours == GOLDEN["arguments"]
        assert {key.split("_")[1] for key in ours} == set(OPERATIONS) - {"Cutout"}

    def test_negative_arguments_are_those_of_the_signed(self):
        assert {key.split("_")[1] for key in GOLDEN["arguments"] if key.endswith("n")} == SIGNED

    def test_the_policy_is_its(self):
        assert [[list(step) for step in row] for row in POLICY_V0] == GOLDEN["policy_v0"]


class TestQuirks:
    @pytest.mark.parametrize("side, grey", [(32, 4), (224, 196), (256, 255), (600, 255)])
    def test_contrast_blends_with_the_number_of_pixels(self, side, grey):
        assert (operate("Contrast", noise(side, side), 0.0) == grey).all()

    @pytest.mark.parametrize("bits, kept", [(0, 1), (1, 1), (4, 4), (8, 8), (9, 1), (11, 1)])
    def test_posterize_keeps_bits(self, bits, kept):
        image = noise(8, 8)
        expected = image >> (8 - kept) << (8 - kept)
        assert (operate("Posterize", image, float(bits)) == expected).all()

    @pytest.mark.parametrize(
        "threshold, wrapped", [(0, 0), (128, 128), (256, 0), (435, 179), (716, 204)]
    )
    def test_solarize_wraps(self, threshold, wrapped):
        image = noise(16, 16)
        expected = np.where(image < wrapped, image, 255 - image)
        assert (operate("Solarize", image, float(threshold)) == expected).all()

    @pytest.mark.parametrize("addition", [0, 110, 255, 308])
    def test_solarize_add_does_not_wrap(self, addition):
        image = noise(16, 16)
        expected = np.where(image < 128, np.minimum(image.astype(int) + addition, 255), image)
        assert (operate("SolarizeAdd", image, float(addition)) == expected).all()

    @pytest.mark.parametrize("name", ["AutoContrast", "Equalize"])
    def test_a_plain_image_stays(self, name):
        image = np.full((40, 40, 3), (0, 77, 255), "uint8")
        assert (operate(name, image, 0.0) == image).all()

    def test_equalize_leaves_small_images_alone(self):
        assert (operate("Equalize", noise(8, 8), 0.0) == noise(8, 8)).all()

    @pytest.mark.parametrize("name", ["TranslateX", "TranslateY"])
    @pytest.mark.parametrize("pixels", [-400, -224, 224, 225, 400])
    def test_translation_may_leave_nothing(self, name, pixels):
        assert (operate(name, noise(224, 224), float(pixels)) == operations.FILL).all()

    @pytest.mark.parametrize(
        "name, argument",
        [
            ("Rotate", 0.0),
            ("ShearX", 0.0),
            ("ShearY", 0.0),
            ("TranslateX", 0.0),
            ("TranslateY", 0.0),
            ("Color", 1.0),
            ("Contrast", 1.0),
            ("Brightness", 1.0),
            ("Sharpness", 1.0),
        ],
    )
    def test_neutral_arguments_change_nothing(self, name, argument):
        assert (operate(name, noise(33, 47), argument) == noise(33, 47)).all()

    def test_sharpness_leaves_the_border_alone(self):
        image = noise(33, 47)
        changed = operate("Sharpness", image, 0.0) != image
        assert changed[1:-1, 1:-1].mean() > 0.9
        changed[1:-1, 1:-1] = False
        assert not changed.any()


class TestCutout:
    SIDES, HALF = (40, 80), 10

    @pytest.fixture(scope="class")
    def holes(self):
        """For 2,000 places: which pixels of a white image were cut, (2000, 40, 80)."""
        white = tf.fill((*self.SIDES, 3), tf.constant(255, tf.uint8))
        places = tf.random.stateless_uniform((2000, 2), (0, 5))
        cut = (
            tf.data.Dataset.from_tensor_slices(places)
            .map(lambda place: operations.cutout(white, 10.0, place[0], place[1]))
            .batch(2000)
        )
        images = next(cut.as_numpy_iterator())
        assert set(np.unique(images)) == {operations.FILL, 255}
        assert (images == images[..., :1]).all()
        return images[..., 0] == operations.FILL

    def test_is_a_square_that_the_border_cuts(self, holes):
        rows, columns = holes.any(2), holes.any(1)
        assert (holes == rows[:, :, np.newaxis] & columns[:, np.newaxis]).all()
        for lines in (rows, columns):
            first, last = lines.argmax(1), lines.shape[1] - lines[:, ::-1].argmax(1)
            inner = (first > 0) & (last < lines.shape[1])
            assert (lines.sum(1) == last - first).all()
            assert (lines.sum(1)[inner] == 2 * self.HALF).all()
            # The smallest: around the first or the last pixel.
            assert lines.sum(1).min() == self.HALF

    def test_is_anywhere(self, holes):
        # A pixel is cut by the centres within reach: all of them are equally probable.
        for lines in (holes.any(2), holes.any(1)):
            side = lines.shape[1]
            place = np.arange(side)
            centres = (
                np.minimum(place + self.HALF, side - 1) - np.maximum(place - self.HALF + 1, 0) + 1
            )
            assert np.abs(lines.mean(0) - centres / side).max() < 0.05

    def test_row_and_column_are_independent(self, holes):
        centres = [lines.argmax(1) + lines.sum(1) for lines in (holes.any(2), holes.any(1))]
        assert abs(np.corrcoef(centres)[0, 1]) < 0.1

    def test_may_be_nothing_or_everything(self):
        image = noise(9, 7)
        assert (operations.cutout(image, 0.0, 0.3, 0.7).numpy() == image).all()
        assert (operations.cutout(image, 40.0, 0.3, 0.7).numpy() == operations.FILL).all()


@pytest.fixture
def trial_fails(monkeypatch):
    """A host that cannot compile, as those with tensorflow-tpu."""

    def fail(_):
        raise tf.errors.NotFoundError(None, None, "no transfer manager for platform Host")

    monkeypatch.setattr(compiling, "_trial", fail)
    compiling._compiles.cache_clear()
    yield
    compiling._compiles.cache_clear()


def test_hosts_that_cannot_compile_give_the_same_pixels(trial_fails, capsys):
    image = np.random.default_rng(1).integers(0, 256, (96, 80, 3)).astype("uint8")
    for name in ("AutoContrast", "SolarizeAdd", "Color", "Sharpness"):
        function, *_ = OPERATIONS[name]
        argument = policies.argument_of(name, 9, policies.RANDAUGMENT)
        plain = tf.function(function, autograph=False)
        ours = plain(tf.constant(image), tf.constant(argument, tf.float32)).numpy()
        assert not any(
            node.attr["_XlaMustCompile"].b
            for node in plain.get_concrete_function(
                tf.TensorSpec(image.shape, tf.uint8), tf.TensorSpec(())
            )
            .graph.as_graph_def()
            .node
        )
        assert (ours == operate(name, image, np.float32(argument))).all()
    assert capsys.readouterr().out.count("This TensorFlow cannot compile for the CPU") == 1


def test_this_host_compiles():
    assert compiling._compiles()


@functools.cache
def a_photo():
    """A (64, 80, 3) uint8 image: smooth, as photos are, with all grey levels."""
    walk = np.random.default_rng(4).normal(size=(64, 80, 3)).cumsum(0).cumsum(1)
    low, high = walk.min((0, 1)), walk.max((0, 1))
    return ((walk - low) / (high - low) * 255).round().astype("uint8")


@pytest.fixture
def photo():
    return a_photo()


class TestClean:
    LEVELED = [name for name, (*_, kind) in operations.CLEAN.items() if kind != "none"]

    @staticmethod
    def distort(name, image, level, sign=1):
        argument = sign * policies.argument_of(name, level, policies.RANDAUGMENT, operations.CLEAN)
        function = operations.CLEAN[name][0]
        place = (0.5, 0.5) if name == "Cutout" else ()
        return function(tf.constant(image), argument, *place).numpy()

    def strengths(self, name, image, sign):
        return [
            np.abs(self.distort(name, image, level, sign).astype(int) - image).mean()
            for level in range(31)
        ]

    @pytest.mark.parametrize("name", LEVELED)
    @pytest.mark.parametrize("sign", [1, -1])
    def test_strength_grows_with_the_level(self, name, sign, photo):
        if sign < 0 and operations.CLEAN[name][2] != "signed":
            return
        # What is left of a photo may differ more from its place than grey does.
        image = np.full_like(photo, 255) if name.startswith("Translate") else photo
        strengths = self.strengths(name, image, sign)
        assert strengths[0] == 0 < strengths[5] < strengths[10] <= strengths[30]
        # Moved far, an image may happen to look more like itself.
        tolerance = 0.05 if name in ("Rotate", "ShearX", "ShearY") else 0.0
        for weaker, stronger in zip(strengths, strengths[1:]):
            assert stronger >= (1 - tolerance) * weaker, strengths

    def test_names_are_those_of_the_original(self):
        assert list(operations.CLEAN) == NAMES
        for name in ("AutoContrast", "Equalize", "Invert", "SolarizeAdd"):
            assert operations.CLEAN[name] is OPERATIONS[name]

    @pytest.mark.parametrize("level, kept", [(0, 8), (5, 6), (10, 4), (17.5, 1), (30, 1)])
    def test_posterize_keeps_fewer_bits(self, level, kept):
        expected = noise(8, 8) >> (8 - kept) << (8 - kept)
        assert (self.distort("Posterize", noise(8, 8), level) == expected).all()

    @pytest.mark.parametrize("level, threshold", [(0, 256), (5, 128), (10, 0), (17, 0), (30, 0)])
    def test_solarize_does_not_wrap(self, level, threshold):
        image = np.arange(256).repeat(3).reshape(16, 16, 3).astype("uint8")
        expected = np.where(image < threshold, image, 255 - image)
        assert (self.distort("Solarize", image, level) == expected).all()

    def test_contrast_blends_with_the_mean_of_pil(self, photo):
        image_module = pytest.importorskip("PIL.Image")
        enhance = pytest.importorskip("PIL.ImageEnhance")
        for image in (photo, photo // 3, 255 - photo // 2):
            for level, sign in ((3, 1), (10, 1), (10, -1), (12, -1)):
                factor = max(1 + sign * 0.09 * level, 0)
                pil = enhance.Contrast(image_module.fromarray(image)).enhance(factor)
                difference = self.distort("Contrast", image, level, sign) - np.int32(pil)
                assert np.abs(difference).max() <= 1
        dark, bright = (
            self.distort("Contrast", np.full((8, 8, 3), grey, "uint8"), 10, -1)
            for grey in (40, 200)
        )
        assert (dark == 40).all() and (bright == 200).all()

    @pytest.mark.parametrize("side", [32, 112])
    def test_lengths_follow_the_side(self, side):
        image = np.zeros((side, 2 * side, 3), "uint8")
        grey = self.distort("TranslateX", image, 10)[0, :, 0] == operations.FILL
        assert grey.sum() == math.floor(2 * side * 100 / 224 + 0.5)
        grey = self.distort("TranslateY", image, 10, -1)[:, 0, 0] == operations.FILL
        assert grey.sum() == math.floor(side * 100 / 224 + 0.5)
        grey = self.distort("Cutout", image, 10)[..., 0] == operations.FILL
        assert grey.sum() == (2 * math.floor(side * 40 / 224)) ** 2
