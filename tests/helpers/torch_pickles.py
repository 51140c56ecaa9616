"""Files as PyTorch writes them, made by hand: the opcodes of its pickles, byte for byte.

So that tests need no PyTorch, and can write what PyTorch never would.
"""

import io
import struct
import zipfile

import numpy as np

MAGIC, VERSION = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", b"\x80\x02M\xe9\x03."
STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "bfloat16": "BFloat16Storage",
}


class Raw(bytes):
    """Opcodes that push one object."""


def name(module, function):
    return Raw(f"c{module}\n{function}\n".encode())


def call(function, *arguments):
    """Calls a function, as "torch._utils._rebuild_tensor_v2"."""
    return Raw(push(name(*function.rsplit(".", 1))) + push(arguments) + b"R")


def push(value):
    """The opcodes that push a value, as Python's own pickler of protocol 2 writes them."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, tuple):
        return b"(" + b"".join(map(push, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(push, value)) + b"e"
    if isinstance(value, dict):
        return b"}(" + b"".join(push(key) + push(each) for key, each in value.items()) + b"u"
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, int) and not isinstance(value, bool):
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)
    return {None: b"N", True: b"\x88", False: b"\x89"}[value]


def pickled(value):
    return b"\x80\x02" + push(value) + b"."


def storage(kind, key, count, *rest):
    """What is kept elsewhere: numbers of a type such as "float32"."""
    described = ("storage", name("torch", STORAGES.get(kind, kind)), key, "cpu", count, *rest)
    return Raw(push(described) + b"Q")


def tensor(held, size, offset=0, stride=None):
    """A view of a storage."""
    if stride is None:
        stride = tuple(int(np.prod(size[each + 1 :], dtype=int)) for each in range(len(size)))
    hooks = call("collections.OrderedDict")
    return call("torch._utils._rebuild_tensor_v2", held, offset, size, stride, False, hooks)


class Writer:
    """Collects arrays, each a storage of its own."""

    def __init__(self, zipped=True):
        self.zipped, self.storages = zipped, {}

    def array(self, value):
        """A tensor with the values of an array."""
        key = str(len(self.storages))
        self.storages[key] = value
        rest = () if self.zipped else (None,)
        return tensor(storage(str(value.dtype), key, value.size, *rest), value.shape)

    def state(self, arrays):
        return {key: self.array(value) for key, value in arrays.items()}

    def file(self, saved):
        """The bytes of a file that holds an object."""
        held = {key: (value.size, value.tobytes()) for key, value in self.storages.items()}
        if self.zipped:
            return zip_file(pickled(saved), held)
        return legacy_file(pickled(saved), held)


def zip_file(objects, storages, byteorder=b"little", **others):
    """A zip of a pickle and storages {key: (count, bytes)}; more of its entries by name."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", objects)
        archive.writestr("archive/byteorder", byteorder)
        for key, (_, numbers) in storages.items():
            archive.writestr(f"archive/data/{key}", numbers)
        archive.writestr("archive/version", b"3\n")
        for key, entry in others.items():
            archive.writestr(f"archive/{key}", entry)
    return content.getvalue()


def legacy_file(objects, storages, little=True):
    """The same as PyTorch before 1.6 wrote it."""
    system = {"protocol_version": 1001, "little_endian": little}
    parts = [MAGIC, VERSION, pickled(system), objects, pickled(list(storages))]
    for count, numbers in storages.values():
        parts += [struct.pack("<q", count), numbers]
    return b"".join(parts)
