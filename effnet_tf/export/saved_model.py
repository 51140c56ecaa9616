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

from effnet_tf.errors import InputError
from effnet_tf.export import inputs, serving
from effnet_tf.export.about import About, json_text, labels_text

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
def write(
    model: keras.Model,
    path: str,
    about: About,
    *,
    keep_batch_norm: bool = False,
    input_dtype: str = "float32",
) -> None:
    """Writes a model as a TensorFlow SavedModel.

    Signature `serving_default`: `images`, (N, H, W, C) in [0, 255], to `probabilities` and
    `logits`, (N, classes) or (N, H, W, classes) float32. Without an activation there are only
    `logits`; a model whose outputs are a dict gives that; what is not a classifier gives
    `outputs`. An empty batch gives empty results.

    Signature `serving_bytes`, if `about.image_size` is a size that the model takes:
    `encoded_images`, (N,) JPEG, PNG, GIF or BMP files, cut as evaluation cuts them, to the same.

    The loaded object itself, by TensorFlow Hub's conventions for image feature vectors:
    images (N, H, W, C) float32 in [0, 1] to what the classifier reads, (N, F), with
    `variables`, `trainable_variables` and `regularization_losses`. `classifier_variables` are
    those that the features do not need.

    Of a model that takes something else than one batch of images, there are `serving_default`,
    with its inputs by the names of `inputs.names`, and the variables.

    Args:
        model: a model of `fold`, whose swish is replaced; with keep_batch_norm, a functional
            model as it is.
        path: directory to write; not there yet, or empty.
        about: an `About`; goes to assets/about.json, labels.txt and recipe.json.
        keep_batch_norm: whether it can be trained again. The object takes `training=True`,
            and its function `network`, for those who keep the classifier, maps images in
            [0, 255], and `training`, to a pair: what the signatures give, and the features.
            Else `trainable_variables` is empty.
        input_dtype: of `images` in serving_default: "float32" or "uint8".

    Raises:
        InputError: an unknown dtype; uint8 or keep_batch_norm for a model that takes something
            else than images; with keep_batch_norm, a classifier inside of another model.
    """
    check_options(model, keep_batch_norm, input_dtype)
    modes: tuple[bool, ...] = (False, True)
    if not keep_batch_norm:
        modes = (False,)
        model = _without_gradients(model)
    network = serving.Network(model, about, modes)
    signatures = {"serving_default": network.serving_default(input_dtype)}
    if about.image_size and _takes(model, about.image_size):
        signatures["serving_bytes"] = network.serving_bytes(about.image_size)
    with tempfile.TemporaryDirectory() as folder:
        root = _Root(network, _write_assets(folder, about))
        tf.saved_model.save(root, path, signatures)


def check_options(model: keras.Model, keep_batch_norm: bool, input_dtype: str) -> None:
    """Raises InputError if `write` has no such type, or the options are not for this model."""
    if input_dtype not in INPUT_DTYPES:
        raise InputError(
            f"input_dtype is {input_dtype!r}; it must be one of "
            f"{', '.join(map(repr, INPUT_DTYPES))}."
        )
    if inputs.takes_one_image(model):
        return
    shapes = [tuple(tensor.shape) for tensor in model.inputs]
    asked = {"keep_batch_norm": keep_batch_norm, "input_dtype 'uint8'": input_dtype == "uint8"}
    for option, is_asked in asked.items():
        if is_asked:
            raise InputError(
                f"{option} is for models of one batch of images (N, H, W, C); '{model.name}' "
                f"takes {shapes}."
            )


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


class _Root(tf.Module):
    """What a SavedModel holds: plain variables, each once, and functions of one network."""

    # In tf.Module they are properties, which a SavedModel does not hold.
    variables = trainable_variables = ()

    def __init__(self, network, assets):
        super().__init__()
        if inputs.takes_one_image(network.model):
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


def _plain(variables):
    """Returns the TensorFlow variables inside of Keras'."""
    return [variable.value for variable in variables]


def _takes(model, size):
    """Whether a model takes square RGB images of a size."""
    if not inputs.takes_one_image(model) or model.input_shape[-1] != 3:
        return False
    return all(side in (None, size) for side in model.input_shape[1:3])


def _without_gradients(folded):
    """Replaces the swish of a folded model: that of TensorFlow has a gradient of its own.

    Each took as long to save as 20 other operations; x * sigmoid(x) is as good without one.
    """
    for layer in folded.layers:
        if getattr(layer, "activation", None) is keras.activations.silu:
            layer.activation = lambda x: x * tf.sigmoid(x)
    return folded
