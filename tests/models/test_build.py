"""build.py: sizes, channels, endpoints, and what fresh processes load."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import layers
from effnet_tf.models import build
from effnet_tf.models.short_names import short_names
from effnet_tf.weights import pixels
from tests.helpers import goldens
from tests.variants.test_network import fact

TINY = effnet_tf.CompoundScaling().variant(-8)


def counted(model):
    """The parameters of the network: its pixel constants are weights, but none of them."""
    return sum(int(np.prod(weight.shape)) for weight in pixels.network_weights(model))


@pytest.mark.parametrize(
    "name",
    [
        # test_goldens.py builds the others with the original's variables, all but l2 (gigabytes).
        "b0",
        "lite3",
        "edgetpu-m",
        pytest.param("l2", marks=pytest.mark.slow),
    ],
)
def test_the_built_network_has_the_counted_parameters(name):
    model = effnet_tf.model_fn(name, input_shape=(32, 32, 3))
    assert counted(model) == fact(name)["total"] == effnet_tf.cost(name).params
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == fact(name)["trainable"]


def test_a_scaled_variant_has_the_counted_parameters():
    for channels, phi in ((3, -8), (3, -2.5)):
        variant = effnet_tf.CompoundScaling().variant(phi)
        model = effnet_tf.model_fn(variant, 10, input_shape=(33, 64, channels))
        assert counted(model) == effnet_tf.cost(variant, num_classes=10).params


class TestSizes:
    @pytest.mark.parametrize("shape", [(32, 32, 3), (33, 47, 3), (None, None, 3), (None, 64, 3)])
    def test_any_size(self, shape):
        model = effnet_tf.model_fn(TINY, 5, input_shape=shape)
        height, width = (side or 45 for side in shape[:2])
        assert model(tf.zeros((2, height, width, 3))).shape == (2, 5)

    @pytest.mark.parametrize("channels", [1, 2, 4, 13])
    def test_any_channel_count_says_how_it_normalises(self, channels):
        with pytest.warns(UserWarning, match=f"each of the {channels} channels"):
            model = effnet_tf.model_fn(TINY, 5, input_shape=(32, 32, channels))
        assert model(tf.zeros((2, 32, 32, channels))).shape == (2, 5)
        mean, _ = pixels.constants_of(model)
        assert mean == pytest.approx([(123.675 + 116.28 + 103.53) / 3] * channels)

    def test_lite_constants_need_no_warning(self):
        lite = effnet_tf.CompoundScaling().variant(-8, base="lite0")
        model = effnet_tf.model_fn(lite, 5, input_shape=(32, 32, 1))
        assert pixels.constants_of(model) == ([127.0], [128.0])

    @pytest.mark.parametrize(
        "shape, message",
        [
            ((31, 64, 3), "at least 32"),
            ((64, 8, 3), "at least 32"),
            ((64, 64), "must be"),
            ((64, 64, None), "must be"),
            ((64, 64, 0), "must be"),
            ((3, 64, 64), r"channels first.*give \(64, 64, 3\) and transpose"),
            ((1, 224, 224), "channels first"),
            (32, r"is 32; it must be \(height, width, channels\), in whole pixels"),
            ((32.0, 32.0, 3), "in whole pixels"),
            ((-1, -1, 3), "at least 32"),
        ],
    )
    def test_impossible_inputs(self, shape, message):
        with pytest.raises(effnet_tf.InputError, match=message):
            effnet_tf.model_fn(TINY, input_shape=shape)

    def test_default_inputs_are_those_of_keras_applications(self):
        assert effnet_tf.model_fn("lite0").input_shape == (None, 224, 224, 3)
        assert effnet_tf.model_fn(TINY, include_top=False).input_shape == (None, None, None, 3)


@pytest.mark.parametrize(
    "pooling, shape", [(None, (None, 2, 3, None)), ("avg", (None, None)), ("max", (None, None))]
)
def test_without_top(pooling, shape):
    model = effnet_tf.model_fn(TINY, include_top=False, input_shape=(64, 96, 3), pooling=pooling)
    assert model.output_shape == (*shape[:-1], 600)


def test_input_tensor():
    images = keras.Input((64, 64, 3), name="photo")
    model = effnet_tf.model_fn(TINY, 4, input_tensor=keras.layers.Rescaling(255.0)(images))
    assert model.input is images and model.output_shape == (None, 4)
    with pytest.raises(effnet_tf.InputError, match="keras.Input"):
        effnet_tf.model_fn(TINY, input_tensor=np.zeros((1, 64, 64, 3)))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(num_classes=0), "num_classes"),
        (dict(num_classes=2.5), "num_classes is 2.5; it must be a whole number"),
        (dict(batch_norm_momentum=1), "batch_norm_momentum"),
        (dict(drop_connect_rate="a"), "drop_connect_rate is 'a'; it must be in"),
        (dict(dropout_rate=1.0), "dropout_rate"),
        (dict(drop_connect_rate=-1), "drop_connect_rate"),
        (dict(include_top=False, pooling="sum"), "pooling"),
        (dict(weights="imagenet"), "not one of the released variants"),
        (dict(weights="/no/file"), "no weights at"),
        (dict(preprocessing="caffe"), "must be True"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(effnet_tf.InputError, match=message):
        effnet_tf.model_fn(TINY, **arguments)


def test_shapes_of_numpy():
    model = effnet_tf.model_fn(TINY, 4, input_shape=np.array([32, 33, 3]))
    assert model.input_shape == (None, 32, 33, 3)


@pytest.mark.parametrize(
    "call",
    [lambda: effnet_tf.set_trainable(3), lambda: effnet_tf.load_weights("model", "weights.h5")],
)
def test_what_is_no_model(call):
    with pytest.raises(effnet_tf.InputError, match="A keras.Model belongs here, not"):
        call()


def test_unknown_variant():
    with pytest.raises(effnet_tf.InputError, match="Did you mean"):
        effnet_tf.model_fn("b10")


def test_drop_connect_and_dropout_rates_reach_the_layers():
    model = effnet_tf.model_fn(
        "b0", input_shape=(32, 32, 3), drop_connect_rate=0.4, dropout_rate=0.6
    )
    assert model.get_layer("block6d").drop_connect_rate == pytest.approx(0.4 * 14 / 16)
    assert model.get_layer("top_dropout").rate == 0.6


def test_numpy_counts_of_classes(tmp_path):
    model = effnet_tf.model_fn(TINY, np.int64(5), input_shape=(32, 32, 3))
    model.save(tmp_path / "m.keras")
    assert model.output_shape == (None, 5)


class TestBatchNormMomentum:
    def test_reaches_every_batch_norm(self):
        model = effnet_tf.model_fn(TINY, 4, input_shape=(32, 32, 3), batch_norm_momentum=0.9)
        assert {layer.momentum for layer in layers.batch_norms(model)} == {0.9}

    def test_is_saved_even_if_it_was_set_later(self, tmp_path):
        model = effnet_tf.model_fn(TINY, 4, input_shape=(32, 32, 3))
        assert {layer.momentum for layer in layers.batch_norms(model)} == {0.99}
        for layer in layers.batch_norms(model):
            layer.momentum = 0.8
        model.save(tmp_path / "m.keras")
        again = effnet_tf.load_model(tmp_path / "m.keras")
        assert {layer.momentum for layer in layers.batch_norms(again)} == {0.8}


def test_logits_without_activation():
    model = effnet_tf.model_fn(TINY, 4, classifier_activation=None, input_shape=(32, 32, 3))
    softmax = effnet_tf.model_fn(TINY, 4, input_shape=(32, 32, 3))
    softmax.set_weights(model.get_weights())
    images = tf.random.uniform((2, 32, 32, 3), maxval=255)
    np.testing.assert_allclose(tf.nn.softmax(model(images)), softmax(images), rtol=1e-5)


class TestFeatureExtractor:
    def test_endpoints_have_their_strides(self):
        model = effnet_tf.feature_extractor("b0", build.ENDPOINTS)
        outputs = model(tf.zeros((1, 97, 129, 3)))
        expected = {
            "stem": (49, 65, 32),
            "reduction_1": (49, 65, 16),
            "reduction_2": (25, 33, 24),
            "reduction_3": (13, 17, 40),
            "reduction_4": (7, 9, 112),
            "reduction_5": (4, 5, 320),
            "head": (4, 5, 1280),
        }
        assert {name: tuple(outputs[name].shape[1:]) for name in expected} == expected
        assert outputs["pooled_features"].shape == (1, 1280)
        assert outputs["logits"].shape == (1, 1000)

    def test_builds_only_what_is_asked(self):
        model = effnet_tf.feature_extractor("b0", ["reduction_2"])
        assert [layer.name for layer in model.layers][-1] == "block2b"

    def test_takes_a_single_name(self):
        model = effnet_tf.feature_extractor(TINY, "reduction_3")
        assert list(model.output) == ["reduction_3"]

    def test_endpoints_that_are_none(self):
        with pytest.raises(effnet_tf.InputError, match="endpoints is None; it must be a name"):
            effnet_tf.feature_extractor(TINY, None)

    @pytest.mark.parametrize("endpoints", [["reduction_6"], []])
    def test_unknown_endpoint(self, endpoints):
        with pytest.raises(effnet_tf.InputError, match="known: stem, reduction_1"):
            effnet_tf.feature_extractor("b0", endpoints)


class TestPyramid:
    """What detection and segmentation need."""

    def test_both_vocabularies(self):
        model = effnet_tf.feature_extractor("b0", ["P1", "P2", "P3", "P4", "P5", "reduction_3"])
        outputs = model(tf.zeros((1, 96, 64, 3)))
        assert {name: tuple(value.shape[1:]) for name, value in outputs.items()} == {
            "P1": (48, 32, 16),
            "P2": (24, 16, 24),
            "P3": (12, 8, 40),
            "P4": (6, 4, 112),
            "P5": (3, 2, 320),
            "reduction_3": (12, 8, 40),
        }

    @pytest.mark.parametrize(
        "output_stride, sides", [(32, (9, 5, 3)), (16, (9, 5, 5)), (8, (9, 9, 9))]
    )
    def test_output_stride(self, output_stride, sides):
        model = effnet_tf.feature_extractor(TINY, ["P3", "P4", "P5"], output_stride=output_stride)
        outputs = model(tf.zeros((1, 65, 65, 3)))
        assert tuple(outputs[name].shape[1] for name in ("P3", "P4", "P5")) == sides

    @pytest.mark.parametrize(
        "variant, output_stride",
        [
            ("lite0", 16),
            ("edgetpu-s", 8),
            pytest.param("lite0", 8, marks=pytest.mark.slow),
            pytest.param("edgetpu-s", 16, marks=pytest.mark.slow),
        ],
    )
    def test_a_dilated_network_samples_the_same_function(self, variant, output_stride):
        # Exactly so on 32 k + 1 pixels without squeeze-and-excite, whose mean has more pixels.
        plain = effnet_tf.feature_extractor(variant, ["P4", "P5"], input_shape=(65, 97, 3))
        dilated = effnet_tf.feature_extractor(
            variant, ["P4", "P5"], input_shape=(65, 97, 3), output_stride=output_stride
        )
        for weight, same in zip(dilated.weights, plain.weights, strict=True):
            assert weight.path == same.path or weight.path.startswith("normalize")
        dilated.set_weights(plain.get_weights())
        images = np.random.default_rng(0).integers(0, 256, (1, 65, 97, 3)).astype("uint8")
        expected, found = plain(images), dilated(images)
        for name, stride in (("P4", 16), ("P5", 32)):
            step = max(stride // output_stride, 1)
            values = np.asarray(expected[name])
            np.testing.assert_allclose(
                found[name][:, ::step, ::step], values, atol=1e-4 * values.std()
            )

    def test_another_output_stride(self):
        with pytest.raises(effnet_tf.InputError, match="output_stride is 4; it must be 8, 16 or"):
            effnet_tf.feature_extractor("b0", output_stride=4)

    def test_blocks_keep_their_skips(self):
        plain, dilated = effnet_tf.blocks("b0"), effnet_tf.blocks("b0", output_stride=8)
        assert [block.skip for block in plain] == [block.skip for block in dilated]
        assert [block.dilation_rate for block in dilated] == [1] * 6 + [2] * 6 + [4] * 4
        assert max(block.strides for block in dilated[6:]) == 1


def conv(x, filters, size=1, dilation=1):
    x = keras.layers.Conv2D(filters, size, padding="same", dilation_rate=dilation)(x)
    return keras.layers.Activation("relu")(x)


def fpn(inputs):
    """A feature pyramid network (arXiv 1612.03144) that says at stride 8 what is where."""
    features = effnet_tf.feature_extractor(TINY, ["P3", "P4", "P5"])(inputs)
    x = conv(features["P5"], 16)
    for name in ("P4", "P3"):
        x = keras.layers.UpSampling2D(2)(x) + conv(features[name], 16)
    x = keras.layers.Conv2D(2, 3, padding="same")(x)
    return keras.layers.UpSampling2D(8)(x)


def deeplab(inputs):
    """DeepLabV3+ (arXiv 1802.02611): atrous pyramid at stride 16, decoder at stride 4."""
    features = effnet_tf.feature_extractor(TINY, ["P2", "P5"], output_stride=16)(inputs)
    x = features["P5"]
    x = keras.layers.Concatenate()([conv(x, 16), *(conv(x, 16, 3, rate) for rate in (2, 4))])
    x = keras.layers.UpSampling2D(4, interpolation="bilinear")(conv(x, 16))
    x = keras.layers.Concatenate()([x, conv(features["P2"], 8)])
    x = keras.layers.Conv2D(2, 3, padding="same")(conv(x, 16, 3))
    return keras.layers.UpSampling2D(4, interpolation="bilinear")(x)


@pytest.mark.parametrize("head", [fpn, pytest.param(deeplab, marks=pytest.mark.slow)])
def test_a_segmentation_head_learns(head):
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    images = random.integers(0, 80, (8, 64, 96, 3)).astype("uint8")
    masks = np.zeros((8, 64, 96), "uint8")
    for image, mask in zip(images, masks):  # a bright square to be found
        top, left = random.integers(0, 32), random.integers(0, 64)
        image[top : top + 32, left : left + 32] += 150
        mask[top : top + 32, left : left + 32] = 1
    inputs = keras.Input((64, 96, 3))
    model = keras.Model(inputs, head(inputs))
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )  # XLA takes longer to compile it than to train
    losses = model.fit(images, masks, batch_size=4, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < 0.6 * losses[0]


def fresh(code):
    """Runs code in a new process that has imported nothing; returns the finished process."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=goldens.REFERENCE.parents[1],
    )


