"""export/tflite/flatbuffer.py: what is inside a TFLite file, and how it is changed."""

import collections
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.export.tflite import flatbuffer, interpreter

SHAPE = (12, 10, 3)


def small_net():
    """Each kind of kernel once; one shared by two calls; a channel of zeros."""
    keras.utils.set_random_seed(0)
    images = keras.Input(SHAPE)
    x = keras.layers.Conv2D(16, 3, 2, "same", activation="relu6", name="full")(images / 255.0)
    x = keras.layers.DepthwiseConv2D(5, padding="same", activation="swish", name="depthwise")(x)
    shared = keras.layers.Conv2D(16, 1, name="shared")
    x = shared(shared(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(images, keras.layers.Dense(32, "softmax", name="dense")(x))
    kernel = model.get_layer("full").kernel
    kernel.assign(np.where(np.arange(16) == 3, 0, kernel.numpy()))
    return model


def converted(model, **settings):
    """The TFLite file of a Keras model, by TensorFlow's own converter."""
    module = tf.Module()
    module.variables_ = [variable.value for variable in model.variables]
    module.serve = tf.function(
        lambda images: {"scores": model(images, training=False)},
        [tf.TensorSpec((1, *model.input_shape[1:]), tf.float32, "images")],
    )
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved, {"serving_default": module.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        for name, value in settings.items():
            setattr(converter, name, value)
        return converter.convert()


@pytest.fixture(scope="module")
def model():
    return small_net()


@pytest.fixture(scope="module")
def data(model):
    return converted(model)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, *SHAPE)).astype("uint8")


def scores(data, images):
    return interpreter.Classifier(data)(images)[0]


def tensors(data):
    return {
        flatbuffer.name(tensor.name): tensor
        for tensor in flatbuffer.read(data).subgraphs[0].tensors
    }


def test_reading_and_writing_changes_nothing(data, images):
    again = flatbuffer.write(flatbuffer.read(data))
    np.testing.assert_array_equal(scores(again, images), scores(data, images))
    assert flatbuffer.write(flatbuffer.read(again)) == again


def test_contents_of_buffers_are_aligned(data):
    for changed in (flatbuffer.write(flatbuffer.read(data)), flatbuffer.weights8(data)):
        model = flatbuffer.schema.Model.GetRootAs(changed, 0)
        for number in range(model.BuffersLength()):
            table = model.Buffers(number)._tab
            slot = table.Offset(4)
            assert not slot or table.Vector(slot) % 16 == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"TFL3",
        lambda data: b"0123TFLX" + data[8:],
        lambda data: data[:60],
        lambda data: data[:4] + b"TFL3" + b"\xff" * 400,
    ],
)
def test_damaged_files_are_named(data, damage):
    with pytest.raises(InputError, match="not a TFLite file|damaged TFLite file"):
        flatbuffer.read(damage(data))


def test_operators_in_order(data):
    names = flatbuffer.operator_names(flatbuffer.read(data))
    assert names[-2:] == ["FULLY_CONNECTED", "SOFTMAX"]
    assert collections.Counter(names)["CONV_2D"] == 3
    assert "full" in flatbuffer.result_names(flatbuffer.read(data))[0]


def test_entries_are_put_and_replaced(data, images):
    model = flatbuffer.read(data)
    assert flatbuffer.get_entry(model, "MINE") is None
    for content in (b"one", "zwei ü".encode()):
        flatbuffer.put_entry(model, "MINE", content)
        changed = flatbuffer.write(model)
        assert flatbuffer.get_entry(flatbuffer.read(changed), "MINE") == content
    assert [flatbuffer.name(entry.name) for entry in flatbuffer.read(changed).metadata].count(
        "MINE"
    ) == 1
    np.testing.assert_array_equal(scores(changed, images), scores(data, images))


class TestOutputs:
    def test_any_tensor_can_be_read(self, model, data, images):
        graph = flatbuffer.read(data).subgraphs[0]
        number = int(graph.operators[0].outputs[0])
        found = interpreter.Classifier(data, [number])(images)[1]
        inner = keras.Model(model.input, model.get_layer("full").output)
        np.testing.assert_allclose(found, inner(images.astype("float32")), atol=1e-5)

    def test_the_logits_come_before_the_softmax(self, data, images):
        number = flatbuffer.logits(flatbuffer.read(data))
        found, logits = interpreter.Classifier(data, [number])(images)
        np.testing.assert_allclose(tf.nn.softmax(logits), found, rtol=1e-5)

    def test_without_a_softmax_they_are_the_output(self, model):
        bare = converted(keras.Model(model.input, model.layers[-2].output))
        assert (
            flatbuffer.logits(flatbuffer.read(bare))
            == flatbuffer.read(bare).subgraphs[0].outputs[0]
        )


