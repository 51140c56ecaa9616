"""Where do objects and numbers lie in a file of PyTorch's?

A zip archive, since PyTorch 1.6: `NAME/data.pkl` describes the objects, `NAME/data/KEY` holds the
numbers of one storage, `NAME/byteorder` says "little". Before: five pickles one after another (a
magic number, the version, the system, the objects, the keys of the storages), then for each key
how many numbers there are, and the numbers. See torch/serialization.py.
"""

import dataclasses
import io
from collections.abc import Callable, Mapping

import numpy as np

from effnet_tf.errors import InputError, shown
from effnet_tf.weights import claims, pickles, torch_tensors
from effnet_tf.weights.torch_tensors import Storage, Tensor

_MAGIC = 0x1950A86A20F9469CFC6C
_PICKLE = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))
_OBJECTS = "/data.pkl"


@dataclasses.dataclass(frozen=True)
class Opened:
    """A file whose objects are known.

    Attributes:
        value: what was saved, with `Tensor` and `Inert` inside.
        unknown: names of what it holds besides.
        read: returns the bytes of a storage.
    """

    value: object
    unknown: tuple[str, ...]
    read: Callable[[Storage], bytes | memoryview]


def recognises(file: claims.File) -> bool:
    """Whether a file begins as those of PyTorch do, or at least as a pickle."""
    if file.content.startswith(claims.ZIP):
        return _root(file.archive()) is not None
    return file.content.startswith(_PICKLE)


def open_file(file: claims.File) -> Opened:
    """Reads the objects of a file, and no number of its tensors.

    Raises:
        InputError: PyTorch did not write it; or it was made to attack whoever opens it.
        ValueError: it is damaged.
    """
    if file.content.startswith(claims.ZIP):
        return _open_zip(file)
    return _open_legacy(file)


def arrays(
    file: claims.File, opened: Opened, tensors: Mapping[str, Tensor]
) -> dict[str, np.ndarray]:
    """Returns {name: array} of some tensors of a file; bfloat16 as float32.

    Raises:
        InputError: a type of numbers that NumPy does not have, or more of them than can be.
        ValueError: the file is damaged.
    """
    for tensor in tensors.values():
        if tensor.kind not in torch_tensors.TYPES:
            raise InputError(
                f"'{file.path}' holds tensors of type {shown(tensor.kind)}: save them as float32, "
                "float16 or bfloat16."
            )
    # A tensor with steps of 0 can claim any shape over a single number.
    claimed = sum(map(torch_tensors.bytes_of, tensors.values()))
    claims.check(file.path, claimed, len(file.content), file.most)
    held: dict = {}
    for tensor in tensors.values():
        if tensor.storage.key not in held:
            held[tensor.storage.key] = opened.read(tensor.storage)
    return {
        name: torch_tensors.array(tensor, held[tensor.storage.key])
        for name, tensor in tensors.items()
    }


# --- zip ------------------------------------------------------------------------------------------


def _root(archive):
    """What stands before all names of an archive of PyTorch's; None if it is another one."""
    for name in archive.namelist():
        if name.endswith(_OBJECTS) and name.count("/") == 1:
            return name.removesuffix(_OBJECTS)
    return None


def _open_zip(file):
    archive = file.archive()
    root = _root(archive)
    names = set(archive.namelist())
    if f"{root}/constants.pkl" in names:
        raise InputError(
            f"'{file.path}' holds a program of TorchScript: save model.state_dict() alone."
        )
    if f"{root}/byteorder" in names:
        _check_order(file.path, archive.read(f"{root}/byteorder") == b"little")
    machine = pickles.Machine(file.path, torch_tensors.FUNCTIONS, torch_tensors.persistent)
    value = machine.run(io.BytesIO(archive.read(root + _OBJECTS)))

    def read(storage):
        entry = archive.getinfo(f"{root}/data/{storage.key}")
        if entry.file_size < storage.count * torch_tensors.width(storage.kind):
            raise ValueError(f"storage {entry.filename} is shorter than its tensors need")
        return archive.read(entry)

    return Opened(value, tuple(machine.unknown), read)


def _check_order(path, little):
    if not little:
        raise InputError(
            f"'{path}' was saved on a machine with the other order of bytes (big-endian): save it "
            "again on an ordinary one."
        )


# --- legacy ---------------------------------------------------------------------------------------


def _open_legacy(file):
    seen: dict[str, Storage] = {}

    def persistent(identifier):
        kept = torch_tensors.persistent(identifier)
        if isinstance(kept, Storage):
            seen.setdefault(kept.key, kept)
        return kept

    stream = io.BytesIO(file.content)
    machine = pickles.Machine(file.path, torch_tensors.FUNCTIONS, persistent)
    if machine.run(stream) != _MAGIC:
        raise InputError(f"'{file.path}' is a pickle that PyTorch did not write.")
    machine.run(stream)  # the version, 1001 ever since
    system = machine.run(stream)
    _check_order(file.path, not isinstance(system, dict) or system.get("little_endian") is True)
    value, keys = machine.run(stream), machine.run(stream)
    held = _legacy_storages(memoryview(file.content)[stream.tell() :], keys, seen)
    return Opened(value, tuple(machine.unknown), lambda storage: held[storage.key])


def _legacy_storages(content, keys, seen):
    """Returns {key: bytes} of the storages that follow one another."""
    held, place = {}, 0
    if not isinstance(keys, list) or any(not isinstance(key, str) for key in keys):
        raise ValueError("it does not say how its storages are called")
    for key in keys:
        if key not in seen:
            raise ValueError(f"no tensor uses its storage {key}")
        width = torch_tensors.width(seen[key].kind)
        count = int.from_bytes(content[place : place + 8], "little")
        begin, place = place + 8, place + 8 + count * width
        if count != seen[key].count or place > len(content):
            raise ValueError(f"storage {key} is cut off, or not as large as its tensors need")
        held[key] = content[begin:place]
    return held
