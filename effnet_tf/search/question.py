"""What is asked of a search of coefficients, and is a folder's search the one that is asked for?"""

import dataclasses
import json
import os

from effnet_tf import local_files
from effnet_tf.errors import InputError, first_line
from effnet_tf.search.candidates import Candidate, enumerate_candidates, sample
from effnet_tf.search.halving import Rung, schedule
from effnet_tf.search.settings import Settings
from effnet_tf.variants import Variant, check_resolution, resolve, to_json
from effnet_tf.variants.variant_files import from_json

FILE = "question.json"
MOST_BYTES = 1 << 22
CHOICE_FOLD = 0  # the candidates are compared on it, and never reported on it


@dataclasses.dataclass(frozen=True)
class Question:
    """A search of coefficients, in full: its trainings are functions of this and the images.

    Attributes:
        base: that is scaled; its classifier has the classes of the images.
        images: name of the data set.
        digest: of its pixels and labels, see `Images.digest`.
        factor: on the base's counted multiply-adds.
        tolerance: the largest relative distance from that.
        seeds: of each network that comes to the last rung, and as many for the report.
        folds: equal parts of the images; one is held out for the choice, the others for the report.
        most: candidates are drawn at random if there are more.
        multiple_of: of sides, in pixels.
        most_pixels: no side is larger; None: any.
        halving: whether the worse half of the candidates gets no more seeds, and so on.
        settings: of the trainings.

    Raises:
        InputError: a number is out of range.
    """

    base: Variant
    images: str
    digest: str
    factor: float = 2.0
    tolerance: float = 0.03
    seeds: int = 5
    folds: int = 5
    most: int = 32
    multiple_of: int = 1
    most_pixels: int | None = None
    halving: bool = True
    settings: Settings = Settings()  # noqa: RUF009  frozen

    def __post_init__(self):
        for name, least in (("seeds", 2), ("folds", 2), ("most", 2)):
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}; it must be at least {least}.")

    def check_base(self) -> None:
        """Raises InputError if the base's own resolution is too small for it."""
        what = f"the base '{self.base.name}'"
        check_resolution(self.base.resolution, what, resolve(self.base).least_side)

    def about(self, images: str, digest: str, classes: int) -> "Question":
        """Returns the same question about images of so many classes."""
        base = dataclasses.replace(self.base, num_classes=classes)
        return dataclasses.replace(self, base=base, images=images, digest=digest)

    def candidates(self) -> tuple[list[Candidate], int]:
        """Returns the networks that are compared, and how many there are of that cost."""
        found = enumerate_candidates(
            self.base,
            self.factor,
            self.tolerance,
            multiple_of=self.multiple_of,
            most_pixels=self.most_pixels,
        )
        return sample(found, self.most), len(found)

    def rungs(self, candidates: int) -> list[Rung]:
        """Returns the schedule for so many candidates."""
        return schedule(candidates, self.seeds, self.halving)

    def fresh(self) -> list[tuple[int, int]]:
        """Returns (fold, seed) of the trainings of the report: none of them was in the choice."""
        others = [fold for fold in range(self.folds) if fold != CHOICE_FOLD]
        seeds = range(self.seeds, 2 * self.seeds)
        return [(others[seed % len(others)], seed) for seed in seeds]


def claim(folder: str, question: Question) -> None:
    """Writes a question into the folder of its search, or sees that it is the one there.

    Raises:
        InputError: another one is there; says what differs.
        SaveError: it cannot be written.
    """
    path = os.path.join(folder, FILE)
    if os.path.exists(path):
        _compare(read(folder), question, folder)
        return
    os.makedirs(folder, exist_ok=True)
    values = dataclasses.asdict(question) | {"base": json.loads(to_json(question.base))}
    local_files.write(path, (json.dumps(values, indent=2) + "\n").encode("utf-8"))


def _compare(there, question, folder):
    for field in dataclasses.fields(Question):
        old, new = getattr(there, field.name), getattr(question, field.name)
        if old != new:
            raise InputError(
                f"'{folder}' holds a search with another {field.name}, {_short(old)} instead of "
                f"{_short(new)}: choose another --workdir, or give the options of the one there."
            )


def _short(value):
    if isinstance(value, Variant):
        return f"'{value.name}' or other numbers in its row"
    if isinstance(value, Settings):
        changed = dataclasses.asdict(value)
        return ", ".join(f"{name} {each}" for name, each in changed.items())
    return repr(value)


def read(folder: str) -> Question:
    """Returns the question of a folder.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    path = os.path.join(folder, FILE)
    if not os.path.exists(path):
        raise InputError(f"There is no search of coefficients in '{folder}': it has no {FILE}.")
    try:
        values = json.loads(local_files.read(path, MOST_BYTES))
        values["base"] = from_json(json.dumps(values["base"]))
        values["settings"] = Settings(**values["settings"])
        return Question(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"'{path}' is not the question of a search that can be read: {first_line(error)}."
        ) from error
