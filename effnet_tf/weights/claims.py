"""May a weights file from a stranger be opened, by what it claims before it is read?

A few bytes can claim gigabytes (compressed data sets, zip archives, shapes), and an HDF5 file
can name other files of this machine as the place of its numbers.
"""

import dataclasses
import io
import math
import zipfile

import h5py

from effnet_tf import storage
from effnet_tf.errors import InputError, first_line

HDF5, ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"  # how such files begin

RATIO, SMALL = 20, 64 << 20  # weights hardly shrink when they are packed; little files may
PARAMETERS = 1 << 29  # of a model of unknown size: L2 has 480 millions
SLACK, COPIES = 1 << 30, 40  # optimiser slots, averages, the weights of a larger variant


def most_bytes(parameters: int) -> int:
    """Returns how many bytes a file of weights for a model may have, packed or not."""
    return SLACK + COPIES * 4 * parameters


@dataclasses.dataclass(frozen=True)
class File:
    """A file that has been read, and how many bytes it may claim to hold."""

    path: str
    content: bytes
    most: int

    def h5(self, content: bytes | None = None) -> h5py.File:
        """Opens it, or what was inside it, as HDF5, once it is known to be harmless."""
        if content is None:
            content = self.content
        root = h5py.File(io.BytesIO(content))
        check_h5(self.path, root, len(content), self.most)
        return root

    def archive(self) -> zipfile.ZipFile:
        """Opens it as a zip archive, once its entries are known to be no larger than they may."""
        archive = zipfile.ZipFile(io.BytesIO(self.content))
        check_zip(self.path, archive, len(self.content), self.most)
        return archive


def check(path: str, claimed: int, length: int, most: int) -> None:
    """Refuses a file whose content would be far larger than it is, or than it may be.

    Args:
        path: of the file.
        claimed: bytes of its content, unpacked, as it says itself.
        length: of the file, in bytes.
        most: the result of `most_bytes`.

    Raises:
        InputError: it claims too much.
    """
    if claimed > most or claimed > SMALL + RATIO * length:
        raise InputError(
            f"'{path}' has {length:,} bytes and claims to hold {claimed:,} bytes of weights, "
            "more than is possible: it is damaged or was made to exhaust memory, so it was not "
            "read."
        )


def check_zip(path: str, archive: zipfile.ZipFile, length: int, most: int) -> None:
    """Refuses a zip archive that claims too much; see `check`."""
    check(path, sum(info.file_size for info in archive.infolist()), length, most)


def check_h5(path: str, root: h5py.File, length: int, most: int) -> None:
    """Refuses an HDF5 file that reaches outside itself, holds a cycle, or claims too much.

    Args:
        path: of the file, for messages.
        root: the open `h5py.File`; only headers are read.
        length: see `check`.
        most: see `check`.

    Raises:
        InputError: it is one of these.
    """
    claimed, seen, waiting = 0, set(), [root]
    while waiting:
        group = waiting.pop()
        place = h5py.h5o.get_info(group.id).addr
        if place in seen:
            raise InputError(
                f"'{path}' holds its group '{group.name}' twice, which no weights file does, so "
                "it was not read."
            )
        seen.add(place)
        for name in group:
            item = _own(path, group, name)
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                claimed += _claimed(path, item)
    check(path, claimed, length, most)


def _own(path, group, name):
    """Opens what a group holds; refuses links to elsewhere."""
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        target = getattr(link, "filename", None) or link.path
        raise InputError(
            f"'{path}' holds '{name}' as a link to '{target}', which no weights file does, so it "
            "was not read."
        )
    return group[name]


def _claimed(path, dataset):
    """Returns the bytes of a data set; refuses one whose numbers lie in other files."""
    properties = dataset.id.get_create_plist()
    if properties.get_external_count() or properties.get_layout() == h5py.h5d.VIRTUAL:
        raise InputError(
            f"'{path}' takes '{dataset.name}' from other files on this machine, which no weights "
            "file does, so it was not read."
        )
    return math.prod(dataset.shape or (0,)) * dataset.dtype.itemsize


def check_keras_file(path: str) -> None:
    """Checks a file that Keras will load, as `File` checks those that we read.

    Args:
        path: of a .keras or HDF5 file; any other kind passes.

    Raises:
        InputError: it cannot be read, or must not be opened.
    """
    try:
        storage.check_place(path, "model")
        most = most_bytes(PARAMETERS)
        file = File(path, storage.read_bytes(path, most), most)
        if file.content.startswith(HDF5):
            file.h5().close()
        elif file.content.startswith(ZIP):
            archive = file.archive()
            for name in archive.namelist():
                if name.endswith(".h5"):
                    file.h5(archive.read(name)).close()
    except InputError:
        raise
    except Exception as error:  # h5py and zipfile raise anything for a damaged file
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
