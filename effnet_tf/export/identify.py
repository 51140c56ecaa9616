"""What is this file, and what does it say about itself?

`kind` recognises SavedModels, TFLite, ONNX and Keras files by their content; `about`,
`class_names` and `normalization` find what is written in them, whoever wrote them.
"""

import os
import zipfile
from collections.abc import Sequence
from typing import Any

from effnet_tf import local_files
from effnet_tf.errors import InputError, first_line
from effnet_tf.export import onnx_session, staging
from effnet_tf.export.about import About
from effnet_tf.export.tflite import flatbuffer, metadata

ONNX_KEY = "effnet_tf"  # of the About in the metadata_props of an ONNX file
# How fields of ONNX' ModelProto begin (onnx.proto): number of the field x 8 + how it is written.
_IR_VERSION, _MODEL_VERSION = 1 << 3, 5 << 3  # numbers
_OF_ONNX_MODEL = (_MODEL_VERSION, *(number << 3 | 2 for number in (2, 3, 4, 6, 7, 8, 14)))
LIMIT = (1 << 31) - 1  # bytes of a flatbuffer
_TEXT_LIMIT = 1 << 24  # of a text file in a SavedModel


def kind(path: str) -> str:
    """Returns "SavedModel", "TFLite", "ONNX" or "Keras".

    Raises:
        InputError: nothing lies there, or something else.
    """
    _check_exists(path)
    if os.path.isdir(path):
        if os.path.isfile(os.path.join(path, "saved_model.pb")):
            return "SavedModel"
        raise InputError(
            f"'{path}' is a directory without saved_model.pb, so it is not a SavedModel."
        )
    if local_files.not_regular(path):
        raise InputError(
            f"'{path}' is {local_files.not_regular(path)}: give a file or a SavedModel."
        )
    try:
        with open(path, "rb") as file:
            beginning = file.read(16)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
    if beginning[4:8] == flatbuffer.IDENTIFIER:
        return "TFLite"
    if _is_keras(path, beginning):
        return "Keras"
    if _is_onnx(path, beginning):
        return "ONNX"
    raise InputError(f"'{path}' is not a SavedModel, a TFLite, ONNX or Keras file.")


def _check_exists(path):
    if "\0" in path:
        raise InputError(f"There is no file '{path}'.")
    if os.path.exists(path):
        return
    aside = staging.set_aside(path)
    if aside is None:
        raise InputError(f"There is no file '{path}'.")
    raise InputError(
        f"There is no file '{path}' at the moment: an export that was about to replace it has "
        f"moved the old one to '{aside}'. If that export was killed, the next export to the same "
        "folder moves it back."
    )


def about(path: str) -> About | None:
    """Returns the `About` inside an exported file, or None: it is somebody else's.

    Raises:
        InputError: what lies there is no such file, or its About is damaged.
        MissingPackage: an ONNX file, and onnxruntime is not installed.
    """
    text = _READERS[kind(path)](path)
    if text is None:
        return None
    return About.from_json(text, path)


def class_names(path: str) -> tuple[str, ...]:
    """Returns the class names in a file, ours or somebody else's; () where nobody wrote any."""
    known = about(path)
    if known:
        return known.class_names
    labels_file = os.path.join(path, "assets", "labels.txt")
    if os.path.exists(labels_file):
        return tuple(metadata.lines(_text(labels_file)))
    if kind(path) == "TFLite":
        return tuple(metadata.labels(content(path)))
    return ()


def tflite_model(path: str) -> Any:
    """Returns the `schema.ModelT` of a .tflite file.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return flatbuffer.read(content(path))
    except InputError as error:
        raise InputError(f"'{path}' cannot be read. {error}") from error


def normalization(path: str) -> tuple[Sequence[float], Sequence[float]] | None:
    """Returns (mean, std) that a file wants its pixels normalised with, or None: [0, 255].

    Integer files from elsewhere take pixels as they are, whatever their metadata say of the
    float model behind them: so does MediaPipe.
    """
    known = about(path)
    if known:
        if known.normalizes or not known.mean:
            return None
        return known.mean, known.std
    if kind(path) != "TFLite":
        return None
    model, described = tflite_model(path), metadata.read(content(path))
    if not described or not described.mean:
        return None
    graph = model.subgraphs[0]
    is_float = all(
        flatbuffer.type_name(graph.tensors[int(number)]).startswith("float")
        for number in graph.inputs
    )
    if not is_float:
        return None
    return described.mean, described.std


def _of_saved_model(path):
    file = os.path.join(path, "assets", "about.json")
    if not os.path.exists(file):
        return None
    return _text(file)


def _of_tflite(path):
    entry = flatbuffer.get_entry(tflite_model(path), metadata.ABOUT_ENTRY)
    if entry is None:
        return None
    return entry.decode("utf-8", "replace")


def _of_onnx(path):
    return onnx_session.metadata(path).get(ONNX_KEY)


_READERS = {
    "SavedModel": _of_saved_model,
    "TFLite": _of_tflite,
    "ONNX": _of_onnx,
    "Keras": lambda path: None,
}


def _is_onnx(path, beginning):
    """Whether a file begins as an ONNX model does; the format has no magic number.

    It is a protocol buffer whose first field is its `ir_version`. The second one must be of the
    same message, and end inside of the file.
    """
    key, version, second = (*beginning, 0, 0, 0)[:3]
    if key != _IR_VERSION or not 0 < version < 128 or second not in _OF_ONNX_MODEL:
        return False
    length = 0
    for number, byte in enumerate(beginning[3:8]):
        length |= (byte & 127) << 7 * number
        if byte < 128:
            break
    return second == _MODEL_VERSION or 3 + length < os.path.getsize(path)


def _is_keras(path, beginning):
    if beginning[:8] == b"\x89HDF\r\n\x1a\n":
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return "config.json" in archive.namelist()
    except (zipfile.BadZipFile, OSError):
        return False


def _text(path):
    return local_files.read(path, _TEXT_LIMIT).decode("utf-8", "replace")


def content(path: str) -> bytes:
    """Returns the bytes of a file.

    Raises:
        InputError: it is not a regular file, cannot be read, or is larger than any that works.
    """
    try:
        return local_files.read(path, LIMIT)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
