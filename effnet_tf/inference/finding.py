"""Which image files do paths, folders, patterns and a list on standard input mean?

They are yielded one after the other, however many there are: a folder of a million files takes no
more memory than one of a hundred.
"""

import collections
import glob
import itertools
import os
from collections.abc import Iterable, Iterator
from typing import TextIO

from effnet_tf import local_files
from effnet_tf.inference.photos import Example

STDIN = "-"
SORTED = (
    10_000  # entries of a folder that are sorted; those of larger ones come as the disk has them
)


class Finder:
    """Finds image files; what cannot be one is an `Example` with its fault.

    Args:
        lines: what `STDIN` means: a path in each line, or None.

    Attributes:
        left_out: {suffix: how many} files in folders that are no images.
    """

    def __init__(self, lines: TextIO | None = None):
        self._lines = lines
        self.left_out: collections.Counter = collections.Counter()

    def find(self, paths: Iterable[str]) -> Iterator[str | Example]:
        """Yields the image files that paths mean, in their order.

        Args:
            paths: files, folders, patterns such as "photos/*.jpg", or `STDIN`.
        """
        for path in paths:
            if path == STDIN and self._lines is not None:
                listed = (line.rstrip("\r\n") for line in self._lines)
                yield from self.find(line for line in listed if line and line != STDIN)
            elif os.path.isdir(path):
                yield from self._in_folder(path)
            elif os.path.lexists(path) or not glob.has_magic(path):
                yield path
            else:
                yield from self._matching(path)

    def _in_folder(self, folder):
        found = self._below(folder, _above(folder))
        first = next(found, None)
        if first is None:
            yield Example(folder, fault="the folder holds no images")
            return
        yield first
        yield from found

    def _below(self, folder, above):
        """Yields the images of a folder, then those of the folders in it; no link leads back."""
        mark = local_files.identity(folder)
        if mark in above:
            return
        inside = []
        try:
            for name in _names(folder):
                path = os.path.join(folder, name)
                if local_files.is_litter(name):
                    continue
                if os.path.isdir(path):
                    inside.append(path)
                elif local_files.is_image(name):
                    yield path
                else:
                    self.left_out[os.path.splitext(name)[1].lower()] += 1
        except OSError as error:
            yield Example(folder, fault=f"the folder cannot be read: {error.strerror}")
        for path in inside:
            yield from self._below(path, above | {mark})

    def _matching(self, pattern):
        found = glob.iglob(pattern, recursive=True)
        first = next(found, None)
        if first is None:
            yield Example(pattern, fault="there is no such image file, and nothing of this pattern")
            return
        for path in itertools.chain([first], found):
            if os.path.isdir(path):
                yield from self._in_folder(path)
            else:
                yield path

    def report(self) -> list[str]:
        """Returns a line on what was passed over, if anything was."""
        if not self.left_out:
            return []
        kinds = ", ".join(
            f"{count:,} {suffix or 'without a suffix'}"
            for suffix, count in self.left_out.most_common(5)
        )
        total = sum(self.left_out.values())
        return [f"Left out {total:,} file(s) in folders that are no images: {kinds}"]


def _above(folder):
    """The folders that a folder lies in: no link leads back to them."""
    found, inner = set(), os.path.realpath(folder)
    while inner != os.path.dirname(inner):
        inner = os.path.dirname(inner)
        found.add(local_files.identity(inner))
    return found


def _names(folder):
    """Yields the names in a folder, sorted unless there are very many."""
    with os.scandir(folder) as entries:
        names = (entry.name for entry in entries)
        yield from sorted(itertools.islice(names, SORTED))
        yield from names


def count(paths: Iterable[str]) -> int | None:
    """Returns how many images paths mean; None where only reading them tells it."""
    paths = list(paths)
    if STDIN in paths:
        return None
    return sum(1 for _ in Finder().find(paths))
