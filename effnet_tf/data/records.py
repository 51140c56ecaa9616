"""How is any record of a data set read by its number?

`Listed` are images in memory or image files, `RecordFiles` are examples in TFRecord files.
Both have a `count`, `read` many records at a time, and `load` one: (image file, label).
"""

import bisect
import dataclasses
import os

import numpy as np
import tensorflow as tf

from effnet_tf.data import tfrecord
from effnet_tf.errors import printable

READERS = 32  # runs of neighbours that are read at the same time
MAX_BUFFER = 4 << 20  # bytes of such a run that are read ahead


class Listed:
    """Images that are a list of (item, label): of encoded images, or of paths.

    Attributes:
        count: how many records there are.
        in_blocks: whether neighbouring records should be read together.
        mean_bytes: of a record that is read ahead.
        first_label: what was taken off the labels.
    """

    in_blocks, mean_bytes, first_label = False, 0, 0

    def __init__(self, rows, *, paths=False):
        # An empty list still needs the types of its columns; names of files are bytes.
        self.items = tf.constant([os.fsencode(item) for item, _ in rows], tf.string)
        self.labels = np.array([label for _, label in rows], np.int64)
        self.count, self.paths = len(rows), paths

    def read(self, numbers):
        """Nothing is read ahead: (n,) int64 -> (n,) empty strings."""
        return tf.fill(tf.shape(numbers), "")

    def load(self, number, raw):
        """Returns the (encoded image, label) of a record; `raw` is what `read` gave."""
        del raw
        item, label = self.items[number], tf.constant(self.labels)[number]
        return (tf.io.read_file(item) if self.paths else item), label

    def name(self, number):
        """Returns {"key"} of a record: its path, or the number of an image in memory."""
        if not self.paths:
            return {"key": f"image {number}"}
        return {"key": printable(os.fsdecode(self.items[number].numpy()))}


class Chosen:
    """Some records of others, by their numbers: a held-out part, or the rest.

    Attributes:
        count, in_blocks, mean_bytes, first_label: as of `Listed`.
        faults: as of `RecordFiles`.
    """

    def __init__(self, records, numbers, faults=()):
        self.records, self.numbers, self.count = records, np.asarray(numbers), len(numbers)
        self.in_blocks, self.mean_bytes = records.in_blocks, records.mean_bytes
        self.first_label, self.faults = records.first_label, faults
        self._numbers = tf.constant(self.numbers, tf.int64)

    def read(self, numbers):
        """As of the records themselves."""
        return self.records.read(self._among_all(numbers))

    def load(self, number, raw):
        """As of `Listed`."""
        return self.records.load(self._among_all(number), raw)

    def name(self, number):
        """As of the record itself."""
        return self.records.name(int(self.numbers[number]))

    def _among_all(self, numbers):
        return tf.gather(self._numbers, numbers)


def or_else(attempt, fallback):
    """Returns attempt(), or fallback() where that fails; for use in a Dataset.map.

    A graph cannot catch errors, a data set can pass over them.
    """

    def one(make):
        return tf.data.Dataset.range(1).map(
            tf.autograph.experimental.do_not_convert(lambda _: make())
        )

    return one(attempt).ignore_errors().concatenate(one(fallback)).take(1).get_single_element()


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
        count, in_blocks, mean_bytes, first_label: as of `Listed`.
        faults: list of {"key", "shard", "reason", "records"} of files that lack records.
    """

    in_blocks = True

    def __init__(self, shards, features):
        scans = tfrecord.scan(shards)
        self.features, self.paths = features, [shard.path for shard in shards]
        self.first_label = features.first_label
        self.skips = [shard.skip for shard in shards]
        self.sizes = sizes = [max(0, len(scan.offsets) - 1) for scan in scans]
        self.ends = np.cumsum(sizes)
        self.count = int(self.ends[-1]) if sizes else 0
        self.faults = [
            _lost(shard, scan, size, sizes)
            for shard, scan, size in zip(shards, scans, sizes)
            if scan.fault
        ]
        full = [scan.offsets for scan, size in zip(scans, sizes) if size]
        joined = np.concatenate([offsets[:-1] for offsets in full] or [np.zeros(0, np.int64)])
        ends = np.concatenate([offsets[1:] for offsets in full] or [np.zeros(0, np.int64)])
        self.mean_bytes = int((ends - joined).mean()) if self.count else 0
        self._offsets, self._stops = tf.constant(joined), tf.constant(ends)
        self._ends = tf.constant(self.ends)
        self._paths = tf.constant([os.fsencode(path) for path in self.paths], tf.string)

    def read(self, numbers):
        """Reads records, neighbours together: (n,) int64 -> (n,) string, "" near failures."""
        order = tf.argsort(numbers)
        numbers = tf.gather(numbers, order)
        file = self._file_of(numbers)
        begins = tf.concat([[True], (numbers[1:] != numbers[:-1] + 1) | (file[1:] != file[:-1])], 0)
        first = tf.boolean_mask(numbers, begins[: tf.size(numbers)])
        length = tf.math.bincount(
            tf.cumsum(tf.cast(begins[: tf.size(numbers)], tf.int32)) - 1, dtype=tf.int64
        )

        @tf.autograph.experimental.do_not_convert
        def run(first, length):
            # ignore_errors on the files themselves would hang where one cannot be opened.
            return or_else(
                lambda: (
                    self._from(first, length)
                    .take(length)
                    .batch(length, drop_remainder=True)
                    .get_single_element()
                ),
                lambda: tf.fill([length], ""),
            )

        runs = (
            tf.data.Dataset.from_tensor_slices((first, length))
            .map(run, READERS, deterministic=True)
            .unbatch()
        )
        nothing = tf.data.Dataset.from_tensors("")  # where this host has no share in a group
        count = tf.size(numbers, tf.int64)
        raw = runs.concatenate(nothing).batch(count + 1).get_single_element()[:count]
        return tf.gather(raw, tf.argsort(order))

    def _file_of(self, numbers):
        return tf.searchsorted(self._ends, numbers, side="right")

    def _from(self, number, length):
        """The records of a file from one on, read ahead as far as `length` of them reach."""
        offset = self._offsets[number]
        wanted = self._stops[number + length - 1] - offset
        variant = tf.raw_ops.TFRecordDatasetV2(
            filenames=[self._paths[self._file_of(number[tf.newaxis])[0]]],
            compression_type="",
            buffer_size=tf.minimum(wanted, MAX_BUFFER),
            byte_offsets=[offset],
        )
        return tf.data.experimental.from_variant(variant, tf.TensorSpec((), tf.string))

    def load(self, number, raw):
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

    def name(self, number):
        """Returns {"key", "shard"} of a record, as TFDS names it: file__number in the file."""
        file = bisect.bisect_right(self.ends.tolist(), number)
        before = int(self.ends[file - 1]) if file else 0
        shard = printable(os.path.basename(self.paths[file]))
        return {"key": f"{shard}__{self.skips[file] + number - before}", "shard": shard}


def _lost(shard, scan, size, sizes):
    """Says what a damaged or missing file lacks; as many as others have, where unknown."""
    name = printable(os.path.basename(shard.path))
    wanted = shard.take if shard.take is not None else shard.expected
    lost = max(0, (max(sizes) if wanted is None else wanted) - size)
    return {"key": name, "shard": name, "reason": f"the file {scan.fault}", "records": lost}
