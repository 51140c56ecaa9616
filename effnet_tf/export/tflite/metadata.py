"""What do MediaPipe and Android's tools read in a TFLite file, and how does it get there?

They want three things: a metadata entry `TFLITE_METADATA`, which is a flatbuffer of its own
schema ("M001"), how pixels are normalised in it, and the class names as a text file in a
zip archive behind the model. The public writers do not work beside this TensorFlow, so
that `attach` writes all three; `read` and `labels` read them in anybody's file.
"""

import dataclasses
import io
import zipfile

import flatbuffers
import numpy as np
from flatbuffers.table import Table

from effnet_tf import __version__
from effnet_tf.errors import InputError
from effnet_tf.export.about import About, labels_text
from effnet_tf.export.tflite import fields, flatbuffer

ENTRY, ABOUT_ENTRY, LABELS = "TFLITE_METADATA", "EFFNET_TF", "labels.txt"

# metadata_schema.fbs of MediaPipe, version 1.0.0 of it, which every reader knows: the number
# of each field in its table, and of each kind in its enum or union.
_IDENTIFIER = b"M001"
_IMAGE_PROPERTIES, _RGB, _NORMALIZATION, _AXIS_LABELS = 2, 1, 1, 2
_MODEL_NAME, _MODEL_DESCRIPTION, _MODEL_SUBGRAPHS = 0, 1, 3
_GRAPH_INPUTS, _GRAPH_OUTPUTS = 2, 3
_TENSOR_UNITS, _TENSOR_FILES = 4, 6
_FILE_NAME, _FILE_KIND = 0, 2
_DATE = (1980, 1, 1, 0, 0, 0)  # of the archive's file: the same model gives the same bytes
_MAX_LABELS = 1 << 24  # bytes of the class names in an archive
_FULL_RANGE = {"uint8": (0, 255), "int8": (-128, 127)}


@dataclasses.dataclass(frozen=True)
class Metadata:
    """What a TFLite file's metadata say.

    Attributes:
        name: of the model.
        description: of the model.
        mean: subtracted from pixels in [0, 255] by whoever calls the file; empty: not said.
        std: divides the rest.
        labels_file: name of the class names in the archive, or None.
    """

    name: str = ""
    description: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels_file: str | None = None


def attach(data: bytes, about: About) -> bytes:
    """Returns a .tflite file with metadata: for MediaPipe, for our own programs, class names.

    Args:
        data: bytes of a .tflite file of one image input and one output (..., classes). Metadata
            and archive of an earlier call are replaced.
        about: its `About`. Without class names the file gets no labels, and MediaPipe
            numbers the classes.

    Raises:
        InputError: not as many names as the file gives scores.
    """
    model = flatbuffer.read(data)
    graph = model.subgraphs[0]
    images, scores = (graph.tensors[int(numbers[0])] for numbers in (graph.inputs, graph.outputs))
    names, classes = about.class_names, int(scores.shape[-1])
    if names and len(names) != classes:
        raise InputError(
            f"There are {len(names)} class names for {classes} classes: give one "
            "name for each, or none."
        )
    flatbuffer.put_entry(
        model, ENTRY, model_metadata(about, flatbuffer.type_name(images), _gives_logits(model))
    )
    flatbuffer.put_entry(model, ABOUT_ENTRY, about.to_json().encode())
    return _with_labels(flatbuffer.write(model), names)


