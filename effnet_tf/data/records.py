"""How is any record of a data set read by its number?

`Listed` are images in memory or image files, `RecordFiles` are examples in TFRecord files.
Both have a `count`, `read` many records at a time, and `load` one: (image file, label).
"""

import bisect
import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from effnet_tf.data import tfrecord
from effnet_tf.data.tfrecord import Scan, Shard
from effnet_tf.errors import printable

READERS = 32  # runs of neighbours that are read at the same time
MAX_BUFFER = 4 << 20  # bytes of such a run that are read ahead


class Records(Protocol):
    """The records of a split, whatever they are stored as, by their numbers from 0 on.

    Attributes:
        count: how many records there are.
        in_blocks: whether neighbouring records should be read together.
        mean_bytes: of a record that is read ahead.
        first_label: what was taken off the labels.
    """

    count: int
    in_blocks: bool
    mean_bytes: int
    first_label: int

    def read(self, numbers: tf.Tensor) -> tf.Tensor:
        """Reads many records ahead: (n,) int64 -> (n,) string, "" where it did not."""

    def load(self, number: tf.Tensor, raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns a record's image file, () string, and label, () int64.

        Args:
            number: () int64.
            raw: () string, what `read` gave of it.

        Raises:
            tf.errors.OpError: it cannot be read.
        """

    def name(self, number: int) -> dict[str, str]:
        """Returns what a record is called, for people: {"key"}, of record files {"shard"}, too."""


class Listed:
    """Images that are a list of (item, label): of encoded images, or of paths.

    Attributes:
        count, in_blocks, mean_bytes, first_label: as of `Records`.
        items: (count,) string, the encoded images or their paths.
        labels: (count,) int64.
        paths: whether the items are paths.
    """

    in_blocks, mean_bytes, first_label = False, 0, 0

    def __init__(self, rows: Sequence[tuple[Any, int]], *, paths: bool = False):
        # An empty list still needs the types of its columns; names of files are bytes.
        self.items = tf.constant([os.fsencode(item) for item, _ in rows], tf.string)
        self.labels = np.array([label for _, label in rows], np.int64)
        self.count, self.paths = len(rows), paths

    def read(self, numbers: tf.Tensor) -> tf.Tensor:
        """Nothing is read ahead: (n,) int64 -> (n,) empty strings."""
        return tf.fill(tf.shape(numbers), "")

    def load(self, number: tf.Tensor, raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the (encoded image, label) of a record; `raw` is what `read` gave."""
        del raw
        item, label = self.items[number], tf.constant(self.labels)[number]
        if self.paths:
            return tf.io.read_file(item), label
        return item, label

    def name(self, number: int) -> dict[str, str]:
        """Returns {"key"} of a record: its path, or the number of an image in memory."""
        if not self.paths:
            return {"key": f"image {number}"}
        return {"key": printable(os.fsdecode(self.items[number].numpy()))}


class Chosen:
    """Some records of others, by their numbers: a held-out part, or the rest.

    Attributes:
        count, in_blocks, mean_bytes, first_label: as of `Records`.
        faults: as of `RecordFiles`.
    """

    def __init__(
        self, records: Records, numbers: np.ndarray | Sequence[int], faults: Sequence[dict] = ()
    ):
        self.records, self.numbers, self.count = records, np.asarray(numbers), len(numbers)
        self.in_blocks, self.mean_bytes = records.in_blocks, records.mean_bytes
        self.first_label, self.faults = records.first_label, faults
        self._numbers = tf.constant(self.numbers, tf.int64)

    def read(self, numbers: tf.Tensor) -> tf.Tensor:
        """As of the records themselves."""
        return self.records.read(self._among_all(numbers))

    def load(self, number: tf.Tensor, raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """As of `Listed`."""
        return self.records.load(self._among_all(number), raw)

    def name(self, number: int) -> dict[str, str]:
        """As of the record itself."""
        return self.records.name(int(self.numbers[number]))

    def _among_all(self, numbers):
        return tf.gather(self._numbers, numbers)


def or_else(attempt: Callable[[], Any], fallback: Callable[[], Any]) -> Any:
    """Returns attempt(), or fallback() where that fails; for use in a Dataset.map.

    A graph cannot catch errors, a data set can pass over them.
    """

    def one(make):
        return tf.data.Dataset.range(1).map(
            tf.autograph.experimental.do_not_convert(lambda _: make())
        )

    return one(attempt).ignore_errors().concatenate(one(fallback)).take(1).get_single_element()


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns a data set that runs as it was written, its elements in order.

    Its numbers must all be fixed. What would tune them sleeps for up to a minute, and TensorFlow
    waits for it when a pipeline is given up. Nothing here can be fused, and finding that out
    takes as long as the first batch.
    """
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    return dataset.with_options(options)


@dataclasses.dataclass(frozen=True)
class Features:
    """How an image and its label are called in an example.

    Attributes:
        image: feature of the encoded image.
        label: feature of the label.
        first_label: label of the first class.
    """

    image: str = "image/encoded"
    label: str = "image/class/label"
    first_label: int = 0


class RecordFiles:
    """Examples in TFRecord files, read from where the index says that they begin.

    Attributes:
        count, in_blocks, mean_bytes, first_label: as of `Records`.
        faults: list of {"key", "shard", "reason", "records"} of files that lack records.
    """

    in_blocks = True

    def __init__(self, shards: Sequence[Shard], features: Features):
        scans = tfrecord.scan(shards)
        self.features, self.paths = features, [shard.path for shard in shards]
        self.first_label = features.first_label
        self.skips = [shard.skip for shard in shards]
        self.sizes = sizes = [max(0, len(scan.offsets) - 1) for scan in scans]
        self.ends = np.cumsum(sizes)
        self.count = int(sum(sizes))
        self.faults = [
            _lost(shard, scan, size, sizes)
            for shard, scan, size in zip(shards, scans, sizes)
            if scan.fault
        ]
        begins, stops = _places(scans)
        self.mean_bytes = int((stops - begins).sum() / max(1, self.count))
        self._begins, self._stops = tf.constant(begins), tf.constant(stops)
        self._ends = tf.constant(self.ends)
        self._paths = tf.constant([os.fsencode(path) for path in self.paths], tf.string)

    def read(self, numbers: tf.Tensor) -> tf.Tensor:
        """Reads records, neighbours together: (n,) int64 -> (n,) string, "" near failures."""
        order = tf.argsort(numbers)
        first, length = self._runs(tf.gather(numbers, order))
        runs = (
            tf.data.Dataset.from_tensor_slices((first, length))
            .map(self._run, READERS, deterministic=True)
            .unbatch()
        )
        nothing = tf.data.Dataset.from_tensors("")  # where this host has no share in a group
        count = tf.size(numbers, tf.int64)
        raw = runs.concatenate(nothing).batch(count + 1).get_single_element()[:count]
        return tf.gather(raw, tf.argsort(order))

    def _runs(self, numbers):
        """Where runs of neighbours in one file begin in ascending numbers, and their lengths."""
        file = self._file_of(numbers)
        begins = tf.concat([[True], (numbers[1:] != numbers[:-1] + 1) | (file[1:] != file[:-1])], 0)
        begins = begins[: tf.size(numbers)]  # of no numbers there is no first
        length = tf.math.bincount(tf.cumsum(tf.cast(begins, tf.int32)) - 1, dtype=tf.int64)
        return tf.boolean_mask(numbers, begins), length

    @tf.autograph.experimental.do_not_convert
    def _run(self, first, length):
        """Reads a run of neighbours: -> (length,) string, all "" where one of them fails."""

        def read():
            records = self._from(first, length).take(length)
            return records.batch(length, drop_remainder=True).get_single_element()

        # ignore_errors on the files themselves would hang where one cannot be opened.
        return or_else(read, lambda: tf.fill([length], ""))

    def _file_of(self, numbers):
        return tf.searchsorted(self._ends, numbers, side="right")

    def _from(self, number, length):
        """The records of a file from one on, read ahead as far as `length` of them reach."""
        offset = self._begins[number]
        wanted = self._stops[number + length - 1] - offset
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[self._paths[self._file_of(number[tf.newaxis])[0]]],
            compression_type="",
            buffer_size=tf.minimum(wanted, MAX_BUFFER),
            byte_offsets=[offset],
        )
        return tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.string))

    def load(self, number: tf.Tensor, raw: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the (encoded image, label) of a record; `raw` is what `read` gave."""
        one = tf.constant(1, tf.int64)
        raw = tf.cond(
            raw == "", lambda: self._from(number, one).take(1).get_single_element(), lambda: raw
        )
        example = tf.io.parse_single_example(
            raw,
            {
                self.features.image: tf.io.FixedLenFeature((), tf.string),
                self.features.label: tf.io.FixedLenFeature((), tf.int64),
            },
        )
        label = example[self.features.label] - self.features.first_label
        return example[self.features.image], label

    def name(self, number: int) -> dict[str, str]:
        """Returns {"key", "shard"} of a record, as TFDS names it: file__number in the file."""
        file = bisect.bisect_right(self.ends.tolist(), number)
        within = number - int(self.ends[file] - self.sizes[file])
        shard = printable(os.path.basename(self.paths[file]))
        return {"key": f"{shard}__{self.skips[file] + within}", "shard": shard}


def _places(scans):
    """The byte where each record of some files begins, and where it ends: (n,) int64 each."""
    nothing = [np.zeros(0, np.int64)]  # a file may hold no record, and there may be no file
    begins = [scan.offsets[:-1] for scan in scans]
    stops = [scan.offsets[1:] for scan in scans]
    return np.concatenate(nothing + begins), np.concatenate(nothing + stops)


def _lost(shard: Shard, scan: Scan, size: int, sizes: list[int]) -> dict:
    """Says what a damaged or missing file lacks; as many as others have, where unknown."""
    name = printable(os.path.basename(shard.path))
    wanted = max(sizes)
    if shard.take is not None:
        wanted = shard.take
    elif shard.expected is not None:
        wanted = shard.expected
    lost = max(0, wanted - size)
    return {"key": name, "shard": name, "reason": f"the file {scan.fault}", "records": lost}
