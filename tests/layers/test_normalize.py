"""layers/normalize.py: pixels in, and a warning where they are none."""

import pickle
from copy import deepcopy

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers

pytestmark = pytest.mark.processor


class TestNormalize:
    def test_takes_bytes_and_floats(self):
        layer = layers.Normalize([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
        pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3)).astype("uint8")
        expected = (pixels - np.array([123.675, 116.28, 103.53])) / [58.395, 57.12, 57.375]
        for dtype in ("uint8", "int32", "float32", "float16"):
            np.testing.assert_allclose(
                np.asarray(layer(pixels.astype(dtype))), expected, rtol=1e-5, atol=1e-6
            )

    def test_runs_go_on_with_the_numbers_of_constants(self):
        """As TensorFlow computed them when they were no weights, to the bit."""
        mean, std = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
        layer = layers.Normalize(mean, std)
        pixels = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3)).astype("float32")
        found = tf.function(layer)(pixels)
        before = tf.function(lambda images: (images - mean) / std)(pixels)
        np.testing.assert_array_equal(found, before)

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


class TestConstants:
    """Weights that do not train, and that the configuration tells as they are."""

    @pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
    def test_are_float32_weights_that_do_not_train(self, policy):
        layer = layers.Normalize([123.675, 116.28], [58.395, 57.12], dtype=policy)
        assert layer.constants() == ([123.675, 116.28], [58.395, 57.12])
        layer(np.zeros((1, 2, 2, 2), "uint8"))
        assert [(w.name, w.dtype, tuple(w.shape)) for w in layer.weights] == [
            ("mean", "float32", (2,)),
            ("std", "float32", (2,)),
        ]
        assert not layer.trainable_weights
        assert layer.constants() == ([123.675, 116.28], [58.395, 57.12])

    def test_copies_have_those_of_now(self):
        layer = layers.Normalize([1.0], [2.0])
        layer.build((None, 4, 4, 1))
        layer.mean.assign([123.675])
        config = layer.get_config()
        assert (config["mean"], config["std"]) == ([123.675], [2.0])
        assert layers.Normalize.from_config(config).constants() == ([123.675], [2.0])

    def test_outputs_change_with_them_in_what_was_traced(self):
        layer = layers.Normalize([1.0], [2.0])
        traced = tf.function(layer)
        images = tf.fill((1, 2, 2, 1), 201.0)
        assert float(traced(images)[0, 0, 0, 0]) == 100.0
        layer.set_weights([np.float32([101]), np.float32([4])])
        assert float(traced(images)[0, 0, 0, 0]) == 25.0

    def test_a_file_of_other_channels_is_refused(self, tmp_path):
        models = []
        for channels in (3, 1):
            layer = layers.Normalize([1.0] * channels, [2.0] * channels)
            models.append(keras.Sequential([keras.Input((4, 4, channels)), layer]))
        models[0].save_weights(tmp_path / "a.weights.h5")
        with pytest.raises(ValueError, match="constants are for 3 channels, those of .* for 1"):
            models[1].load_weights(tmp_path / "a.weights.h5")

    def test_hidden_ones_are_no_weights_for_a_while(self):
        layer = layers.Normalize([1.0], [2.0])
        layer.build((None, 4, 4, 1))
        with layers.hidden_constants():
            assert layer.weights == layer.non_trainable_weights == []
        assert len(layer.weights) == 2


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
        one.layers[1].mean.assign([1.0, 2.0, 3.1])
        one.layers[1].std.assign([4.0, 5.0, 6.7])
        one.save_weights(tmp_path / "a.weights.h5")
        other.load_weights(tmp_path / "a.weights.h5")
        assert other.layers[1].constants() == ([1.0, 2.0, 3.1], [4.0, 5.0, 6.7])


class TestFollowWeights:
    """A stock Normalization with its weights instead of copies of them."""

    IMAGES = np.random.default_rng(0).uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    WEIGHTS = (np.float32([0.5, 0.4, 0.3]), np.float32([0.2, 0.1, 0.04]), np.int32(1))

    def model(self):
        inputs = keras.Input((4, 4, 3))
        layer = keras.layers.Normalization(dtype="float32", name="normalization")
        model = keras.Model(inputs, layer(keras.layers.Rescaling(1 / 255)(inputs)))
        layers.follow_weights(layer)
        return model

    def check(self, model):
        mean, variance, _ = self.WEIGHTS
        expected = (self.IMAGES / 255 - mean) / np.sqrt(variance)
        for outputs in (model(self.IMAGES), model.predict(self.IMAGES, verbose=0)):
            np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)

    def test_every_way_of_giving_weights_reaches_what_was_traced(self, tmp_path):
        source = self.model()
        source.set_weights(self.WEIGHTS)
        source.save_weights(tmp_path / "a.weights.h5")
        checkpoint = tf.train.Checkpoint(model=source).save(str(tmp_path / "a"))
        for give in (
            lambda model: model.set_weights(self.WEIGHTS),
            lambda model: model.load_weights(tmp_path / "a.weights.h5"),
            lambda model: tf.train.Checkpoint(model=model).restore(checkpoint).assert_consumed(),
        ):
            model = self.model()
            model.predict(self.IMAGES, verbose=0)
            give(model)
            self.check(model)

    @pytest.mark.parametrize("options", [{}, {"jit_compile": True}])
    def test_functions_of_ones_own_follow_too(self, options):
        model = self.model()
        traced = tf.function(lambda images: model(images), **options)
        before = traced(self.IMAGES)
        model.set_weights(self.WEIGHTS)
        np.testing.assert_allclose(traced(self.IMAGES), model(self.IMAGES), rtol=1e-5, atol=1e-5)
        assert np.abs(traced(self.IMAGES) - before).max() > 0.1

    def test_saved_copies_are_stock_layers(self, tmp_path):
        model = self.model()
        model.set_weights(self.WEIGHTS)
        model.save(tmp_path / "a.keras")
        for copy in (
            keras.saving.load_model(tmp_path / "a.keras"),
            pickle.loads(pickle.dumps(model)),
            deepcopy(model),
        ):
            assert type(copy.layers[-1]) is keras.layers.Normalization
            self.check(copy)
        assert [weight.path for weight in model.weights] == [
            f"normalization/{name}" for name in ("mean", "variance", "count")
        ]

    def test_adapting_still_works(self):
        model = self.model()
        model.layers[-1].adapt(np.float32([[[[1, 2, 3], [3, 4, 5]]]]))
        np.testing.assert_allclose(model.layers[-1].mean, [2, 3, 4])

    def test_refuses_layers_without_weights(self):
        with pytest.raises(ValueError, match="is not built"):
            layers.follow_weights(keras.layers.Normalization())
