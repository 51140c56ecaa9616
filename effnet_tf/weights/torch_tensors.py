"""What is a tensor to PyTorch, and how do its bytes become an array?

A tensor is a view of a storage: where it begins, its size, and the steps (strides) between
neighbours, counted in numbers. The functions here stand in the place of those of PyTorch that
rebuild tensors (torch/_utils.py). Standard library and NumPy only.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from effnet_tf.weights import bfloat16
from effnet_tf.weights.pickle_stack import Inert
from effnet_tf.weights.pickles import Global

_DIMENSIONS = 64  # the limit of PyTorch, and of NumPy
_LARGEST = 1 << 48  # bytes that no machine has

_BFLOAT16 = "bfloat16"
TYPES = {
    "float64": "<f8",
    "float32": "<f4",
    "float16": "<f2",
    _BFLOAT16: bfloat16.HALF,
    "int64": "<i8",
    "int32": "<i4",
    "int16": "<i2",
    "int8": "i1",
    "uint64": "<u8",
    "uint32": "<u4",
    "uint16": "<u2",
    "uint8": "u1",
    "bool": "?",
    "complex64": "<c8",
    "complex128": "<c16",
}
_OF_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": _BFLOAT16,
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "UntypedStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    # Of quantized tensors, which are not read.
    "QInt8Storage": "int8",
    "QUInt8Storage": "uint8",
    "QInt32Storage": "int32",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Storage:
    """A piece of memory that a file holds.

    Attributes:
        kind: its type in PyTorch, such as "float32".
        key: its name in the file.
        count: of its numbers.
        start: the first of them that belongs to it, where it is part of another one.
        length: numbers from there on.
    """

    kind: str
    key: str
    count: int
    start: int
    length: int


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage.

    Attributes:
        storage: which.
        kind: its type in PyTorch, such as "float32"; may be one that NumPy lacks.
        offset: of its first number in the storage.
        size: its shape.
        stride: steps between neighbours, per dimension.
    """

    storage: Storage
    kind: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


# --- what a pickle calls --------------------------------------------------------------------


def persistent(identifier: Any) -> Storage | Global:
    """Returns what a pickle means by ("storage", type, key, device, count, ...).

    Or by ("module", class, ...), with which PyTorch before 1.6 kept the source of a class.

    Raises:
        ValueError: it means something else.
    """
    if isinstance(identifier, tuple) and len(identifier) > 1 and identifier[0] == "module":
        if isinstance(identifier[1], Global):
            return identifier[1]
    is_tuple = isinstance(identifier, tuple) and len(identifier) in (5, 6)
    if not is_tuple or identifier[0] != "storage":
        raise ValueError("it refers to something that is not a storage")
    _, kind, key, _, count, *part = identifier
    if not (isinstance(kind, Global) and isinstance(key, str) and _are_counts([count])):
        raise ValueError("it describes a storage wrongly")
    start, length = 0, count
    if part and part[0] is not None:  # (name, start, length), until PyTorch 0.4
        _, start, length = part[0]
        if not _are_counts([start, length]) or start + length > count:
            raise ValueError("a storage is not inside the one that it is part of")
    name = kind.name.rpartition(".")[2]
    return Storage(_OF_STORAGES.get(name, name), key, count, start, length)


