"""How does a model become a SavedModel that is served, gives features, and trains again?

One traced network is behind all of it: the signatures for pixels and for image files, and
the `__call__` of TensorFlow Hub's conventions. Loading it needs nothing but TensorFlow.
"""

import contextlib
import functools
import gc
import os
import tempfile

import keras
import tensorflow as tf

from effnet_tf.data.crops import EvaluationCrop
from effnet_tf.errors import InputError
from effnet_tf.export import folding
from effnet_tf.export.about import json_text, labels_text

INPUT_DTYPES = ("float32", "uint8")


@contextlib.contextmanager
def _without_collection():
    """Stops Python's search for garbage, which costs a fifteenth: all that is traced is in use."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@_without_collection()
def write(model, path, about, *, keep_batch_norm=False, input_dtype="float32"):
    """Writes a model as a TensorFlow SavedModel.

    Signature `serving_default`: `images`, (N, H, W, C) in [0, 255], to `probabilities` and
    `logits`, (N, classes) or (N, H, W, classes) float32. Without an activation there are only
    `logits`; a model whose outputs are a dict gives that; what is no classifier gives
    `outputs`. An empty batch gives empty results.

    Signature `serving_bytes`, if `about.image_size` is a size that the model takes:
    `encoded_images`, (N,) JPEG, PNG, GIF or BMP files, cut as evaluation cuts them, to the same.

    The loaded object itself, by TensorFlow Hub's conventions for image feature vectors:
    images (N, H, W, C) float32 in [0, 1] to what the classifier reads, (N, F), with
    `variables`, `trainable_variables` and `regularization_losses`. `classifier_variables` are
    those that the features do not need.

    Args:
        model: a `keras.Model` with one image input.
        path: directory to write; not there yet, or empty.
        about: an `About`; goes to assets/about.json, labels.txt and recipe.json.
        keep_batch_norm: whether it can be trained again. The layers stay as they are, the
            object takes `training=True`, and its function `network`, for those who keep the
            classifier, maps images in [0, 255], and `training`, to a pair: what the
            signatures give, and the features. Else batch norm is folded into the
            convolutions, and `trainable_variables` is empty.
        input_dtype: of `images` in serving_default: "float32" or "uint8".

    Raises:
        InputError: several inputs, a model without a graph of layers, an unknown dtype; with
            keep_batch_norm, a classifier inside of another model.
    """
    if input_dtype not in INPUT_DTYPES:
        raise InputError(
            f"input_dtype is {input_dtype!r}; it must be one of "
            f"{', '.join(map(repr, INPUT_DTYPES))}."
        )
    model = (
        folding.functional(model) if keep_batch_norm else _without_gradients(folding.fold(model))
    )
    if len(model.inputs) != 1:
        raise InputError(
            f"A SavedModel takes one batch of images; the model '{model.name}' has "
            f"{len(model.inputs)} inputs."
        )
    network = _Network(model, about, (False, True) if keep_batch_norm else (False,))
    signatures = {"serving_default": network.serving_default(input_dtype)}
    if _takes(model, about.image_size):
        signatures["serving_bytes"] = network.serving_bytes()
    with tempfile.TemporaryDirectory() as folder:
        root = _Root(network, _write_assets(folder, about))
        tf.saved_model.save(root, path, signatures)


def _write_assets(folder, about):
    """Yields the paths of the files that go to assets/."""
    texts = {"about.json": about.to_json()}
    if about.class_names:
        texts["labels.txt"] = labels_text(about.class_names)
    if about.recipe is not None:
        texts["recipe.json"] = json_text(about.recipe)
    for name, text in texts.items():
        path = os.path.join(folder, name)
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        yield path


class _Network:
    """The functions of a model; one traced graph for each value of `training`."""

    def __init__(self, model, about, modes):
        self.about, self.modes = about, modes
        self.shape = (None, *model.input_shape[1:])
        features = _features(model)
        self.is_classifier = features is not model.outputs[-1]
        self.feature_model = keras.Model(model.inputs, features)
        self.model = keras.Model(model.inputs, (model.output, features))
        # Concrete: saving traces a tf.function again, whatever was traced before.
        self.traced = {
            mode: self._function(self._run).get_concrete_function(self._spec(), training=mode)
            for mode in modes
        }

    def _spec(self, dtype="float32"):
        return tf.TensorSpec(self.shape, dtype, name="images")

    def _function(self, function, signature=None):
        return tf.function(function, signature, autograph=False)

    def _run(self, images, training):
        missing = tf.maximum(1 - tf.shape(images)[0], 0)  # 1 for an empty batch
        if training:
            with tf.control_dependencies(
                [
                    tf.debugging.Assert(
                        missing < 1, ["An empty batch has no statistics to train with."]
                    )
                ]
            ):
                images = tf.identity(images)
        outputs, features = self.model(_filled(images, missing), training=training)
        features = _float32(features)
        if len(features.shape) > 2:
            features = tf.reduce_mean(features, tuple(range(1, len(features.shape) - 1)))
        answer = tf.nest.map_structure(_float32, self._named(outputs)), features
        # Nothing of the batch that was filled up; else all of it, which copies nothing.
        return tf.nest.map_structure(
            lambda values: values[: tf.shape(values)[0] * (1 - missing)], answer
        )

    def _named(self, outputs):
        if isinstance(outputs, dict):
            return outputs
        if isinstance(outputs, (list, tuple)):
            return {f"outputs_{number}": output for number, output in enumerate(outputs)}
        logits = _before_scores(outputs.op)
        if logits is not None:
            return {"probabilities": outputs, "logits": logits}
        return {"logits" if self.is_classifier else "outputs": outputs}

    def _normalized(self, images):
        """Makes of pixels in [0, 255] what the model takes."""
        about = self.about
        if about.normalizes or not about.mean:
            return images
        return (images - about.mean) / about.std

    def of_training(self, function):
        """Returns a tf.function of images and `training`, for all its values."""
        if self.modes == (False,):  # with a signature it is traced once less
            return self._function(function, [self._spec()])
        function = self._function(function)
        for mode in self.modes:
            function.get_concrete_function(self._spec(), training=mode)
        return function

    def features(self, images, training=False):
        return self.traced[training](self._normalized(images * 255))[1]

    def everything(self, images, training=False):
        return self.traced[training](images)

    def serving_default(self, dtype):
        """Returns the signature that takes pixels."""

        def serving_default(images):
            return self.traced[False](_float32(images))[0]

        return self._function(serving_default, [self._spec(dtype)])

    def serving_bytes(self):
        """Returns the signature that takes files."""
        about, size = self.about, self.about.image_size
        crop = EvaluationCrop(size, about.crop_padding, about.exif_rotation, about.scaled_decode)

        def serving_bytes(encoded_images):
            images = tf.map_fn(
                crop, encoded_images, fn_output_signature=tf.TensorSpec((size, size, 3), tf.float32)
            )
            return self.traced[False](self._normalized(images))[0]

        return self._function(
            serving_bytes, [tf.TensorSpec((None,), tf.string, name="encoded_images")]
        )


class _Root(tf.Module):
    """What a SavedModel holds: plain variables, each once, and functions of one network."""

    # In tf.Module they are properties, which a SavedModel does not hold.
    variables = trainable_variables = ()

    def __init__(self, network, assets):
        super().__init__()
        self.__call__ = network.of_training(network.features)
        model, trainable = network.feature_model, ()
        if True in network.modes:
            self.network = network.of_training(network.everything)
            trainable = model.trainable_variables
        self.variables, self.trainable_variables = _plain(model.variables), _plain(trainable)
        self.regularization_losses = [
            tf.function(functools.partial(variable.regularizer, variable.value), ())
            for variable in trainable
            if variable.regularizer
        ]
        inside = {id(variable) for variable in model.variables}
        others = [variable for variable in network.model.variables if id(variable) not in inside]
        self.classifier_variables = _plain(each for each in others if each.trainable)
        self.other_variables = _plain(each for each in others if not each.trainable)  # of dropout
        self.assets = [tf.saved_model.Asset(path) for path in assets]


def _filled(images, missing):
    """Adds `missing` black images to a batch.

    oneDNN's convolution of an empty batch fails on some processors and passes its input on.
    With nothing to add the operation hands its input on without a copy.
    """
    paddings = tf.pad(tf.reshape(missing, (1, 1)), [[0, 3], [1, 0]])
    return tf.raw_ops.PadV2(input=images, paddings=paddings, constant_values=0.0)


def _before_scores(operation):
    """Returns what an operation softmax or sigmoid reads, or None: it is another.

    TensorFlow's softmax over another axis than the last lies between two transpositions.
    """
    turned = operation.type == "Transpose"
    if turned:
        operation = operation.inputs[0].op
    if operation.type not in (("Softmax",) if turned else ("Softmax", "Sigmoid")):
        return None
    return operation.inputs[0].op.inputs[0] if turned else operation.inputs[0]


def _float32(tensor):
    return tf.cast(tensor, tf.float32)


def _plain(variables):
    """Returns the TensorFlow variables inside of Keras'."""
    return [variable.value for variable in variables]