class TestWeights8:
    def test_it_computes_what_rounded_weights_compute(self, model, data, images):
        rounded = keras.models.clone_model(model)
        for layer, copy in zip(model.layers, rounded.layers):
            weights = layer.get_weights()
            if weights and weights[0].size >= 256:
                axes = (2,) if "depthwise" in layer.name else (weights[0].ndim - 1,)
                scale, values = flatbuffer.quantize_weights(weights[0], axes[0])
                shape = [-1 if n in axes else 1 for n in range(weights[0].ndim)]
                weights[0] = values * scale.reshape(shape)
            copy.set_weights(weights)
        expected = rounded(images.astype("float32"))
        found = scores(flatbuffer.weights8(data), images)
        error = np.abs(found - expected).max()
        # TensorFlow has put 1 / 255 into the first kernel: a value or two round otherwise.
        assert error < 3e-6 and error < 0.3 * np.abs(found - scores(data, images)).max()

    def test_each_large_kernel_is_bytes_once(self, data):
        found = tensors(flatbuffer.weights8(data))
        small = [t for t in found.values() if flatbuffer.type_name(t) == "int8"]
        assert len(small) == 4  # full, depthwise, shared and dense
        for tensor in small:
            axis = tensor.quantization.quantizedDimension
            assert len(tensor.quantization.scale) == tensor.shape[axis]
        assert sum("_unpacked" in name for name in found) == 4
        assert len(flatbuffer.weights8(data)) < 0.7 * len(data)

    def test_producers_come_before_users_and_names_are_unique(self, data):
        graph = flatbuffer.read(flatbuffer.weights8(data)).subgraphs[0]
        names = [flatbuffer.name(tensor.name) for tensor in graph.tensors]
        assert len(set(names)) == len(names)
        made = {int(number) for op in graph.operators for number in op.outputs}
        done = set()
        for operator in graph.operators:
            assert not (made & set(map(int, operator.inputs))) - done
            done |= set(map(int, operator.outputs))

    def test_twice_is_once(self, data):
        once = flatbuffer.weights8(data)
        assert flatbuffer.weights8(once) == flatbuffer.write(flatbuffer.read(once))

    def test_rounding_is_that_of_tensorflow(self, model, data, images):
        stock = converted(
            model,
            optimizations=[tf.lite.Optimize.DEFAULT],
            representative_dataset=lambda: (
                [image[np.newaxis].astype("float32")] for image in images
            ),
        )
        theirs, ours = flatbuffer.read(stock), flatbuffer.read(flatbuffer.weights8(data))
        kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
        kernels = []
        for file in (theirs, ours):
            graph = file.subgraphs[0]
            found = [
                graph.tensors[int(op.inputs[1])]
                for op, kind in zip(graph.operators, flatbuffer.operator_names(file))
                if kind in kinds
            ]
            packed = {
                int(op.outputs[0]): graph.tensors[int(op.inputs[0])] for op in graph.operators
            }
            kernels.append(
                [
                    (
                        np.asarray(tensor.quantization.scale),
                        np.asarray(file.buffers[tensor.buffer].data, "uint8").view("int8"),
                    )
                    for tensor in (
                        t if flatbuffer.type_name(t) == "int8" else packed[graph.tensors.index(t)]
                        for t in found
                    )
                ]
            )
        assert len(kernels[0]) == len(kernels[1]) == 5
        for (scale, values), (our_scale, our_values) in zip(*kernels):
            used = np.abs(values).max() > 0
            assert used
            np.testing.assert_allclose(our_scale[our_scale != 1], scale[our_scale != 1], rtol=1e-6)
            assert np.abs(values.astype(int) - our_values).max() <= 1


def test_bytes_in_are_the_floats(data, images):
    changed = flatbuffer.with_uint8_input(data)
    run = interpreter.open_file(changed).get_signature_runner("serving_default")
    found = np.concatenate([run(images=image[np.newaxis])["scores"] for image in images])
    np.testing.assert_array_equal(found, scores(data, images))
    assert interpreter.delegation(changed)[1:] == (
        1,
        len(flatbuffer.operator_names(flatbuffer.read(changed))),
    )
