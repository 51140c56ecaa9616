"""Can this model, with these images and labels, become a file?"""

import dataclasses

import keras
import numpy as np

from effnet_tf.errors import InputError
from effnet_tf.export import graph, inputs, mixing, pixels, soundness
from effnet_tf.export.about import About, describe
from effnet_tf.export.inputs import Arrays
from effnet_tf.export.tflite import leaves
from effnet_tf.export.tflite.options import ROUNDED, Options


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model that can be exported, and what its file is compared on.

    Attributes:
        model: a functional `keras.Model`.
        about: what it is.
        inputs: by the names that a file has for them, an array (N, ...) for each input; of a
            classifier {"images": (N, H, W, C) float32}.
        labels: (N,) integers, -1 where unknown; (N, classes) bool of several names; or None.
        judged_on: which images the inputs are, in words.
    """

    model: keras.Model
    about: About
    inputs: dict[str, np.ndarray]
    labels: np.ndarray | None
    judged_on: str

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """By class, where an image may have several names; else None."""
        return self.about.chosen_thresholds(self.model.outputs[0].shape[-1])


def prepared(
    model: keras.Model, about: About | None, images: Arrays | None, labels: np.ndarray | None
) -> Subject:
    """Returns a model with a graph, its `About`, and what to compare on.

    Args:
        model: a functional or sequential `keras.Model`.
        about: None: `describe(model)`.
        images: (N, H, W, C), or an array for each of several inputs, see `inputs.arranged`;
            None: 8 of seeded noise.
        labels: of these, (N,) integers, -1 where unknown; or None.

    Raises:
        InputError: one of them cannot be used, or they do not go together.
    """
    model = graph.functional(model)
    _check_outputs(model)
    soundness.check_weights(model)
    pixels.make_current(model)
    about = about or describe(model)
    classes = model.outputs[0].shape[-1]
    if about.class_names and len(about.class_names) != classes:
        raise InputError(
            f"There are {len(about.class_names)} class names for {classes} classes: "
            "give one name for each, or none."
        )
    arrays, judged_on = inputs.noise(model), "noise, which says little of photographs"
    if images is not None:
        judged_on = "those given"
        arrays = inputs.arranged("verify_with", images, model)
    if labels is not None:
        _check_labels(labels, next(iter(arrays.values())), model)
    return Subject(model, about, arrays, labels, judged_on)


def for_tflite(
    options: Options,
    model: keras.Model,
    about: About,
    calibration: np.ndarray | None,
    images: np.ndarray | None,
    labels: np.ndarray | None,
) -> Subject:
    """Returns what `prepared` returns, with other images where none are given to compare on.

    They are those of the calibration, else drawn ones for weights that are rounded on images.
    """
    if images is not None:
        return prepared(model, about, images, labels)
    judged_on = None
    if calibration is not None:
        images, judged_on = calibration, "those that it was calibrated on, which may flatter it"
    elif options.rounds and about.normalizes:
        images = leaves.images(16, tuple(model.inputs[0].shape[1:]), seed=1)
        judged_on = "drawn ones, which say little of photographs"
    found = prepared(model, about, images, labels)
    return dataclasses.replace(found, judged_on=judged_on or found.judged_on)


def _check_labels(labels, images, model):
    if len(labels) != len(images):
        raise InputError(f"There are {len(labels)} labels for {len(images)} images to verify with.")
    if len(model.outputs[0].shape) != 2:
        raise InputError(
            "labels are for a classifier, which gives (N, classes); the model "
            f"'{model.name}' gives {model.outputs[0].shape}."
        )


def _check_outputs(model):
    """Refuses outputs inside of outputs, which no file has names for."""
    outputs = model.output
    if isinstance(outputs, keras.KerasTensor):
        return
    if isinstance(outputs, dict):
        outputs = outputs.values()
    if any(not isinstance(part, keras.KerasTensor) for part in outputs):
        raise InputError(
            f"The outputs of '{model.name}' are nested: give the model a plain list or dict of "
            "outputs."
        )


def classifier(model: keras.Model) -> keras.Model:
    """Returns a model that can become a TFLite file, as one with a graph.

    Raises:
        InputError: it cannot become a TFLite file.
    """
    model = graph.functional(model)
    taken = [tuple(tensor.shape) for tensor in model.inputs]
    given = [tuple(tensor.shape) for tensor in model.outputs]
    if not inputs.takes_one_image(model) or len(given) != 1 or len(given[0]) != 2:
        raise InputError(
            f"The model '{model.name}' must take one image, (N, H, W, C), and give one score "
            f"per class, (N, classes), to become a TFLite file; it takes {taken} and gives {given}."
        )
    if None in taken[0][1:]:
        raise InputError(
            f"TFLite needs a static input size; this model's input is {taken[0]}. "
            "Build it with input_shape=(H, W, C)."
        )
    if not isinstance(model.output, keras.KerasTensor):  # one in a dict or list
        model = keras.Model(model.inputs, model.outputs[0], name=model.name)
    return model


def check_tflite(options: Options, given: Subject, calibration: np.ndarray | None) -> None:
    """Raises InputError if a classifier cannot become the TFLite file that is asked for."""
    mixing.check_tflite(given.model, options)
    about = given.about
    if options.io != "float" and not about.normalizes:
        raise InputError(
            f"io '{options.io}' means the bytes of an image, but this model wants "
            "pixels that its caller has normalised: use io 'float'."
        )
    if options.quantize not in ROUNDED:
        return
    if calibration is None and options.quantize == "weights8":
        return
    if calibration is None:
        raise InputError(
            f"quantize '{options.quantize}' needs calibration images: they tell the "
            "ranges of the activations. Give calibration=, some hundred images "
            "(N, H, W, C)."
        )
    soundness.check_calibration(calibration, about.normalizes)