def _tensor(held: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Tensor:
    """In the place of `_rebuild_tensor` and `_rebuild_tensor_v2`."""
    if not isinstance(held, Storage):
        raise ValueError("a tensor is not made of a storage")
    kind = held.kind
    if len(rest) > 2 and isinstance(rest[2], dict) and any(map(rest[2].get, ("conj", "neg"))):
        kind = "conjugate or negative view"  # of complex numbers: no weights
    return _view(held, kind, offset, size, stride)


def _tensor_v3(
    held: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, kind: Any, *rest: Any
) -> Tensor:
    """In the place of `_rebuild_tensor_v3`, whose storage has bytes only."""
    if not (isinstance(held, Storage) and isinstance(kind, Global)):
        raise ValueError("a tensor is not made of a storage and a type")
    return _view(held, kind.name.removeprefix("torch."), offset, size, stride)


def _view(held, kind, offset, size, stride):
    if not (isinstance(size, tuple) and isinstance(stride, tuple)):
        raise ValueError("a tensor has no size or strides")
    if len(size) != len(stride) or len(size) > _DIMENSIONS:
        raise ValueError("a tensor has other dimensions than strides, or too many")
    if not _are_counts([offset, *size, *stride]):
        raise ValueError("a tensor's size or strides are not whole numbers from 0 on")
    return Tensor(held, kind, offset, size, stride)


def _parameter(tensor: Any, *rest: Any) -> Any:
    """In the place of `_rebuild_parameter`: a tensor that is trained."""
    return tensor


def _from_type(function: Any, kind: Any, arguments: Any, state: Any) -> Any:
    """In the place of `_rebuild_from_type_v2`: a tensor with attributes."""
    if not isinstance(function, Global):
        raise TypeError
    return _TENSORS[function.name](*arguments)


def _ordered_dict(items: Sequence = ()) -> dict:
    """In the place of OrderedDict; Python 2 gives it its items at once."""
    return {key: value for key, value in items if isinstance(key, str)}


def _default_dict(*default: Any) -> dict:
    """In the place of defaultdict, which gets its items later."""
    return {}


def _size(sizes: tuple = ()) -> tuple:
    """In the place of torch.Size."""
    if not isinstance(sizes, tuple):
        raise TypeError
    return sizes


def _plain_value(*arguments: Any) -> Inert:
    """In the place of numbers of NumPy, devices and the like."""
    return Inert("a plain value")


_TENSORS = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
}
# Of no use here, but as harmless to PyTorch as tensors: so they are not spoken of.
_PLAIN = (
    "_codecs.encode",
    "__builtin__.set",
    "builtins.set",
    "builtins.complex",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "torch.device",
)
FUNCTIONS = {
    **_TENSORS,
    **dict.fromkeys(_PLAIN, _plain_value),
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch.Size": _size,
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
}


def _are_counts(values):
    return all(type(each) is int and 0 <= each < _LARGEST for each in values)


# --- arrays ---------------------------------------------------------------------------------


def array(tensor: Tensor, held: bytes | memoryview) -> np.ndarray:
    """Returns a tensor as an array; bfloat16 as float32.

    Args:
        tensor: of a type in `TYPES`.
        held: the bytes of its storage, from the first number on.

    Raises:
        ValueError: it reaches out of its storage.
    """
    own, kind = width(tensor.storage.kind), np.dtype(TYPES[tensor.kind])
    part = memoryview(held)[tensor.storage.start * own :][: tensor.storage.length * own]
    numbers = np.frombuffer(part[: len(part) // kind.itemsize * kind.itemsize], kind)
    if 0 in tensor.size:
        found = np.zeros(tensor.size, kind)
    else:
        found = _strided(numbers, tensor)
    if tensor.kind == _BFLOAT16:
        found = bfloat16.widen(found)
    return found


def _strided(numbers, tensor):
    last = sum((size - 1) * stride for size, stride in zip(tensor.size, tensor.stride))
    if tensor.offset + last >= len(numbers):
        raise ValueError("a tensor reaches out of its storage")
    steps = [stride * numbers.itemsize for stride in tensor.stride]
    return np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.size, steps, writeable=False
    )


def width(kind: str) -> int:
    """Returns the bytes of one number of a type in `TYPES`.

    Raises:
        ValueError: it is another type.
    """
    if kind not in TYPES:
        raise ValueError(f"its numbers of type {kind} are not known")
    return np.dtype(TYPES[kind]).itemsize


def bytes_of(tensor: Tensor) -> int:
    """Returns how many bytes a tensor may take in memory, where bfloat16 becomes float32."""
    return max(4, width(tensor.kind)) * math.prod(tensor.size)