def test_a_fresh_process_loads_what_was_saved(tmp_path):
    model = effnet_tf.model_fn(TINY, 4, input_shape=(32, 32, 3))
    schedule = effnet_tf.WarmupStaircase(0.1, 0.9, 7.0, 3)
    model.compile(effnet_tf.RMSprop(schedule), "sparse_categorical_crossentropy")
    model.fit(np.zeros((4, 32, 32, 3), "uint8"), np.zeros(4), verbose=0)
    path = tmp_path / "m.keras"
    model.save(path)
    for load in (
        "import effnet_tf; effnet_tf.load_model",
        "import keras; from effnet_tf import EfficientNetB0; keras.saving.load_model",
    ):
        finished = fresh(f"{load}({str(path)!r}).optimizer.rho")
        assert finished.returncode == 0, finished.stderr[-2000:]


def test_maps_are_nhwc_whatever_keras_is_configured_to():
    keras.config.set_image_data_format("channels_first")
    try:
        model = effnet_tf.model_fn(TINY, 4, input_shape=(32, 64, 3))
    finally:
        keras.config.set_image_data_format("channels_last")
    assert model(tf.zeros((1, 32, 64, 3))).shape == (1, 4)


def test_another_keras_backend_is_a_sentence():
    finished = fresh(
        "import keras; keras.backend.backend = lambda: 'jax';import effnet_tf; effnet_tf.MBConv"
    )
    assert "needs Keras' TensorFlow backend" in finished.stderr


