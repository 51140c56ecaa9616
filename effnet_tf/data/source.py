"""What is a data set to those who train on it?"""

import dataclasses

from effnet_tf.data.bad_images import BadExamples
from effnet_tf.data.records import Records


@dataclasses.dataclass(frozen=True)
class Source:
    """A classification data set: who is in it, and how to read it.

    Attributes:
        name: of the data set, for people.
        class_names: one name per label.
        train: the training images, read by their numbers.
        held_out: the images to evaluate on.
        bad: the `BadExamples` that this process has met; by default none yet.
    """

    name: str
    class_names: tuple[str, ...]
    train: Records
    held_out: Records
    bad: BadExamples = None  # type: ignore[assignment]  # made below, of the class names

    def __post_init__(self):
        if self.bad is None:
            object.__setattr__(self, "bad", BadExamples(self.class_names))
        for split, records in (("train", self.train), ("eval", self.held_out)):
            for fault in getattr(records, "faults", ()):
                self.bad.add({"split": split, **fault})

    def records(self, split: str) -> Records:
        """Returns the records of "train" or "eval"."""
        return {"train": self.train, "eval": self.held_out}[split]

    @property
    def num_train(self) -> int:
        """Training images that can be found; some of them may prove bad."""
        return self.train.count

    @property
    def num_eval(self) -> int:
        """Held-out images."""
        return self.held_out.count
