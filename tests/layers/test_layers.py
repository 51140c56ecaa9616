"""layers/: what each layer computes, beyond what the conformance table asks of all."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import layers
from effnet_tf.layers import mbconv

pytestmark = pytest.mark.processor


def run_replicas(count, function):
    """Returns what `function` gives on each of `count` replicas."""
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(count)])
    with strategy.scope():
        call = function()
    return strategy.experimental_local_results(tf.function(lambda: strategy.run(call))())


class TestDropConnect:
    def test_keeps_or_drops_whole_images_and_keeps_the_mean(self):
        layer = layers.DropConnect(0.25, seed=3)
        outputs = np.asarray(layer(tf.ones((4000, 2, 2, 3)), training=True))
        per_image = outputs.reshape(4000, -1)
        assert (per_image == per_image[:, :1]).all()
        np.testing.assert_allclose(np.unique(per_image), [0, 1 / 0.75], rtol=1e-6)
        assert outputs.mean() == pytest.approx(1, abs=0.03)

    def test_is_the_identity_at_inference_and_at_rate_0(self):
        inputs = tf.random.normal((3, 2, 2, 1))
        assert layers.DropConnect(0.9)(inputs, training=False) is inputs
        assert layers.DropConnect(0.0)(inputs, training=True) is inputs

    def test_masks_change_from_call_to_call_and_repeat_with_the_seed(self):
        def masks():
            layer = layers.DropConnect(0.5, seed=7)
            return [np.asarray(layer(tf.ones((64, 1)), training=True)) for _ in range(2)]

        first, again = masks(), masks()
        assert (first[0] != first[1]).any()
        np.testing.assert_array_equal(first, again)

    @pytest.mark.parametrize("rate", [-0.1, 1.0])
    def test_rate_out_of_range(self, rate):
        with pytest.raises(ValueError, match=r"rate in \[0, 1\)"):
            layers.DropConnect(rate)


@pytest.mark.parametrize("kind", [layers.DropConnect, layers.Dropout])
def test_replicas_draw_different_masks(kind):
    # Keras' own SeedGenerator gives every replica the same numbers.
    def function():
        layer = kind(0.5, seed=1)
        return lambda: layer(tf.ones((256, 1, 1, 1)), training=True)

    one, two = run_replicas(2, function)
    assert (one.numpy() != two.numpy()).mean() > 0.3


def test_dropout_is_keras_dropout():
    layer = layers.Dropout(0.2, seed=1)
    outputs = np.asarray(layer(tf.ones((100, 1000)), training=True))
    np.testing.assert_allclose(np.unique(outputs), [0, 1.25], rtol=1e-6)
    assert outputs.mean() == pytest.approx(1, abs=0.01)
    assert isinstance(layer, keras.layers.Dropout)


class TestNormalize:
    def test_takes_bytes_and_floats(self):
        layer = layers.Normalize([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
        pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3)).astype("uint8")
        expected = (pixels - np.array([123.675, 116.28, 103.53])) / [58.395, 57.12, 57.375]
        for dtype in ("uint8", "int32", "float32", "float16"):
            np.testing.assert_allclose(
                np.asarray(layer(pixels.astype(dtype))), expected, rtol=1e-5, atol=1e-6
            )

    def test_computes_in_float32_under_bfloat16(self):
        # 201 is no bfloat16 number: casting the pixels first would give 200 or 202.
        layer = layers.Normalize([200.0], [1.0], dtype="mixed_bfloat16")
        outputs = layer(tf.fill((1, 1, 1, 1), 201.0))
        assert outputs.dtype == tf.bfloat16 and float(outputs[0, 0, 0, 0]) == 1.0

    @pytest.mark.parametrize("mean, std", [([1.0], [1.0, 2.0]), ([1.0], [0.0])])
    def test_refuses_wrong_constants(self, mean, std):
        with pytest.raises(ValueError, match="mean and a non-zero std"):
            layers.Normalize(mean, std)

    def test_refuses_other_channels(self):
        with pytest.raises(ValueError, match="constants for 3 channels"):
            layers.Normalize([1.0] * 3, [1.0] * 3)(tf.zeros((1, 2, 2, 4)))


def test_squeeze_excite_mean_is_float32_under_float16():
    # The sum of 128 x 128 pixels of 100 overflows float16; the mean does not.
    layer = layers.SqueezeExcite(1, dtype="mixed_float16")
    outputs = np.asarray(layer(tf.fill((1, 128, 128, 2), tf.constant(100, tf.float16))))
    assert np.isfinite(outputs).all()


class TestMBConv:
    def test_without_expansion_has_no_expansion_weights(self):
        layer = mbconv.MBConv(16, 32)
        layer.build((None, None, None, 32))
        assert [w.path.split("/")[-2] for w in layer.trainable_weights] == [
            "dwconv",
            "bn",
            "bn",
            "project_conv",
            "project_bn",
            "project_bn",
        ]

    @pytest.mark.parametrize(
        "arguments, adds",
        [
            (dict(filters=8), True),
            (dict(filters=8, skip=False), False),
            (dict(filters=16), False),
            (dict(filters=8, strides=2), False),
        ],
    )
    @pytest.mark.parametrize("kind", [mbconv.MBConv, mbconv.FusedMBConv])
    def test_adds_its_input_where_it_may(self, kind, arguments, adds):
        layer = kind(expanded_filters=16, **arguments)
        inputs = tf.random.normal((1, 4, 4, 8))
        layer(inputs)
        # With a projection of 0 only the residual is left.
        layer.project_conv.kernel.assign(tf.zeros_like(layer.project_conv.kernel))
        outputs = np.asarray(layer(inputs))
        assert np.array_equal(outputs, inputs) if adds else not outputs.any()

    def test_drops_the_branch_not_the_residual(self):
        layer = mbconv.MBConv(8, 16, drop_connect_rate=0.999)
        inputs = tf.random.normal((64, 4, 4, 8))
        outputs = np.asarray(layer(inputs, training=True))
        unchanged = (outputs == np.asarray(inputs)).all(axis=(1, 2, 3))
        assert unchanged.mean() > 0.9

    def test_initialises_as_the_original(self):
        # FACTS.md 1.3: untruncated normal, sqrt(2 / k^2) for depthwise kernels.
        layer = mbconv.MBConv(512, 1024, kernel_size=3)
        layer.build((None, None, None, 128))
        depthwise = layer.dwconv.kernel.numpy()
        assert depthwise.std() == pytest.approx(np.sqrt(2 / 9), rel=0.03)
        assert np.abs(depthwise).max() > 2.5 * depthwise.std()  # a truncated one ends at 2.3
        assert layer.project_conv.kernel.numpy().std() == pytest.approx(np.sqrt(2 / 512), rel=0.02)

    def test_batch_norm_has_the_original_constants(self):
        layer = mbconv.MBConv(8, 16)
        layer.build((None, None, None, 8))
        assert {
            (bn.momentum, bn.epsilon) for bn in (layer.expand_bn, layer.bn, layer.project_bn)
        } == {(0.99, 1e-3)}

    def test_frozen_before_it_is_built(self):
        # As a block is that comes from a file: what it is made of must be frozen, too.
        layer = mbconv.MBConv(8, 16, se_filters=2, trainable=False)
        layer.build((None, None, None, 8))
        inputs = tf.random.normal((2, 4, 4, 8), mean=3.0)
        np.testing.assert_array_equal(layer(inputs, training=True), layer(inputs))
        assert not layer.bn.trainable and not layer.se.reduce.trainable

    @pytest.mark.parametrize("kind", [mbconv.MBConv, mbconv.FusedMBConv])
    def test_dilation_sees_every_other_pixel(self, kind):
        # On every second pixel a dilated block is the plain one on the smaller map.
        plain, dilated = kind(8, 16), kind(8, 16, dilation_rate=2)
        inputs = tf.random.normal((2, 9, 9, 8))
        plain(inputs), dilated(inputs)
        dilated.set_weights(plain.get_weights())
        np.testing.assert_allclose(
            dilated(inputs)[:, ::2, ::2], plain(inputs[:, ::2, ::2]), atol=1e-5
        )

    def test_an_unknown_batch_norm_mode(self):
        with pytest.raises(ValueError, match="batch_norm is 'off'; it must be one of 'trainable'"):
            mbconv.MBConv(8, 16, batch_norm="off")


class TestBatchNorm:
    INPUTS = np.random.default_rng(0).normal(5, 2, (4, 3, 3, 2)).astype("float32")

    @pytest.mark.parametrize("mode", ["inference", "frozen"])
    def test_uses_and_keeps_moving_statistics_in_training(self, mode):
        layer = layers.BatchNorm(mode)
        layer.build((None, 3, 3, 2))
        layer.moving_mean.assign([1.0, 2.0])
        outputs = layer(self.INPUTS, training=True)
        np.testing.assert_allclose(outputs, (self.INPUTS - [1, 2]) / np.sqrt(1 + 1e-3), rtol=1e-5)
        np.testing.assert_array_equal(layer.moving_mean, [1, 2])
        assert len(layer.trainable_weights) == (2 if mode == "inference" else 0)

    def test_trainable_is_keras_own(self):
        ours, theirs = layers.BatchNorm(), keras.layers.BatchNormalization()
        for training in (True, False):
            np.testing.assert_array_equal(
                ours(self.INPUTS, training=training), theirs(self.INPUTS, training=training)
            )

    def test_the_mode_can_change(self):
        layer = layers.BatchNorm("frozen")
        layer.build((None, 3, 3, 2))
        layer.trainable = True
        assert not layer.trainable_weights
        layer.mode = "trainable"
        layer.trainable = True
        assert len(layer.trainable_weights) == 2
        with pytest.raises(ValueError, match="must be one of"):
            layer.mode = "of course"


class TestPixelsThatAreScaledAlready:
    PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3))

    def model(self, nested=False, **options):
        inputs = keras.Input((32, 32, 3))
        network = layers.Normalize([123.0] * 3, [58.0] * 3)(inputs)
        network = keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(network))
        network = keras.Model(inputs, network)
        if nested:
            inputs = keras.Input((32, 32, 3))
            network = keras.Model(inputs, keras.layers.Dense(3)(network(inputs)))
        network.compile("sgd", "mse", **options)
        return network

    @pytest.mark.parametrize(
        "nested, use",
        [
            (False, lambda model, x: model.fit(x, np.zeros((4, 3)), verbose=0)),
            (
                True,
                lambda model, x: model.fit(
                    tf.data.Dataset.from_tensors((x, np.zeros((4, 3)))), verbose=0, shuffle=False
                ),
            ),
            (True, lambda model, x: model.predict(x, verbose=0)),
            (False, lambda model, x: model.evaluate(x, np.zeros((4, 3)), verbose=0)),
            (True, lambda model, x: model(x)),
        ],
    )
    def test_scaled_pixels_are_noticed_once(self, nested, use):
        model, scaled = self.model(nested), (self.PIXELS / 255).astype("float32")
        with pytest.warns(UserWarning, match=r"scaled to \[0, 1\], but this model takes pixels"):
            use(model, scaled)
        use(model, scaled)  # a second warning would be an error

    @pytest.mark.parametrize(
        "scale, offset, words",
        [(2 / 255, -1, r"scaled to \[-1, 1\]"), (1 / 58, -2.1, "normalised already")],
    )
    def test_other_scalings(self, scale, offset, words):
        with pytest.warns(UserWarning, match=words):
            self.model().predict((self.PIXELS * scale + offset).astype("float32"), verbose=0)

    @pytest.mark.parametrize(
        "pixels",
        [PIXELS.astype("uint8"), PIXELS.astype("float32"), np.zeros((4, 32, 32, 3), "float32")],
    )
    def test_pixels_as_they_should_be_pass(self, pixels):
        self.model().predict(pixels, verbose=0)
        self.model()(pixels)

    def test_nothing_of_it_is_exported_or_compiled_by_xla(self, tmp_path):
        model, scaled = self.model(jit_compile=True), (self.PIXELS / 255).astype("float32")
        model.predict(scaled, verbose=0)  # would fail on a call to Python
        model.export(tmp_path / "saved", verbose=False)
        operations = tf.saved_model.load(tmp_path / "saved").signatures["serving_default"].graph
        assert not [op for op in operations.get_operations() if "PyFunc" in op.type]

    def test_constants_are_saved_with_the_weights(self, tmp_path):
        one, other = self.model(), self.model()
        one.layers[1].mean, one.layers[1].std = [1.0, 2.0, 3.1], [4.0, 5.0, 6.7]
        one.save_weights(tmp_path / "a.weights.h5")
        other.load_weights(tmp_path / "a.weights.h5")
        assert (other.layers[1].mean, other.layers[1].std) == ([1.0, 2.0, 3.1], [4.0, 5.0, 6.7])


def test_layers_are_public():
    assert effnet_tf.MBConv is mbconv.MBConv