def test_networks_do_not_depend_on_weights(tmp_path):
    model = effnet_tf.model_fn(TINY, 4, input_shape=(32, 32, 3))
    model.save_weights(tmp_path / "a.weights.h5")
    again = effnet_tf.model_fn(
        TINY, 4, input_shape=(32, 32, 3), weights=str(tmp_path / "a.weights.h5")
    )
    one, other = (
        [layer for layer in each.layers if "norm" in layer.name] for each in (model, again)
    )
    assert [type(layer) for layer in one] == [type(layer) for layer in other]
    for layer, same in zip(one, other):  # the names are of Keras' own series
        assert {**layer.get_config(), "name": ""} == {**same.get_config(), "name": ""}
    images = tf.random.uniform((2, 32, 32, 3), maxval=255)
    np.testing.assert_array_equal(model(images), again(images))


def test_variables_share_tensorflows_kernels():
    """By short names in TensorFlow; Keras' paths are as long as ever, and tell them apart."""
    for flat in (False, True):
        model = effnet_tf.model_fn(TINY, 3, input_shape=(32, 32, 3), flat=flat)
        assert len({variable.value.name for variable in model.weights}) < 10
        assert len({variable.path for variable in model.weights}) == len(model.weights)


def test_variables_of_a_graph_stay_apart():
    with tf.Graph().as_default(), short_names(), tf.name_scope("a"):
        assert tf.Variable(1.0, name="kernel").name == "a/kernel:0"
