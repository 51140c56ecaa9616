"""What is a data set to those who train on it?"""

import dataclasses

import numpy as np

from effnet_tf.data import cells
from effnet_tf.data.bad_images import BadExamples
from effnet_tf.data.records import Records


@dataclasses.dataclass(frozen=True)
class Source:
    """A classification data set: who is in it, and how to read it.

    Attributes:
        name: of the data set, for people.
        class_names: one name per class.
        train: the training images, read by their numbers.
        held_out: the images to evaluate on.
        bad: the `BadExamples` that this process has met; by default none yet.
        label_sets: (labels, classes) bool, which classes a label means, where an image may have
            several names; None: label n means class n.
    """

    name: str
    class_names: tuple[str, ...]
    train: Records
    held_out: Records
    bad: BadExamples = None  # type: ignore[assignment]  # made below, of the labels
    label_sets: np.ndarray | None = None

    def __post_init__(self):
        if self.bad is None:
            object.__setattr__(self, "bad", BadExamples(self.num_labels))
        for split, records in (("train", self.train), ("eval", self.held_out)):
            for fault in getattr(records, "faults", ()):
                self.bad.add({"split": split, **fault})

    def records(self, split: str) -> Records:
        """Returns the records of "train" or "eval"."""
        return {"train": self.train, "eval": self.held_out}[split]

    @property
    def num_labels(self) -> int:
        """How many labels there are: as many as classes, or as combinations of them."""
        if self.label_sets is None:
            return len(self.class_names)
        return len(self.label_sets)

    def classes_of(self, label: int) -> list[int]:
        """Returns the classes that a label means."""
        if self.label_sets is None:
            return [label]
        return np.flatnonzero(self.label_sets[label]).tolist()

    def label_name(self, label: int) -> str:
        """Returns what a label is called: its class, or "cat + dog" of several."""
        return cells.together(self.class_names[number] for number in self.classes_of(label))

    @property
    def num_train(self) -> int:
        """Training images that can be found; some of them may prove bad."""
        return self.train.count

    @property
    def num_eval(self) -> int:
        """Held-out images."""
        return self.held_out.count
