"""equalization.py: which channels are rescaled, that the function stays, what int8 gains."""

import functools
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import effnet_tf
from effnet_tf.export.folding import fold
from effnet_tf.export.tflite import equalization, linking

pytestmark = pytest.mark.processor

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 40, 36, 3)).astype("uint8")


def network(base, phi=-8):
    """A folded net of small stages whose batch norms have statistics; a new one each time."""
    return fold(folded(base, phi))  # of what is folded, a copy


@functools.cache
def folded(base, phi, seed=0):
    variant = effnet_tf.CompoundScaling().variant(phi, base=base)
    keras.utils.set_random_seed(seed)
    model = effnet_tf.model_fn(variant, 4, input_shape=(40, 36, 3), classifier_activation=None)
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.path.endswith(("gamma", "variance")):
            weight.assign(random.uniform(0.5, 2, weight.shape))
        elif weight.path.endswith("beta"):  # mostly positive: relu leaves all channels alive
            weight.assign(random.normal(1, 0.3, weight.shape))
    return fold(model)


def stress(model, seed=1, octaves=3, random=None):
    random = random or np.random.default_rng(seed)
    for link in linking.links(model):
        link.scale(2 ** random.uniform(-octaves, octaves, link.tensors[0].shape[-1]))


def names(model):
    return sorted(map(str, linking.links(model)))


# Of the logits' deviation: kernels of AVX2 and AVX-512 add in another order; 1.1e-5 was seen.
ROUNDING = 3e-5


def change(model, expected, images=IMAGES):
    """Largest difference from the logits `expected`, over their deviation."""
    return np.abs(run(model, images) - expected).max() / expected.std()


def run(model, images=IMAGES):
    """As model.predict, without compiling."""
    return keras.tree.map_structure(np.asarray, model(images.astype("float32"), training=False))


# --- which links there are -----------------------------------------------------------------


class TestLinks:
    LINEAR = [
        "block1a_project_conv -> block2a_expand_conv",
        "block2a_project_conv -> block3a_expand_conv",
        "block3a_project_conv -> block4a_expand_conv",
        "block4a_project_conv, block4b_project_conv -> block4b_expand_conv, block5a_expand_conv",
        "block5a_project_conv, block5b_project_conv -> block5b_expand_conv, block6a_expand_conv",
        "block6a_project_conv, block6b_project_conv -> block6b_expand_conv, block7a_expand_conv",
        "block7a_project_conv -> top_conv",
    ]

    @pytest.mark.parametrize("base", ["b0", "lite0"])
    def test_between_linear_layers_only(self, base):
        assert names(network(base, phi=-4)) == self.LINEAR

    def test_through_relu(self):
        found = names(network("edgetpu-s"))
        assert found == sorted(
            [
                "stem_conv -> block1a_expand_conv",
                *(f"block{n}a_expand_conv -> block{n}a_project_conv" for n in (1, 2, 3)),
                *(f"block{n}_expand_conv -> block{n}_dwconv" for n in ("4a", "4b", "5a", "6a")),
                *(f"block{n}_dwconv -> block{n}_project_conv" for n in ("4a", "4b", "5a", "6a")),
                *(f"block{n}a_project_conv -> block{n + 1}a_expand_conv" for n in (1, 2, 3, 5)),
                "block4a_project_conv, block4b_project_conv -> "
                "block4b_expand_conv, block5a_expand_conv",
                "block6a_project_conv -> top_conv",
                "top_conv -> predictions",
            ]
        )

    def test_maps_that_are_outputs_keep_their_scale(self):
        variant = effnet_tf.CompoundScaling().variant(-4)
        model = fold(
            effnet_tf.feature_extractor(variant, ["P2", "P4", "P5"], input_shape=(40, 36, 3))
        )
        assert names(model) == [self.LINEAR[0], *self.LINEAR[2:4], self.LINEAR[5]]

    def test_of_a_model_without_any(self):
        inputs = keras.Input((8, 8, 3))
        model = keras.Model(inputs, layers.Conv2D(4, 3, activation="swish")(inputs))
        assert linking.links(model) == []
        assert equalization.equalize(model, np.zeros((2, 8, 8, 3))) == []


