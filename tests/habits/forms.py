"""Into which files, copies and processes do people bring a model, and is it the same there?"""

import copy
import os
import pickle
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.habits import fresh, networks
from tests.habits.facts import (
    IMAGES,
    LABELS,
    attempt,
    count,
    history,
    moved,
    norm,
    outcome,
    trainable,
    values,
)

SHAPE = (32, 32, 3)


def _model(EfficientNet, **arguments):
    return EfficientNet(weights=None, input_shape=SHAPE, **arguments)


def _nested(EfficientNet):
    inputs = keras.Input(SHAPE)
    x = EfficientNet(include_top=False, weights=None, input_shape=SHAPE, pooling="avg")(inputs)
    return keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="ones")(x))


def _answers(*models):
    return [model.predict(IMAGES, verbose=0) for model in models]


def a_keras_file(EfficientNet):
    """model.save("model.keras") of a trained model, which goes on training where it was."""
    model = _model(EfficientNet)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(IMAGES, LABELS, verbose=0)
    model.save("model.keras")
    again = keras.saving.load_model("model.keras")
    found = _answers(model, again)
    return found, history(again.fit(IMAGES, LABELS, verbose=0)), again.name


def an_h5_file(EfficientNet):
    """The old format."""
    model = _model(EfficientNet)
    model.save("model.h5")
    again = keras.models.load_model("model.h5", compile=False)
    return _answers(model, again), [layer.name for layer in again.layers]


def weights_files(EfficientNet):
    """save_weights and load_weights, after a predict, so that its function is traced already."""
    model, found = _model(EfficientNet), []
    for suffix in (".weights.h5", ".h5"):
        again = _model(EfficientNet)
        for weight in again.trainable_weights:
            weight.assign(0 * weight)
        again.predict(IMAGES, verbose=0)
        if suffix == ".h5":
            keras.src.legacy.saving.legacy_h5_format.save_model_to_hdf5(model, "w.h5")
        else:
            model.save_weights("w" + suffix)
        again.load_weights("w" + suffix)
        found.append(_answers(model, again))
    return found


def weights_by_argument(EfficientNet):
    """weights="<file>", as for weights that somebody else has trained."""
    model = _model(EfficientNet)
    for weight in model.trainable_weights:
        weight.assign(weight * 1.1)
    model.save_weights("mine.weights.h5")
    again = EfficientNet(weights="mine.weights.h5", input_shape=SHAPE)
    return _answers(model, again)


def json_and_weights(EfficientNet):
    """The architecture in one file, the weights in another."""
    model = _model(EfficientNet)
    again = keras.models.model_from_json(model.to_json())
    again.set_weights(model.get_weights())
    return _answers(model, again), [layer.name for layer in again.layers]


def from_its_config(EfficientNet):
    """Model.from_config(model.get_config())."""
    model = _nested(EfficientNet)
    again = keras.Model.from_config(model.get_config())
    again.set_weights(model.get_weights())
    return _answers(model, again), trainable(again)


def a_pickle(EfficientNet):
    """pickle, as joblib and scikit-learn's wrappers use it."""
    model = _nested(EfficientNet)
    again = pickle.loads(pickle.dumps(model))
    return _answers(model, again), type(again).__name__


def a_deep_copy(EfficientNet):
    """copy.deepcopy, to keep the best model."""
    model = _model(EfficientNet)
    again = copy.deepcopy(model)
    before = values(again)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(IMAGES, LABELS, verbose=0)
    return moved(again, before), _answers(model, again)


def a_clone(EfficientNet):
    """clone_model, for a target network."""
    model = _model(EfficientNet)
    again = keras.models.clone_model(model)
    again.set_weights(model.get_weights())
    return _answers(model, again), [weight.path for weight in again.weights]


def a_clone_with_another_regulariser(EfficientNet):
    """clone_model with a clone_function that changes every convolution."""

    def regularised(layer):
        config = layer.get_config()
        for key in ("kernel_regularizer", "depthwise_regularizer"):
            if key in config:
                config[key] = keras.regularizers.L2(1e-4)
        return type(layer).from_config(config)

    model = _model(EfficientNet)
    again = keras.models.clone_model(model, clone_function=regularised)
    again.set_weights(model.get_weights())
    return len(again.losses), float(sum(again.losses)), _answers(again)


def a_clone_on_another_input(EfficientNet):
    """clone_model with input_tensors."""
    model = _model(EfficientNet)
    again = keras.models.clone_model(model, input_tensors=keras.Input(SHAPE, name="mine"))
    again.set_weights(model.get_weights())
    return again.input.name, _answers(model, again)


def a_checkpoint_of_tensorflow(EfficientNet):
    """tf.train.Checkpoint with its manager."""
    model = _model(EfficientNet)
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(model=model), "ck", max_to_keep=1)
    path = manager.save()
    again = _model(EfficientNet)
    for weight in again.weights:
        if "float" in weight.dtype:
            weight.assign(weight * 0 + 1)
    again.predict(IMAGES, verbose=0)
    tf.train.Checkpoint(model=again).restore(path).assert_existing_objects_matched()
    return _answers(model, again)


def in_a_process_without_us(EfficientNet):
    """Each kind of file, opened by a spawned worker that has Keras only."""
    model, found = _model(EfficientNet), {}
    model.save("model.h5")
    _nested(EfficientNet).save("nested.keras")
    with open("model.json", "w") as file:
        file.write(model.to_json())
    model.save_weights("model.weights.h5")
    with open("model.pickle", "wb") as file:
        pickle.dump(model, file)
    for name in ("model.h5", "nested.keras", "model.json", "model.pickle"):
        found[name] = fresh.answer(os.path.abspath(name), IMAGES)
    return found, _answers(model)