def _features(model):
    """Returns what the classifier of a functional model reads, before dropout.

    Of a model without a classifier its (last) output.
    """
    operation, inputs = folding.source_of(model.outputs[-1])
    while isinstance(operation, (keras.layers.Activation, keras.layers.Softmax)):
        operation, inputs = folding.source_of(inputs[0])
    if isinstance(operation, keras.Model):
        raise InputError(
            f"The outputs of '{model.name}' are those of the model '{operation.name}' "
            "inside it, whose features cannot be reached: export that one, or "
            "leave out keep_batch_norm."
        )
    if not isinstance(operation, keras.layers.Dense):
        return model.outputs[-1]
    tensor = inputs[0]
    # Dropout of features is for whoever reads them to decide, say the conventions.
    while isinstance(folding.source_of(tensor)[0], keras.layers.Dropout):
        tensor = folding.source_of(tensor)[1][0]
    return tensor


def _takes(model, size):
    """Whether a model takes square RGB images of a size."""
    return (
        bool(size)
        and model.input_shape[-1] == 3
        and all(side in (None, size) for side in model.input_shape[1:3])
    )


def _without_gradients(folded):
    """Replaces the swish of a folded model: that of TensorFlow has a gradient of its own.

    Each took as long to save as 20 other operations; x * sigmoid(x) is as good without one.
    """
    for layer in folded.layers:
        if getattr(layer, "activation", None) is keras.activations.silu:
            layer.activation = lambda x: x * tf.sigmoid(x)
    return folded
