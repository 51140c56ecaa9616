"""What is told at the end of many predictions: how many there were, and which images failed?"""

from collections.abc import Sequence

from effnet_tf import plots
from effnet_tf.errors import InputError
from effnet_tf.inference import photos
from effnet_tf.inference.embedding import Embedding
from effnet_tf.inference.explaining import Explanation
from effnet_tf.inference.predicting import Prediction

_SHOWN = 5  # bad images that the last sentence names
Answer = Prediction | Explanation | Embedding


class Tally:
    """Counts predictions, and keeps the first for a picture.

    Args:
        picture: PNG file to draw them to, or None.
    """

    def __init__(self, picture: str | None = None):
        self._picture = picture
        self._total = self._bad = 0
        self._faults: list[str] = []
        self._kept: list[Prediction] = []

    def add(self, prediction: Answer) -> None:
        """Counts one."""
        self._total += 1
        if prediction.fault is not None:
            self._bad += 1
            if len(self._faults) < _SHOWN:
                self._faults.append(f"'{prediction.image}': {prediction.fault}")
        elif isinstance(prediction, Prediction) and self._picture:
            if len(self._kept) < plots.MOST:
                self._kept.append(prediction)

    def finish(self, notes: Sequence[str], written: Sequence[str]) -> None:
        """Draws, and says what there was.

        Args:
            notes: lines on what was passed over.
            written: files that were.

        Raises:
            InputError: some of the images could not be used.
        """
        for line in notes:
            print(line)
        if written:
            print(f"Wrote {' and '.join(written)}: {self._total:,} images")
        if self._picture and not self._kept:
            print(f"There is no image to draw, so there is no new {self._picture}")
        elif self._picture and _draw(self._kept, self._picture):
            print(f"Drew {self._picture}: {len(self._kept):,} of {self._total:,} images")
        self.check()

    @property
    def good(self) -> int:
        """How many could be used."""
        return self._total - self._bad

    def check(self) -> None:
        """Raises InputError, which names them, if some of the images could not be used."""
        if self._bad:
            more = ""
            if self._bad > len(self._faults):
                more = f"; and {self._bad - len(self._faults):,} more"
            others = ""
            if self._bad < self._total:
                others = " All others are answered."
            raise InputError(
                f"{self._bad:,} of {self._total:,} images cannot be used: "
                f"{'; '.join(self._faults)}{more}.{others}"
            )


def _draw(predictions, path):
    images, captions = [], []
    for each in predictions:
        images.append(photos.to_bytes(each.pixels))
        captions.append("nothing")
        if each.classes:
            captions[-1] = f"{each.classes[0]} ({each.probabilities[0]:.0%})"
    return plots.predictions(images, captions, [None] * len(images), path)
