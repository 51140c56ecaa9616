"""What is this file, and what does it say about itself?

`kind` recognises SavedModels, TFLite, ONNX and Keras files by their content; `about`,
`class_names` and `normalization` find what is written in them. Others' files, too.
"""

import os
import zipfile

from effnet_tf import local_files
from effnet_tf.errors import InputError, first_line
from effnet_tf.export.about import About
from effnet_tf.export.tflite import flatbuffer, metadata

ONNX_KEY = "effnet_tf"  # of the About in the metadata_props of an ONNX file
# Fields of ONNX' protobuf messages: ModelProto, StringStringEntryProto.
_GRAPH, _PROPERTIES, _KEY, _VALUE = 7, 14, 1, 2
_VARINT, _BITS64, _BYTES, _BITS32 = 0, 1, 2, 5  # protobuf's wire types
LIMIT = (1 << 31) - 1  # bytes of a flatbuffer or a protocol buffer
_TEXT_LIMIT = 1 << 24  # of a text file in a SavedModel


def kind(path):
    """Returns "SavedModel", "TFLite", "ONNX" or "Keras".

    Raises:
        InputError: nothing lies there, or something else.
    """
    if "\0" in path or not os.path.exists(path):
        raise InputError(f"There is no file '{path}'.")
    if os.path.isdir(path):
        if os.path.isfile(os.path.join(path, "saved_model.pb")):
            return "SavedModel"
        raise InputError(f"'{path}' is a directory without saved_model.pb: no SavedModel.")
    if local_files.not_regular(path):
        raise InputError(
            f"'{path}' is {local_files.not_regular(path)}: give a file or a SavedModel."
        )
    try:
        with open(path, "rb") as file:
            beginning = file.read(8)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
    if beginning[4:] == flatbuffer.IDENTIFIER:
        return "TFLite"
    if _is_keras(path, beginning):
        return "Keras"
    if os.path.getsize(path) <= LIMIT and any(number == _GRAPH for number, _ in _messages(path)):
        return "ONNX"
    raise InputError(f"'{path}' is no SavedModel, TFLite, ONNX or Keras file.")


def about(path):
    """Returns the `About` inside an exported file, or None: it is somebody else's.

    Raises:
        InputError: what lies there is no such file, or its About is damaged.
    """
    text = _READERS[kind(path)](path)
    return None if text is None else About.from_json(text, path)


def class_names(path):
    """Returns the class names in a file, ours or somebody else's; () where nobody wrote any."""
    known = about(path)
    if known:
        return known.class_names
    labels_file = os.path.join(path, "assets", "labels.txt")
    if os.path.exists(labels_file):
        return tuple(metadata.lines(_text(labels_file)))
    return tuple(metadata.labels(content(path))) if kind(path) == "TFLite" else ()


def tflite_model(path):
    """Returns the `schema.ModelT` of a .tflite file.

    Raises:
        InputError: the file is damaged.
    """
    try:
        return flatbuffer.read(content(path))
    except InputError as error:
        raise InputError(f"'{path}' cannot be read. {error}") from error


def normalization(path):
    """Returns (mean, std) that a file wants its pixels normalised with, or None: [0, 255].

    Others' integer files take pixels as they are, whatever their metadata say of the float
    model behind them: so does MediaPipe.
    """
    known = about(path)
    if known:
        return None if known.normalizes or not known.mean else (known.mean, known.std)
    if kind(path) != "TFLite":
        return None
    model, described = tflite_model(path), metadata.read(content(path))
    graph = model.subgraphs[0]
    is_float = all(
        flatbuffer.type_name(graph.tensors[int(number)]).startswith("float")
        for number in graph.inputs
    )
    return (described.mean, described.std) if is_float and described and described.mean else None


def _of_saved_model(path):
    file = os.path.join(path, "assets", "about.json")
    return _text(file) if os.path.exists(file) else None


def _of_tflite(path):
    entry = flatbuffer.get_entry(tflite_model(path), metadata.ABOUT_ENTRY)
    return None if entry is None else entry.decode("utf-8", "replace")


def _of_onnx(path):
    for number, content in _messages(path):
        fields = dict(_fields(content)) if number == _PROPERTIES else {}
        if fields.get(_KEY) == ONNX_KEY.encode():
            return fields.get(_VALUE, b"").decode("utf-8", "replace")
    return None


_READERS = {
    "SavedModel": _of_saved_model,
    "TFLite": _of_tflite,
    "ONNX": _of_onnx,
    "Keras": lambda path: None,
}


def _messages(path):
    """Returns the fields (number, bytes) of a protobuf file; [] if it is none."""
    try:
        return list(_fields(memoryview(content(path))))
    except (ValueError, IndexError):
        return []


def _fields(data):
    """Yields (number, bytes) of the fields of a protobuf message that have a length.

    ONNX needs no package to be recognised that way.
    """
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        wire = key & 7
        if wire == _VARINT:
            _, place = _varint(data, place)
        elif wire == _BYTES:
            length, place = _varint(data, place)
            if place + length > len(data):
                raise ValueError("cut off")
            yield key >> 3, bytes(data[place : place + length]) if length < 1 << 20 else b""
            place += length
        elif wire in (_BITS64, _BITS32):
            place += 8 if wire == _BITS64 else 4
        else:
            raise ValueError("no protobuf")


def _varint(data, place):
    value, shift = 0, 0
    while True:
        byte = data[place]
        value, shift, place = value | (byte & 127) << shift, shift + 7, place + 1
        if byte < 128:
            return value, place


def _is_keras(path, beginning):
    if beginning == b"\x89HDF\r\n\x1a\n":
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
        InputError: it is no regular file, cannot be read, or is larger than any that works.
    """
    try:
        return local_files.read(path, LIMIT)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
