"""The program `inspect`: what an exported file is, holds and expects."""

import argparse
from typing import Any

from effnet_tf.errors import InputError, first_line, printable

from . import onnx_parts, saved_model_parts, tflite_parts

_WIDTH = 14  # of the column of titles


def add_program(programs: Any) -> None:
    """Adds the program to the parser's subcommands."""
    text = "say what an exported file is, holds and expects"
    parser = programs.add_parser("inspect", help=text, description=text)
    parser.add_argument(
        "file", help="a .tflite or .onnx file or SavedModel, written by this program or any other"
    )
    parser.set_defaults(run=inspect)


def inspect(options: argparse.Namespace) -> None:
    """Prints everything that can be known of a file without images."""
    from effnet_tf.export import checksum, identify, staging

    path = options.file
    kind = identify.kind(path)
    compared = checksum.check(path)
    parts = _parts(path, kind)
    print(f"{printable(path)}: {kind}, {staging.size(path) / 1e6:.2f} MB")
    if compared:
        print("  as its export wrote it: SHA-256 compared with the report beside it")
    for title, lines in parts:
        print()
        for line in lines:
            print(f"  {title:<{_WIDTH}}{printable(line)}")
            title = ""


def _parts(path, kind):
    """Returns [(title, lines)] of all that is known of a file."""
    describe = {
        "SavedModel": saved_model_parts.parts,
        "TFLite": tflite_parts.parts,
        "ONNX": onnx_parts.parts,
        "Keras": _keras,
    }
    try:
        return [*_about(path, kind), *describe[kind](path)]
    except (InputError, ImportError):
        raise
    except Exception as error:  # whatever the numbers in a damaged file lead to
        raise InputError(
            f"'{path}' is a damaged {kind} file ({type(error).__name__}: {first_line(error)})."
        ) from error


def _about(path, kind):
    """Returns [(title, lines)] of what the file says about its model."""
    from effnet_tf.export import identify

    try:
        about = identify.about(path)
    except InputError as error:
        if kind != "ONNX":
            raise
        return [("Model", [str(error)])]  # no onnxruntime, or it does not run such a file
    if about is None:
        return [
            ("Model", [*_foreign(path), "Not said: variant, recipe, how images are cut."]),
            ("Classes", _classes(identify.class_names(path))),
        ]
    model = about.variant
    if about.quantize:
        model += f", quantised: {about.quantize}"
    if about.workdir:
        model += f", trained in {about.workdir}"
    return [
        ("Model", [model]),
        ("Recipe", _recipe(about)),
        ("Classes", [*_classes(about.class_names), *_thresholds(about)]),
        ("Images", _images(about)),
    ]


def _thresholds(about):
    """Returns a line on those of a network that may give an image several names."""
    if not about.thresholds:
        return []
    low, high = min(about.thresholds), max(about.thresholds)
    return [
        "an image may have several of them: each is given from its own probability on, "
        f"{low:.2f} to {high:.2f}"
    ]


def _foreign(path):
    """Returns what the metadata of somebody else's TFLite file say."""
    from effnet_tf.export import identify
    from effnet_tf.export.tflite import metadata

    described = None
    if identify.kind(path) == "TFLite":
        described = metadata.read(identify.content(path))
    if described is None:
        return ["Not an export of this program."]
    lines = [f"{described.name or 'without a name'}, by its metadata", described.description]
    if described.mean:
        lines.append(
            f"pixels become (pixel - {_numbers(described.mean)}) / "
            f"{_numbers(described.std)} before the file, says its metadata"
        )
    return [line for line in lines if line]


def _recipe(about):
    import json

    from effnet_tf import recipes

    if about.recipe is None:
        return ["Not said: exported from a model, not from a run."]
    try:
        used = recipes.Recipe.from_json(json.dumps(about.recipe))
    except InputError as error:
        return [f"Of another version of this program: {error}"]
    return [
        f"data set {used.dataset}; where it differs from the paper's recipe:",
        *(f"  {line}" for line in recipes.differences(recipes.Recipe(), used)),
    ]


def _classes(names):
    if not names:
        return ["Not said."]
    names = [printable(name) for name in names]
    shown = names
    if len(names) > 8:
        shown = [*names[:6], "...", names[-1]]
    return [f"{len(names)}: {', '.join(shown)}"]


def _images(about):
    return [_crop(about), _decoding(about), _normalization(about)]


def _crop(about):
    from effnet_tf.data import crops

    size = about.image_size
    if not size:
        return "Not square: how evaluation cut them is not said."
    part = f"the central {size / (size + about.crop_padding):.1%} of the short side"
    if crops.squeezes(size, about.crop_kind):
        part = "the whole image, squeezed"
    method = "TF1's bicubic"
    if about.crop_kind != "v1":
        method = "TF2's bilinear"
    return f"{size} x {size}: {part}, resized with {method}"


def _decoding(about):
    text = "photos are not turned by Exif data"
    if about.exif_rotation:
        text = "photos are turned as their Exif data say"
    if about.scaled_decode:
        text += ", large JPEGs decoded at a fraction of their size"
    return text


def _normalization(about):
    formula = f"(pixel - {_numbers(about.mean)}) / {_numbers(about.std)}" if about.mean else ""
    if about.normalizes and formula:
        return f"RGB, pixels in [0, 255]; the file itself computes {formula}"
    if about.normalizes:
        return "RGB, pixels in [0, 255]"
    if formula:
        return f"RGB, normalised before the file: {formula}"
    return "RGB; how pixels are normalised before the file is not said"


def _numbers(values):
    texts = [f"{value:g}" for value in values]
    if len(set(texts)) == 1:
        return texts[0]
    return f"({', '.join(texts)})"


def _keras(path):
    return [("Layers", ["A Keras file: load it with keras.saving.load_model."])]