def model_metadata(about: About, input_type: str = "float32", logits: bool = False) -> bytes:
    """Returns the bytes of the flatbuffer "M001" that describes a classifier.

    Args:
        about: its `About`.
        input_type: element type of its images, such as "uint8".
        logits: whether it gives logits instead of probabilities.
    """
    text = f"Image classifier {about.variant}, by effnet_tf {__version__}."
    model = (
        about.variant,
        text,
        __version__,
        [(None, None, [_image(about, input_type)], [_score(about, logits)])],
        None,
        None,
        None,
        "1.0.0",
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(fields.put(builder, model), _IDENTIFIER)
    return bytes(builder.Output())


def _image(about, input_type):
    """Returns the table of the images, for `_put`."""
    mean, std = _normalization(about)
    low, high = _FULL_RANGE.get(input_type, (None, None))
    if low is None:
        low = [(0 - m) / s for m, s in zip(mean, std)]
        high = [(255 - m) / s for m, s in zip(mean, std)]
    return (
        "image",
        "RGB image of the size of this tensor. Its pixels, in [0, 255], become "
        "(pixel - mean) / std with the mean and std of NormalizationOptions.",
        None,
        (_IMAGE_PROPERTIES, (_RGB,)),
        [(_NORMALIZATION, (_floats(mean), _floats(std)))],
        (_floats(high), _floats(low)),
    )


def _score(about, logits):
    """Returns the table of the scores, for `_put`."""
    name, range_, files = "probability", (_floats([1]), _floats([0])), None
    if logits:
        name, range_ = "logit", None
    if about.class_names:
        files = [(LABELS, "Names of the classes, one per line.", _AXIS_LABELS)]
    return name, "One score per class.", None, None, None, range_, files


def read(data: bytes) -> Metadata | None:
    """Returns the `Metadata` of a .tflite file's bytes, or None where there are none.

    Anybody's file; what is missing in it, or damaged, is empty.
    """
    entry = flatbuffer.get_entry(flatbuffer.read(data), ENTRY)
    if entry is None or entry[4:8] != _IDENTIFIER:
        return None
    try:
        return _parse(entry)
    except Exception:  # whatever the offsets of a damaged one lead to
        return Metadata()


def labels(data: bytes) -> list[str]:
    """Returns the class names that are packed behind a .tflite file's bytes; [] without."""
    described = read(data)
    wanted = LABELS
    if described and described.labels_file:
        wanted = described.labels_file
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entry = archive.getinfo(wanted)
            if entry.file_size > _MAX_LABELS:
                return []
            with archive.open(entry) as file:  # the claimed size may be wrong
                text = file.read(_MAX_LABELS).decode("utf-8", "replace")
    except Exception:  # zip, zlib, struct and others, whatever a damaged archive leads to
        return []
    return lines(text)


def lines(text: str) -> list[str]:
    """Returns the lines of a file of class names; ends of files of any system."""
    found = text.replace("\r\n", "\n").split("\n")
    if found[-1] == "":
        found.pop()
    return found


def _gives_logits(model):
    names = [
        flatbuffer.name(tensor.name)
        for signature in model.signatureDefs or []
        for tensor in signature.outputs
    ]
    return names == ["logits"]


def _normalization(about):
    """Returns what the caller of a file must do to pixels: (mean, std), as long as each other."""
    if about.normalizes or not about.mean:
        return (0.0,), (1.0,)
    return about.mean, about.std


def _with_labels(data, names):
    """Appends the archive; its offsets count from the start of the file, as readers expect."""
    if not names:
        return data
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS, _DATE), labels_text(names).encode())
    return file.getvalue()


def _floats(values):
    return np.asarray(values, "float32").reshape(-1)


def _parse(entry):
    model = Table(entry, int(np.frombuffer(entry, "<u4", 1)[0]))
    graph = (fields.tables(model, _MODEL_SUBGRAPHS) or [None])[0]
    mean, std, labels_file = (), (), None
    for unit in _of_first(graph, _GRAPH_INPUTS, _TENSOR_UNITS):
        if fields.byte(unit, 0) == _NORMALIZATION:
            options = fields.table(unit, 1)
            mean, std = fields.vector(options, 0), fields.vector(options, 1)
    for file in reversed(_of_first(graph, _GRAPH_OUTPUTS, _TENSOR_FILES)):
        if fields.byte(file, _FILE_KIND) == _AXIS_LABELS:
            labels_file = fields.text(file, _FILE_NAME)  # the first of several is the default
    return Metadata(
        fields.text(model, _MODEL_NAME),
        fields.text(model, _MODEL_DESCRIPTION),
        mean,
        std,
        labels_file,
    )


def _of_first(graph, tensors, slot):
    """Returns the tables in a field of a graph's first input or output."""
    if not graph:
        return []
    described = fields.tables(graph, tensors)
    if not described:
        return []
    return fields.tables(described[0], slot)
