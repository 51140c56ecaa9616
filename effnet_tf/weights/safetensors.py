"""What does a .safetensors file hold?

Eight bytes with the length of a header, the header (JSON: name -> type, shape and place), and the
numbers. The format is described at github.com/huggingface/safetensors. Standard library and NumPy
only.
"""

import json
import math

import numpy as np

from effnet_tf.errors import InputError, shown
from effnet_tf.weights import bfloat16, claims

_LONGEST_HEADER = 100_000_000  # bytes: the format's own limit
# Python takes some 25 times as much memory for what a header says. L2 needs 0.3 MB.
_MOST_HEADER = 10_000_000
_DIMENSIONS = 64  # the limit of NumPy; the product of a million sides would take hours
_BFLOAT16 = "BF16"
_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    _BFLOAT16: bfloat16.HALF,
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}


def recognises(content: bytes) -> bool:
    """Whether a file begins as .safetensors do."""
    return content[8:9] == b"{" and _length(content) < _LONGEST_HEADER


def tensors(file: claims.File) -> dict[str, np.ndarray]:
    """Returns {name: array} of a file; bfloat16 as float32.

    Raises:
        InputError: a type of numbers that NumPy does not have, or a header that no weights need.
        ValueError: the file is damaged.
    """
    start = 8 + _length(file.content)
    if start > _MOST_HEADER:
        raise InputError(
            f"'{file.path}' describes its tensors in {start - 8:,} bytes, more than any weights "
            "need: it is damaged or was made to exhaust memory, so it was not read."
        )
    if start > len(file.content):
        raise ValueError("its header is cut off")
    header = json.loads(file.content[8:start])
    header.pop("__metadata__", None)
    found, held = {}, memoryview(file.content)[start:]
    for name, entry in header.items():
        if entry["dtype"] not in _TYPES:
            raise InputError(
                f"'{file.path}' holds tensors of type {shown(entry['dtype'])}: save them as "
                "float32, float16 or bfloat16."
            )
        found[name] = _tensor(name, entry, held)
    if sum(each.nbytes for each in found.values()) > 2 * len(held):  # bfloat16 doubles
        raise ValueError("its tensors overlap")
    return found


def _length(content):
    return int.from_bytes(content[:8], "little")


def _tensor(name, entry, held):
    kind, shape = np.dtype(_TYPES[entry["dtype"]]), tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if len(shape) > _DIMENSIONS:
        raise ValueError(f"'{shown(name)}' has {len(shape):,} dimensions")
    if any(type(each) is not int or each < 0 for each in (*shape, begin, end)):
        raise ValueError(f"'{shown(name)}' has a shape or place that is not of whole numbers")
    if end > len(held) or end - begin != math.prod(shape) * kind.itemsize:
        raise ValueError(f"'{shown(name)}' has not the bytes that its shape needs")
    value = np.frombuffer(held[begin:end], kind).reshape(shape)
    if entry["dtype"] == _BFLOAT16:
        value = bfloat16.widen(value)
    return value
