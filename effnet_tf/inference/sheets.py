"""Where do pictures of explanations go: each to a file in a folder, or the first to one file?"""

import os

from effnet_tf import plots, storage
from effnet_tf.inference import overlays
from effnet_tf.inference.explaining import Explanation

SHEET_WIDTH = 1.7  # inches of an image on a sheet


class Folder:
    """Draws each explanation to a picture of its own.

    Args:
        path: of the folder, which is made.
        method: the end of the names: photo.jpg becomes photo-grad_cam.png, and another photo.jpg
            photo-grad_cam-2.png. So no picture takes the place of a photograph.
    """

    is_full = False  # never

    def __init__(self, path: str, method: str) -> None:
        self._path, self._method = path, method
        self._names: set[str] = set()
        self._drawn = 0
        with storage.writing(path):
            os.makedirs(path, exist_ok=True)

    def add(self, explanation: Explanation) -> str | None:
        """Draws one, unless it is a bad image; returns the path of the picture."""
        if explanation.fault is not None:
            return None
        path = os.path.join(self._path, self._name(explanation.image))
        if overlays.draw([explanation], path, overlays.WIDTH):
            self._drawn += 1
            return path
        return None

    def _name(self, image):
        stem = os.path.splitext(os.path.basename(image))[0]
        name, number = f"{stem}-{self._method}.png", 1
        while name.casefold() in self._names:
            number += 1
            name = f"{stem}-{self._method}-{number}.png"
        self._names.add(name.casefold())
        return name

    def finish(self) -> list[str]:
        """Returns what is said at the end."""
        if not self._drawn:
            return [f"There was nothing to draw to {self._path}"]
        return [f"Drew {self._drawn:,} pictures to {self._path}"]


class Sheet:
    """Draws the first explanations to one picture.

    Args:
        path: of the PNG file.
        count: classes of each image.
    """

    def __init__(self, path: str, count: int) -> None:
        self._path, self._kept = path, list[Explanation]()
        self._most = max(plots.MOST // (1 + count), 1)

    @property
    def is_full(self) -> bool:
        """Whether no more images have a place."""
        return len(self._kept) == self._most

    def add(self, explanation: Explanation) -> None:
        """Keeps one, unless it is a bad image."""
        if explanation.fault is None:
            self._kept.append(explanation)

    def finish(self) -> list[str]:
        """Draws; returns what is said at the end."""
        if not self._kept:
            return [f"There is no image to draw, so there is no new {self._path}"]
        if not overlays.draw(self._kept, self._path, SHEET_WIDTH):
            return []
        line = f"Drew {self._path}: {len(self._kept):,} images"
        if self.is_full:
            line += ", as many as a picture takes; --out FOLDER draws all of any number"
        return [line]


def place(out: str, count: int, method: str) -> Folder | Sheet:
    """Returns where --out means.

    Args:
        out: a file if it ends in .png and is no folder already; else a folder.
        count: classes of each image.
        method: of the explanations.
    """
    if out.lower().endswith(".png") and not os.path.isdir(out):
        return Sheet(out, count)
    return Folder(out, method)