def _by_name(source, target):
    for layer in target.layers:
        if layer.trainable_weights:
            layer.set_weights(source.get_layer(layer.name).get_weights())


def names_carry_weights(EfficientNet):
    """Layer by layer, from and to keras.applications' own."""
    theirs = networks.constructor("theirs", EfficientNet.family)(weights=None, input_shape=SHAPE)
    for weight in theirs.trainable_weights:
        weight.assign(weight * 1.1)
    model = _model(EfficientNet)
    _by_name(theirs, model)
    there = _answers(model)
    for weight in model.trainable_weights:
        weight.assign(weight * 0.9)
    _by_name(model, theirs)
    return there, _answers(theirs)


def files_carry_weights(EfficientNet):
    """Weights files, from and to keras.applications' own, whole and by name."""
    theirs, model = (
        networks.constructor("theirs", EfficientNet.family)(weights=None, input_shape=SHAPE),
        _model(EfficientNet),
    )
    for number, weight in enumerate(theirs.trainable_weights):
        weight.assign(weight * (1 + 0.01 * number))
    theirs.save_weights("theirs.weights.h5")
    model.load_weights("theirs.weights.h5")
    found = _answers(theirs, model)
    theirs.save("theirs.h5")
    model = _model(EfficientNet, classes=7)
    model.load_weights("theirs.h5", by_name=True, skip_mismatch=True)
    found += _answers(model)
    model.save_weights("ours.weights.h5")
    theirs = networks.constructor("theirs", EfficientNet.family)(
        weights=None, input_shape=SHAPE, classes=7
    )
    theirs.load_weights("ours.weights.h5")
    return found + _answers(theirs)


def weights_of_other_channels(EfficientNet):
    """load_weights(skip_mismatch=True) from RGB to one and four channels."""
    _model(EfficientNet).save_weights("rgb.weights.h5")
    found = {}
    for channels in (1, 4):
        model = EfficientNet(weights=None, input_shape=(32, 32, channels))
        before = values(model)
        model.load_weights("rgb.weights.h5", skip_mismatch=True)
        found[channels] = moved(model, before), model.predict(IMAGES[..., :1] + np.zeros(channels))
    return found


def a_saved_model(EfficientNet):
    """model.export of a nested model, which TFSMLayer brings back into Keras."""
    model = _nested(EfficientNet)
    model.export("exported", format="tf_saved_model", verbose=False)
    layer = keras.layers.TFSMLayer("exported", call_endpoint="serve")
    return np.array(layer(IMAGES)), _answers(model)


def a_tflite_file(EfficientNet):
    """model.export(format="litert"), as the converter's page shows it."""
    model = _model(EfficientNet)
    model.export("model.tflite", format="litert", verbose=False)
    interpreter = tf.lite.Interpreter("model.tflite")
    entry, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def scores():  # under bfloat16 the file needs operators that no interpreter has
        interpreter.allocate_tensors()
        interpreter.set_tensor(entry["index"], IMAGES[:1])
        interpreter.invoke()
        return interpreter.get_tensor(result["index"])

    found = list(entry["shape"]), str(entry["dtype"]), list(result["shape"])
    return found, attempt(scores), model.predict(IMAGES[:1], verbose=0)


def an_onnx_file(EfficientNet):
    """model.export(format="onnx")."""
    pytest.importorskip("tf2onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = _model(EfficientNet)
    model.predict(IMAGES, verbose=0)
    model.export("model.onnx", format="onnx", verbose=False)
    session = onnxruntime.InferenceSession("model.onnx")
    name = session.get_inputs()[0].name
    found = attempt(lambda: session.run(None, {name: IMAGES})[0])
    return session.get_inputs()[0].shape[1:], found, _answers(model)


def eight_bits(EfficientNet):
    """model.quantize("int8"), then saving it."""
    model = _model(EfficientNet)
    model.quantize("int8")
    dtypes = sorted({weight.dtype for weight in model.weights})
    model.save("int8.keras")
    return dtypes, count(model.weights), _answers(model, keras.saving.load_model("int8.keras"))


def recomputed(EfficientNet):
    """RematScope around the constructor, and keras.remat around a call."""
    with keras.RematScope(mode="full"):
        model = _model(EfficientNet)
    model.compile("sgd", "sparse_categorical_crossentropy")
    fitted = model.fit(IMAGES, LABELS, verbose=0)
    plain = _model(EfficientNet)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.remat(plain)(tf.constant(IMAGES)) ** 2)
    gradients = tape.gradient(loss, plain.trainable_weights)
    return history(fitted), [norm(gradient) for gradient in gradients]


def two_threads(EfficientNet):
    """Two threads of a server that predict with one model, and two that build one each."""
    model, found = _model(EfficientNet), {}

    def serve(number):
        found[number] = np.array(model(IMAGES * (1 - 0.5 * number), training=False))

    def build(number):
        found[number] = len(_model(EfficientNet, name=f"m{number}").layers)

    for work in (serve, build):
        threads = [threading.Thread(target=work, args=(n + 2 * (work is build),)) for n in (0, 1)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    return dict(sorted(found.items()))


def mistakes(EfficientNet):
    """What is refused, with an error of the kind that callers catch."""
    calls = {
        "a file that is missing": lambda: EfficientNet(weights="none.h5", input_shape=SHAPE),
        "classes of imagenet": lambda: EfficientNet(weights="imagenet", classes=5),
        "small images": lambda: EfficientNet(weights=None, input_shape=(2, 2, 3)),
        "no channels": lambda: EfficientNet(weights=None, input_shape=(32, 32)),
        "an activation": lambda: EfficientNet(weights=None, classifier_activation="none such"),
    }
    return {name: outcome(call) for name, call in calls.items()}
