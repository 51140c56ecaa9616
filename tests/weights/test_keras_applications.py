"""keras_application_names.py: networks of keras.applications, and ours with their weights."""

import dataclasses

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import variants
from effnet_tf.models import model_fn
from effnet_tf.weights import keras_application_names

A = keras.applications
THEIRS = {
    "mobilenet_v1": A.MobileNet,
    "mobilenet_v2": A.MobileNetV2,
    "mobilenet_v3_large": A.MobileNetV3Large,
    "mobilenet_v3_small": A.MobileNetV3Small,
    "resnet50": A.ResNet50,
}
# What is done to pixels outside of the network.
PREPROCESSING = {
    "mobilenet_v1": A.mobilenet.preprocess_input,
    "mobilenet_v2": A.mobilenet_v2.preprocess_input,
    "resnet50": A.resnet.preprocess_input,
}


def theirs(name, side, **options):
    """A network of keras.applications in which every variable says something."""
    model = THEIRS[name](
        weights=None, input_shape=(side, side, 3), classifier_activation=None, **options
    )
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(_value(weight, random).astype("float32"))
    return model


def _value(weight, random):
    shape = weight.shape
    if weight.name in ("gamma", "moving_variance"):
        return random.uniform(0.6, 1.4, shape)
    if weight.name in ("beta", "moving_mean", "bias"):
        return random.normal(0, 0.1, shape)
    if len(shape) == 4 and shape[-1] == 1:  # depthwise
        return random.normal(0, np.sqrt(2 / np.prod(shape[:2])), shape)
    return random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)


def pixels(side):
    return np.random.default_rng(side).integers(0, 256, (2, side, side, 3)).astype("float32")


def error(name, model, ours, side):
    """The largest difference of logits, in deviations of theirs."""
    images = pixels(side).astype(model.compute_dtype)
    prepared = PREPROCESSING.get(name, lambda each: each)(images.copy())
    expected = np.asarray(model(prepared, training=False))
    # The images are told apart: else equal logits would say little.
    assert np.std(expected[0] - expected[1]) > 0.01 * np.std(expected)
    return np.abs(np.asarray(ours(images, training=False)) - expected).max() / expected.std()


def ours(name, path, side, **options):
    return model_fn(
        name, weights=path, input_shape=(side, side, 3), classifier_activation=None, **options
    )


@pytest.mark.parametrize(
    "name, side",
    [("mobilenet_v1", 47), ("mobilenet_v2", 47), ("mobilenet_v3_small", 48), ("resnet50", 47)],
)
def test_ours_computes_what_theirs_does(name, side, tmp_path):
    path = str(tmp_path / "theirs.weights.h5")
    model = theirs(name, side, classes=10)
    model.save_weights(path)
    assert error(name, model, ours(name, path, side, num_classes=10), side) < 1e-5


@pytest.fixture
def in_double_precision():
    """Rounding to float32 alone moves logits of MobileNetV2 by 1.7e-5 with these weights."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.slow  # 10 s each
@pytest.mark.parametrize("side", [96, 97])
@pytest.mark.parametrize("name", THEIRS)
def test_both_forms_compute_what_theirs_does(name, side, in_double_precision, tmp_path):
    path = str(tmp_path / "theirs.h5")
    model = theirs(name, side)
    model.save(path)
    for flat in (False, True):
        assert error(name, model, ours(name, path, side, flat=flat), side) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["weights.h5", "h5", "keras"])
@pytest.mark.parametrize("name", ["mobilenet_v3_small", "resnet50"])
def test_every_kind_of_file_is_read(name, suffix, tmp_path):
    path = str(tmp_path / f"theirs.{suffix}")
    model = theirs(name, 64)
    (model.save_weights if suffix == "weights.h5" else model.save)(path)
    assert error(name, model, ours(name, path, 64), 64) < 1e-5


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name, number", [("mobilenet_v1", 2), ("resnet50", 1)])
def test_what_ours_saves_ours_loads(name, number, flat, tmp_path):
    """Padding and epsilon, which no other network has, are taken for no other family's."""
    row = variants.VARIANTS[name]
    small = dataclasses.replace(row, stages=row.stages[:number], width_coefficient=0.25)
    path = str(tmp_path / "ours.keras")
    images = pixels(33)
    made = model_fn(small, 3, input_shape=(33, 33, 3), flat=flat)
    made.save(path)
    again = model_fn(small, 3, input_shape=(33, 33, 3), weights=path)
    np.testing.assert_allclose(again(images), made(images), atol=1e-5)


class TestNames:
    @pytest.mark.parametrize(
        "path, block, inside",
        [
            ("conv_dw_3_bn/gamma", 2, "bn/gamma"),
            ("conv_pw_13/conv_pw_13/kernel:0", 12, "project_conv/kernel"),
            ("conv_dw_1/depthwise_kernel", 0, "dwconv/kernel"),
            ("net/expanded_conv_project_BN/beta", 0, "project_bn/beta"),
            ("block_16_expand_BN/moving_mean", 16, "expand_bn/moving_mean"),
            ("expanded_conv_3_squeeze_excite_conv_1/bias", 3, "se/expand/bias"),
            ("conv4_block6_0_bn/gamma", (3, 5), "shortcut_bn/gamma"),
            ("conv4_block6_2_conv/bias", (3, 5), "middle_conv/bias"),
            ("bn_Conv1/gamma", None, "stem_bn/gamma"),
            ("logits/kernel", None, "predictions/kernel"),
            ("predictions/kernel", None, "predictions/kernel"),
            ("my_layer/kernel", None, "my_layer/kernel"),
        ],
    )
    def test_are_understood(self, path, block, inside):
        found = keras_application_names.split([path, "conv_dw_1/kernel"])
        assert found[path] == (block, inside)

    def test_of_other_networks_are_left_alone(self):
        assert keras_application_names.split(["conv/kernel", "logits/kernel", "conv1/bias"]) is None
        assert keras_application_names.split(["block2a_expand_conv/kernel"]) is None


@pytest.mark.slow
def test_a_file_without_classifier_serves_another_number_of_classes(tmp_path):
    path = str(tmp_path / "no_top.weights.h5")
    model = A.MobileNetV3Small(weights=None, include_top=False, input_shape=(32, 32, 3))
    model.save_weights(path)
    with pytest.raises(effnet_tf.InputError, match="top_projection/kernel"):
        model_fn("mobilenet_v3_small", 3, weights=path, input_shape=(32, 32, 3))
    features = model_fn(
        "mobilenet_v3_small", include_top=False, weights=path, input_shape=(32, 32, 3)
    )
    assert features.output_shape == (None, 1, 1, 576)


def test_resnet_takes_pixels_in_the_order_of_rgb():
    kernel = np.zeros((7, 7, 3, 64), "float32")
    kernel[..., 0, :] = 1.0  # blue, there
    paths = ["conv1_conv/kernel", "conv2_block1_1_conv/kernel"]
    values = {paths[0]: kernel, paths[1]: np.zeros((1, 1, 64, 64), "float32")}
    turned = keras_application_names.ours(keras_application_names.split(paths), values)[paths[0]]
    assert turned[..., 2, :].all() and not turned[..., :2, :].any()
    assert variants.VARIANTS["resnet50"].mean == (123.68, 116.779, 103.939)
