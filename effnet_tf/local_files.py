"""Which files lie below a folder, may a path be read at all, and how is one written?

Only regular files are read: opening a FIFO waits for ever, a device has no end. Every file
and every folder counts once, however many links lead to it. Needs no TensorFlow: paths on
this machine only, not gs:// and the like.
"""

import collections
import contextlib
import dataclasses
import os
import stat

from effnet_tf.errors import InputError, SaveError, first_line

# In any case. Files are decoded by what they hold; the name says what is worth opening.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp")
# Images that TensorFlow cannot decode.
OTHER_KINDS = {
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".heic": "HEIC",
    ".heif": "HEIC",
    ".avif": "AVIF",
    ".svg": "SVG",
    ".pdf": "PDF",
    ".jp2": "JPEG 2000",
    ".jxl": "JPEG XL",
    ".psd": "Photoshop",
    ".ico": "ICO",
    ".tga": "TGA",
    ".eps": "EPS",
    ".ppm": "PPM",
    ".pgm": "PGM",
    ".pbm": "PBM",
    ".dng": "raw camera",
    ".cr2": "raw camera",
    ".cr3": "raw camera",
    ".nef": "raw camera",
    ".arw": "raw camera",
    ".raw": "raw camera",
    ".dcm": "DICOM",
    ".npy": "NumPy",
}
MAX_IMAGE_BYTES = 1 << 28  # 256 MiB; the largest that can be decoded has 402 MB as pixels
# What operating systems and tools leave in folders. Names that begin with a dot, too.
LITTER = (
    "__macosx",
    "@eadir",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "$recycle.bin",
    "system volume information",
    "#recycle",
    "lost+found",
)

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or what a system puts beside the user's files."""
    return name.startswith(".") or name.casefold() in LITTER


def is_image(name: str) -> bool:
    """Whether a name is that of an image file that can be read."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def not_regular(path: str) -> str | None:
    """Says what a path is that is there and is not a regular file; None: it may be opened."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return None  # opening it says why
    if stat.S_ISREG(mode):
        return None
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "not a file")


def not_an_image(path: str) -> str | None:
    """Says why a path must not be opened as an image; None: it may, or it is not there."""
    kind = not_regular(path)
    if kind is None and os.path.exists(path) and os.path.getsize(path) > MAX_IMAGE_BYTES:
        return f"larger than {MAX_IMAGE_BYTES >> 20} MiB"
    return kind


def identity(path: str) -> tuple | str:
    """Returns what all links to one file have in common."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return os.path.normpath(path)
    return (found.st_dev, found.st_ino) if found.st_ino else os.path.normpath(path)


def read(path: str, limit: int) -> bytes:
    """Returns the content of a regular file.

    Args:
        path: of the file.
        limit: its greatest size in bytes, looked at before it is read.

    Raises:
        InputError: it is something else, or larger.
        OSError: it cannot be opened.
    """
    kind = not_regular(path)
    if kind:
        raise InputError(f"'{path}' is {kind}; it must be a regular file.")
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise InputError(f"'{path}' has {size:,} bytes; the limit is {limit:,}.")
        return file.read(limit)


def write(path: str, content: bytes) -> None:
    """Writes a file whole or not at all.

    Raises:
        SaveError: it cannot be written.
    """
    temporary = f"{path}.tmp"
    try:
        with open(temporary, "wb") as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise SaveError(f"'{path}' cannot be written: {first_line(error)}.") from error


@dataclasses.dataclass
class Walk:
    """Walks folders; every file and folder that it has met is not met again.

    One `Walk` for all folders of a data set: an image to which links lead from two of them
    would be trained on as two, or be trained on and held out.

    Attributes:
        left_out: {why: how many} of what was passed over.
        examples: {why: path of the first}.
    """

    left_out: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    examples: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self._files, self._folders, self._above, self._noted = {}, {}, {}, set()

    def enter(self, folder: str) -> str | None:
        """Marks a folder as seen; returns the path under which it was seen before, if it was.

        A link back to it, or to a folder above it, is not followed from now on.
        """
        above = os.path.dirname(os.path.realpath(folder))
        while _seen(self._above, os.stat(above), above) is None and above != os.sep:
            above = os.path.dirname(above)
        return _seen(self._folders, os.stat(folder), folder)

    def folders(self, root: str) -> list[str]:
        """Returns the sorted names of the folders in a folder, but for links back and litter."""
        return [
            entry.name
            for entry in self._listed(root)
            if not is_litter(entry.name) and self._is_new_folder(entry)
        ]

    def images(self, root: str) -> list[str]:
        """Returns the image files below a folder that has been entered, sorted by their paths."""
        found, waiting = [], [root]
        while waiting:
            for entry in self._listed(waiting.pop()):
                if is_litter(entry.name):
                    continue
                if self._is_new_folder(entry):
                    self.enter(entry.path)
                    waiting.append(entry.path)
                elif self._is_usable(entry):
                    found.append(entry.path)
        return sorted(found)

    def _listed(self, folder):
        try:
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._leave_out(f"folders that cannot be read ({error.strerror})", folder)
            return []

    def _is_new_folder(self, entry):
        """Whether an entry is a folder to walk; one that was seen is noted, and is none."""
        try:
            if not entry.is_dir():
                return False
            found = entry.stat()
        except OSError:
            return False
        mark = found.st_dev, found.st_ino
        before = self._folders.get(mark)
        if before is None and entry.is_symlink():
            before = self._above.get(mark)
        if before:
            self._leave_out("links to folders that are there already", entry.path, before)
        return before is None

    def _is_usable(self, entry):
        """Whether an entry is an image file to read; if not, it is noted."""
        try:
            found = entry.stat()
        except OSError:
            self._leave_out("links that lead nowhere", entry.path)
            return False
        if stat.S_ISDIR(found.st_mode):
            return False  # noted as a folder
        if not stat.S_ISREG(found.st_mode):
            self._leave_out("not regular files (FIFOs, sockets, devices)", entry.path)
        elif not is_image(entry.name):
            self._leave_out(_kind_of(entry.name), entry.path)
        elif found.st_size > MAX_IMAGE_BYTES:
            self._leave_out(f"larger than {MAX_IMAGE_BYTES >> 20} MiB", entry.path)
        else:
            before = _seen(self._files, found, entry.path)
            if before is None:
                return True
            self._leave_out("links to images that are there already", entry.path, before)
        return False

    def _leave_out(self, why, path, same_as=None):
        if path in self._noted:
            return
        self._noted.add(path)
        self.left_out[why] += 1
        if same_as:
            path = f"{path} = {same_as}"
        self.examples.setdefault(why, path)

    def report(self) -> list[str]:
        """Returns a line for each reason why something was left out."""
        return [
            f"Left out {count:,}: {why}, such as {self.examples[why]}"
            for why, count in sorted(self.left_out.items())
        ]


def _seen(known, found, path):
    """Returns the path under which a file was seen before, and notes it if it was not."""
    if not found.st_ino:  # some network file systems have no such numbers
        return None
    before = known.setdefault((found.st_dev, found.st_ino), path)
    if before is path:
        return None
    return before


def _kind_of(name):
    suffix = os.path.splitext(name)[1].lower()
    if suffix in OTHER_KINDS:
        return f"{OTHER_KINDS[suffix]} files, which cannot be decoded: convert them to JPEG or PNG"
    return f"files that are not images ({', '.join(IMAGE_SUFFIXES)})"
