"""What must a file tell whoever runs it?

`About` travels inside every exported file: in `assets/` of a SavedModel, in a metadata
entry of a TFLite or ONNX file. Without it nobody knows what the class numbers mean, or
how evaluation cut its images.
"""

import dataclasses
import json
import re
from collections.abc import Sequence
from typing import Any

import keras

from effnet_tf import multilabel, variants
from effnet_tf.data import crops
from effnet_tf.errors import InputError, first_line
from effnet_tf.export import preprocessing


@dataclasses.dataclass(frozen=True)
class About:
    """What an exported classifier is, and what it expects.

    Attributes:
        variant: name of the variant, or of the model.
        image_size: side of its square images, in pixels; None for other shapes.
        class_names: in the order of the outputs; empty if nobody named them.
        crop_padding: of the central crop of evaluation, in pixels at `image_size`; see
            `crops.central_window`.
        exif_rotation: whether evaluation turned photos upright.
        scaled_decode: whether it decoded large JPEGs at a fraction of their size.
        crop_kind: how it cut and resized them: "v1", "v2" or "whole", see `data/crops.py`.
        mean: subtracted from pixels in [0, 255], per channel; empty if nothing is.
        std: divides the rest.
        normalizes: whether the file itself does that. Else its user must.
        quantize: of a TFLite file: "none", "float16", "weights8", "int8", ...
        recipe: fields of the `Recipe` it was trained with, or None.
        workdir: where that run lay, or None.
        labels: "single": an image has one class; "multi": any number of them.
        thresholds: of "multi", from which probability on each class is given, in the order of the
            outputs; empty: from 1/2 on.
    """

    variant: str
    image_size: int | None = None
    class_names: tuple[str, ...] = ()
    crop_padding: int = 32
    exif_rotation: bool = False
    scaled_decode: bool = False
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    normalizes: bool = True
    quantize: str | None = None
    recipe: dict | None = None
    workdir: str | None = None
    crop_kind: str = "v1"
    labels: str = "single"
    thresholds: tuple[float, ...] = ()

    def chosen_thresholds(self, classes: int) -> tuple[float, ...] | None:
        """Returns the threshold of each class; None where an image has one class."""
        if self.labels == "single":
            return None
        return self.thresholds or (multilabel.HALF,) * classes

    def evaluation_crop(self, size: int) -> crops.EvaluationCrop:
        """Returns what makes of image files what evaluation did, at a size in pixels."""
        return crops.EvaluationCrop(
            size, self.crop_padding, self.exif_rotation, self.scaled_decode, self.crop_kind
        )

    def to_json(self) -> str:
        """Returns the text that `from_json` reads."""
        fields = dataclasses.asdict(self)
        if self.labels == "single":  # as versions write and read it that know no other kind
            del fields["labels"], fields["thresholds"]
        return json_text(fields)

    @classmethod
    def from_json(cls, text: str, where: str) -> "About":
        """Returns the `About` in a text; `where` names its file in an error.

        Raises:
            InputError: it is damaged, or of another version.
        """
        try:
            fields = json.loads(text)
            for name in ("class_names", "mean", "std"):
                fields[name] = tuple(fields[name])
            fields["thresholds"] = tuple(fields.get("thresholds", ()))
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"What '{where}' says about itself cannot be read "
                f"({first_line(error)}): "
                "export it again."
            ) from error


def json_text(value: object) -> str:
    """Returns a value as a JSON text that is valid UTF-8, whatever names are in it.

    A byte of a file name that is not text is a surrogate in Python; JSON has an escape for it.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return re.sub("[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def labels_text(names: Sequence[str]) -> str:
    """Returns class names as a file of lines, one for each, whatever is in them."""
    lines = "".join(" ".join(name.splitlines()) + "\n" for name in names)
    return lines.encode("utf-8", "backslashreplace").decode()  # bytes that were not text


def describe(model: keras.Model, **fields: Any) -> About:
    """Returns the `About` of a Keras model, with what only its user knows in `fields`.

    Args:
        model: a `keras.Model`. Its name, input size and pixel constants are looked up; by the name
            of a variant, how evaluation cuts its images.
        **fields: of `About`, such as class_names=("cat", "dog").
    """
    numbers = preprocessing.image_inputs(model)
    size = None
    if numbers:
        size = _side(model.inputs[numbers[0]].shape)
    done = preprocessing.normalization(model)
    variant = variants.name_of_model(model.name)
    found = {
        "variant": variant,
        "image_size": size,
        "mean": done.mean,
        "std": done.std,
        "normalizes": done.takes_pixels,
    }
    if variant in variants.VARIANTS:
        found["crop_kind"] = variants.VARIANTS[variant].crops
    return About(**{**found, **fields})


def _side(shape):
    """Returns the side of square RGB images (N, S, S, 3), None for others."""
    if len(shape) == 4 and shape[1] == shape[2] and shape[3] == 3:
        return shape[1]
    return None