def conv(name, **options):
    return layers.Conv2D(4, 3, padding="same", name=name, **options)


def user_model(body):
    """A model whose first and last layers are linear convolutions, with `body` between."""
    inputs = keras.Input((8, 8, 3))
    return keras.Model(inputs, conv("last")(body(conv("first")(inputs))))


shared = conv("shared")
BODIES = {
    "nothing": (lambda x: x, ["first -> last"]),
    "pooling": (lambda x: layers.MaxPooling2D()(layers.ZeroPadding2D(1)(x)), ["first -> last"]),
    "relu": (layers.ReLU(), ["first -> last"]),
    "relu6": (layers.ReLU(6.0), []),
    "threshold": (layers.ReLU(threshold=1.0), []),
    "swish": (layers.Activation("swish"), []),
    "a gate": (lambda x: layers.Multiply()([x, layers.Activation("sigmoid")(x)]), []),
    "concatenation": (lambda x: layers.Concatenate()([x, conv("b")(x)]), []),
    "an operation": (lambda x: x * 2.0, []),
    "a constant added": (lambda x: x + 1.0, []),
    "x + x": (lambda x: x + x, ["first -> last"]),
    "a sum": (lambda x: x + conv("b")(x), ["first, b -> b, last"]),
    "a broadcast sum": (lambda x: layers.Add()([x, layers.Conv2D(1, 1, name="b")(x)]), []),
    "groups": (conv("b", groups=2), []),
    "a layer called twice": (lambda x: shared(shared(x)), []),
    "an activation inside": (conv("b", activation="swish"), ["first -> b"]),
    "relu inside": (conv("b", activation="relu"), ["b -> last", "first -> b"]),
    "depthwise": (
        layers.DepthwiseConv2D(3, depth_multiplier=2, name="b"),
        ["b -> last", "first -> b"],
    ),
    "dense": (layers.Dense(5, use_bias=False, name="b"), ["b -> last", "first -> b"]),
    "a nested model": (
        lambda x: user_model(lambda x: x)(layers.Dense(3, name="b")(x)),
        ["first -> b"],
    ),
}


@pytest.mark.parametrize("body", BODIES)
def test_models_of_users(body):
    make, expected = BODIES[body]
    model = user_model(make)
    assert names(model) == expected
    images = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype("float32")
    before = run(model, images)
    stress(model)
    assert change(model, before, images) < 1e-5
    equalization.equalize(model, images)
    assert change(model, before, images) < 1e-5


def test_a_head_of_ones_own():
    base = effnet_tf.model_fn(
        effnet_tf.CompoundScaling().variant(-8), include_top=False, input_shape=(40, 36, 3)
    )
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 1, name="neck")(base.output))
    x = layers.Dense(5, "relu", name="hidden")(x)
    model = fold(keras.Model(base.input, layers.Dense(2, "softmax", name="classes")(x)))
    assert {"neck -> hidden", "hidden -> classes"} < set(names(model))
    before = run(model)
    equalization.equalize(model, IMAGES)
    assert change(model, before) < ROUNDING


# --- what equalising does ------------------------------------------------------------------


@pytest.mark.parametrize("base", ["b0", "lite0", "edgetpu-s"])
def test_the_function_stays_and_every_stress_is_undone(base):
    model = network(base)
    before, weights, links = run(model), model.get_weights(), linking.links(model)
    watched = keras.Model(model.input, [tensor for link in links for tensor in link.tensors])
    assert [link for link, _ in equalization.equalize(model, IMAGES)] == links and len(links) > 6
    equalised = run(watched)
    assert change(model, before) < ROUNDING
    model.set_weights(weights)
    stress(model, octaves=6)
    assert change(model, before) < ROUNDING
    equalization.equalize(model, IMAGES)
    assert change(model, before) < ROUNDING
    for ours, theirs in zip(run(watched), equalised):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_weights_come_out_the_same_however_they_were_stressed():
    found = []
    for seed in (1, 2):
        model = network("lite0")
        stress(model, seed)
        equalization.equalize(model, IMAGES)
        found.append(model.get_weights())
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(one).max())


