"""Which images are most alike, by the angle between their features?"""

import heapq
from collections.abc import Sequence

import numpy as np

from effnet_tf import plots
from effnet_tf.errors import InputError, printable
from effnet_tf.inference import photos
from effnet_tf.inference.embedding import Embedding
from effnet_tf.inference.subjects import Subject

FIRST = 12  # images that are queries where nobody names any


class Nearest:
    """Finds the nearest images of each query, of any number that pass by.

    Args:
        queries: whose neighbours are looked for; bad images are none.
        most: how many of each.
    """

    def __init__(self, queries: Sequence[Embedding], most: int) -> None:
        good = [each for each in queries if each.features is not None]
        self.queries, self._most = [each.image for each in good], most
        self._units = [_unit(each.features) for each in good]
        self._kept: list[list] = [[] for _ in good]
        self._number = 0

    def add(self, embedding: Embedding) -> None:
        """Takes note of an image; a query is no neighbour of its own."""
        if embedding.features is None:
            return
        self._number += 1
        unit = _unit(embedding.features)
        for query, other, kept in zip(self.queries, self._units, self._kept):
            if query == embedding.image:
                continue
            # Of equals the first stays.
            heapq.heappush(kept, (float(other @ unit), -self._number, embedding.image))
            if len(kept) > self._most:
                heapq.heappop(kept)

    def rows(self) -> list[tuple[str, list[tuple[str, float]]]]:
        """Returns (query, [(image, cosine in [-1, 1])], the nearest first) of each query."""
        found = []
        for query, kept in zip(self.queries, self._kept):
            nearest = [(image, cosine) for cosine, _, image in sorted(kept, reverse=True)]
            found.append((query, nearest))
        return found


def _unit(features):
    """Of length 1; where all numbers are 0 it stays so."""
    wide = np.asarray(features, "float64")
    return wide / max(np.linalg.norm(wide), 1e-30)


def lines(nearest: Nearest) -> list[str]:
    """Returns what is printed: "a.jpg: b.jpg 0.981, c.jpg 0.975"."""
    found = []
    for query, images in nearest.rows():
        names = ", ".join(f"{printable(image)} {cosine:.3f}" for image, cosine in images)
        found.append(f"{printable(query)}: {names or 'no other image'}")
    return found


def draw(nearest: Nearest, subject: Subject, path: str) -> bool:
    """Draws each query with its nearest images beside it, as many queries as fit.

    Args:
        nearest: what was found.
        subject: the network, which says how images are cut.
        path: of the PNG file.

    Returns:
        Whether it was drawn.

    Raises:
        InputError: an image is gone.
    """
    rows = nearest.rows()
    columns = 1 + max((len(images) for _, images in rows), default=0)
    titles: list[str] = []
    captions: list[str] = []
    for query, images in rows[: max(plots.MOST // columns, 1)]:
        titles += [query, *(image for image, _ in images)]
        captions += [_short(query), *(f"{cosine:.3f} {_short(image)}" for image, cosine in images)]
    pixels = []
    for each in photos.examples(titles, subject):
        if each.pixels is None:  # it was there when its features were computed
            raise InputError(f"'{each.title}' cannot be used any more: {each.fault}.")
        pixels.append(photos.to_bytes(each.pixels))
    return plots.predictions(pixels, captions, [None] * len(pixels), path, columns)


def _short(path):
    """The last letters of a path, which tell images in folders of one kind apart."""
    text = path.replace("\\", "/")
    if len(text) <= 40:
        return text
    return f"...{text[-37:]}"