def test_channels_come_out_with_one_range():
    model = network("lite0")
    stress(model)
    equalization.equalize(model, IMAGES)
    link = linking.links(model)[0]
    values = np.abs(run(keras.Model(model.input, link.tensors[0])))
    largest = values.max(axis=(0, 1, 2))
    assert largest.max() / largest.min() < 4
    again = equalization.equalize(model, IMAGES)
    for _, factors in again:
        np.testing.assert_allclose(factors, 1, rtol=1e-3)


@pytest.mark.parametrize("base", ["b0", "edgetpu-s"])
def test_dead_channels(base):
    model = network(base)
    links = linking.links(model)
    for number, link in enumerate(links):
        for layer in link.producers:
            if not linking.is_depthwise(layer):
                kernel, bias = layer.get_weights()
                kernel[..., 1], bias[1] = 0, 0
                layer.set_weights([kernel, bias])
        for layer in link.consumers[: number % 2]:
            kernel, bias = layer.get_weights()
            kernel[..., 1:3, :] = 0
            layer.set_weights([kernel, bias])
    before = run(model)
    stress(model)
    for _, factors in equalization.equalize(model, IMAGES):
        assert np.isfinite(factors).all() and factors.min() > 0
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert change(model, before) < ROUNDING


def test_weights_of_a_dead_channel_do_not_drown_the_others():
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, conv("last")(conv("first")(inputs)))
    first, last = model.layers[1:]
    first.set_weights([first.get_weights()[0] * [0, 1, 1, 1], np.zeros(4)])
    last.set_weights([last.get_weights()[0] * [[1000], [1], [1], [1]], np.zeros(4)])
    equalization.equalize(model, IMAGES[:, :8, :8])
    largest = np.abs(last.get_weights()[0]).max(axis=(0, 1, 3))
    assert 0 < largest[0] <= 1.001 * largest[1:].max()


def test_what_relu_hides_is_not_taken_for_small():
    inputs = keras.Input((8, 8, 3))
    x = layers.ReLU()(conv("first")(inputs))
    model = keras.Model(inputs, conv("last")(x))
    first = model.get_layer("first")
    # Two channels that differ by their bias alone: one lives, one never showed itself.
    kernel = first.get_weights()[0] * 0.01
    kernel[..., 1] = kernel[..., 0]
    first.set_weights([kernel, np.array([3, -3, 0, 0])])
    ((_, factors),) = equalization.equalize(model, IMAGES[:, :8, :8])
    assert 0.3 < factors[1] / factors[0] < 3


def test_progress_counts_images():
    calls = []
    equalization.equalize(network("b0"), IMAGES, lambda *done: calls.append(done))
    assert calls[-1] == (20, 20) and calls == sorted(calls)
    calls.clear()
    equalization.correct_biases(network("b0"), IMAGES, lambda *done: calls.append(done))
    assert calls[-1] == (20, 20)


# --- biases --------------------------------------------------------------------------------


def means_of(model, kernels):
    """The mean over images and places that each layer gives with `kernels` on float inputs."""
    chosen = [layer for layer in model.layers if layer.name in kernels]
    means = {}
    for layer, values in zip(chosen, run(keras.Model(model.input, [_.input for _ in chosen]))):
        kernel, bias = layer.get_weights()
        layer.set_weights([kernels[layer.name], bias])
        outputs = np.asarray(layer(values), "float64")
        layer.set_weights([kernel, bias])
        means[layer.name] = outputs.reshape(-1, outputs.shape[-1]).mean(axis=0)
    return means


def test_corrected_biases_keep_the_mean_of_each_channel():
    model = network("b0")
    kernels = {
        layer.name: layer.get_weights()[0]
        for layer in model.layers
        if isinstance(layer, linking._KERNELS)
    }
    int8 = {
        name: equalization.rounded(kernel, "dwconv" in name) for name, kernel in kernels.items()
    }
    exact, before = means_of(model, kernels), means_of(model, int8)
    biases = {layer.name: layer.get_weights()[1] for layer in model.layers if layer.name in kernels}
    corrections = equalization.correct_biases(model, IMAGES)
    assert corrections.keys() == kernels.keys()
    for name in kernels:
        error = np.abs(before[name] - exact[name]).max()
        left = np.abs(before[name] - corrections[name] - exact[name]).max()
        assert left <= 0.02 * error + 1e-6, name
        np.testing.assert_allclose(
            model.get_layer(name).get_weights()[1], biases[name] - corrections[name], atol=1e-6
        )


def test_biases_that_cannot_be_corrected_stay():
    layer = conv("shared")
    inputs = keras.Input((40, 36, 3))
    x = layers.Conv2D(4, 1, use_bias=False, name="plain")(inputs)
    model = keras.Model(inputs, layers.Dense(2, "softmax", name="classes")(layer(layer(x))))
    assert set(equalization.correct_biases(model, IMAGES)) == {"classes"}


# --- int8 ----------------------------------------------------------------------------------


class _Serving(tf.Module):
    def __init__(self, model):
        super().__init__()
        self.weights = [variable.value for variable in model.weights]
        spec = tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, name="images")
        self.serve = tf.function(lambda images: {"logits": model(images, training=False)}, [spec])


def int8_file(model):
    with tempfile.TemporaryDirectory() as folder:
        module = _Serving(model)
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.representative_dataset = lambda: (
            [image[np.newaxis].astype("float32")] for image in IMAGES
        )
        return converter.convert()


def open_file(content):
    with pytest.warns(UserWarning, match="deprecated"):
        return tf.lite.Interpreter(model_content=content)


def sqnr(model, expected):
    """Signal to noise of the logits of the model's int8 file, in dB."""
    runner = open_file(int8_file(model)).get_signature_runner()
    logits = np.stack(
        [runner(images=image[np.newaxis].astype("float32"))["logits"][0].copy() for image in IMAGES]
    )
    logits, expected = (x - x.mean(axis=-1, keepdims=True) for x in (logits, expected))
    return 10 * np.log10(np.square(expected).sum() / np.square(logits - expected).sum())


def test_int8_survives_a_stress():
    model = network("lite0")
    expected = run(model)
    stock = sqnr(model, expected)
    stress(model)
    stressed = sqnr(model, expected)
    equalization.equalize(model, IMAGES)
    ours = sqnr(model, expected)
    assert stressed < stock - 12
    assert ours > stock - 1.5


def test_weights_are_rounded_as_the_converter_does():
    inputs = keras.Input((8, 8, 3))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(conv("first")(inputs))
    model = keras.Model(inputs, layers.Conv2D(5, 1, name="last")(x))
    with tempfile.TemporaryDirectory() as folder:
        module = _Serving(model)
        tf.saved_model.save(module, folder, signatures={"serving_default": module.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [image[np.newaxis, :8, :8].astype("float32")] for image in IMAGES
        )
        interpreter = open_file(converter.convert())
    found = []
    for tensor in interpreter.get_tensor_details():
        scales = tensor["quantization_parameters"]["scales"]
        if tensor["dtype"] == np.int8 and len(scales) > 1:
            found.append(
                interpreter.get_tensor(tensor["index"]).astype("float32")
                * (
                    scales
                    if tensor["quantization_parameters"]["quantized_dimension"]
                    else scales[:, np.newaxis, np.newaxis, np.newaxis]
                )
            )
    ours = [
        np.moveaxis(equalization.rounded(model.get_layer(name).get_weights()[0]), -1, 0)
        for name in ("first", "last")
    ]
    kernel = model.get_layer("depthwise").get_weights()[0]
    ours.append(equalization.rounded(kernel, depthwise=True).reshape(1, 3, 3, 8))
    for kernel in ours:
        assert any(
            kernel.shape == other.shape and np.allclose(kernel, other, atol=1e-6) for other in found
        )
