"""Where does each record begin in a set of TFRecord files?

TFRecord files have no index, and without one a reader can only begin at a file's start.
The lengths before the records are enough to make one; it is kept where that took long.
"""

import concurrent.futures
import dataclasses
import hashlib
import os
import tempfile
import time
import zipfile
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from effnet_tf import local_files, progress, storage
from effnet_tf.errors import first_line
from effnet_tf.messages import log

KEEP_ABOVE = 5.0  # seconds that the scan took
THREADS = 32  # an object store answers many requests at a time, each slowly
HEADER, FOOTER = 12, 4  # bytes around a record: its length and two checksums
CACHE = os.path.join("~", ".cache", "effnet_tf")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file, and which of its records belong to a split.

    Attributes:
        path: of the file, local or gs://.
        skip: records before the first.
        take: how many; None: all after.
        expected: how many there should be in the whole file; None: not known.
    """

    path: str
    skip: int = 0
    take: int | None = None
    expected: int | None = None


@dataclasses.dataclass(frozen=True)
class Scan:
    """What a file holds: the byte where each record begins, the end, and what is wrong."""

    offsets: np.ndarray  # (records + 1,) int64
    fault: str = ""


def scan(shards: Sequence[Shard]) -> list[Scan]:
    """Finds the records of every `Shard`; shows progress, and keeps the result if it took long.

    Returns:
        A list of `Scan`, cut to what belongs to the split; a missing or damaged file has
        the records up to the damage, and a `fault`.
    """
    if not shards:  # of an empty slice of a split
        return []
    paths = sorted({shard.path for shard in shards})
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        states = list(pool.map(_state, paths))
        found = _kept(paths, states)
        if found is None:
            begun = time.monotonic()
            scans = progress.bar(
                "Indexing",
                len(paths),
                iterable=pool.map(_scan_file, paths, states),
                unit="record files",
                delay=KEEP_ABOVE,
            )
            found = dict(zip(paths, scans))
            if time.monotonic() - begun > KEEP_ABOVE:
                _keep(paths, states, found)
    return [_cut(shard, found[shard.path]) for shard in shards]


def _cut(shard, whole):
    """The records of a file that belong to the split."""
    fault, records = whole.fault, len(whole.offsets) - 1
    if not fault and shard.expected is not None and records != shard.expected:
        fault = f"has {records} records instead of {shard.expected}"
    if not fault and not records and shard.expected is None:
        fault = "is empty"
    end = records
    if shard.take is not None:
        end = min(records, shard.skip + shard.take)
    return Scan(whole.offsets[min(shard.skip, end) : end + 1], fault)


def _state(path):
    """Returns (bytes, time of the last change) of a file; (-1, 0) if there is none to read."""
    try:
        if storage.is_remote(path):
            found = tf.io.gfile.stat(path)
            return found.length, found.mtime_nsec
        found = os.stat(path)
    except (OSError, tf.errors.OpError):
        return -1, 0
    if local_files.not_regular(path):
        return -1, 0
    return found.st_size, found.st_mtime_ns


def _scan_file(path, state):
    size, position, headers, offsets, fault = state[0], 0, [], [], ""
    if size < 0:
        return Scan(np.zeros(1, np.int64), _unreadable(path))
    with _opened(path) as file:
        while position < size:
            file.seek(position)
            header = file.read(HEADER)
            end = position + HEADER + int.from_bytes(header[:8], "little") + FOOTER
            if len(header) < HEADER or end > size:
                fault = f"is damaged at byte {position:,} of {size:,}"
                if position == 0 and header[:2] == b"\x1f\x8b":
                    fault = "is compressed: unpack it"
                break
            headers.append(header)
            offsets.append(position)
            position = end
    return _verified(headers, np.array([*offsets, position], np.int64), fault)


def _unreadable(path):
    """Says what a file is that cannot be read at all."""
    kind = None
    if not storage.is_remote(path):
        kind = local_files.not_regular(path)
    if kind:
        return f"is {kind}, not a file"
    return "is missing"


def _opened(path):
    if storage.is_remote(path):
        return tf.io.gfile.GFile(path, "rb")
    return open(path, "rb", 0)  # a header every 100 KB: what is read ahead would be thrown away


def _verified(headers, offsets, fault):
    """Cuts a scan off at the first length whose checksum is wrong."""
    table = np.frombuffer(b"".join(headers), np.uint8).reshape(-1, HEADER)
    wrong = np.flatnonzero(_masked_crc32c(table[:, :8]) != table[:, 8:].copy().view("<u4")[:, 0])
    if wrong.size:
        offsets = offsets[: wrong[0] + 1]
        fault = f"is damaged at byte {offsets[-1]:,}: a length has the wrong checksum"
    return Scan(offsets, fault)


def _crc_table():
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    return table


def _masked_crc32c(rows):
    """TFRecord's checksum of each row: (n, k) uint8 -> (n,) uint32."""
    table, crc = _crc_table(), np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in rows.T:
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> np.uint32(8))
    crc = ~crc
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


# --- kept indices ---------------------------------------------------------------------------


def _places(paths):
    """Where the index of these files may lie: beside them, or in the user's cache."""
    mark = hashlib.sha256("\n".join(paths).encode()).hexdigest()[:12]
    name = f"effnet_tf-index-{mark}.npz"
    return [
        os.path.join(os.path.dirname(paths[0]), name),
        os.path.join(os.path.expanduser(CACHE), name),
    ]


def _kept(paths, states):
    """Returns {path: Scan} of a kept index, or None if there is none of these very files."""
    for place in _places(paths):
        if tf.io.gfile.exists(place):
            try:
                with tf.io.gfile.GFile(place, "rb") as file, np.load(file) as kept:
                    kept = {name: kept[name] for name in ("states", "ends", "offsets", "faults")}
            except (
                OSError,
                ValueError,
                KeyError,
                EOFError,
                RuntimeError,
                zipfile.BadZipFile,
                tf.errors.OpError,
            ) as error:
                log.info(
                    f"The index '{place}' cannot be read ({first_line(error)}); it will be rebuilt."
                )
                continue
            if np.array_equal(kept["states"], states):
                offsets = np.split(kept["offsets"], kept["ends"][:-1])
                return {
                    path: Scan(own, str(fault))
                    for path, own, fault in zip(paths, offsets, kept["faults"])
                }
    return None


def _keep(paths, states, found):
    """Writes an index whole or not at all, to the first place that takes it."""
    scans = [found[path] for path in paths]
    columns = dict(
        states=np.array(states),
        faults=np.array([scan.fault for scan in scans]),
        offsets=np.concatenate([scan.offsets for scan in scans]),
        ends=np.cumsum([len(scan.offsets) for scan in scans]),
    )
    for place in _places(paths):
        temporary = f"{place}.{os.getpid()}.tmp"
        try:
            tf.io.gfile.makedirs(os.path.dirname(place))
            with tempfile.TemporaryFile() as buffer:  # GFile cannot seek while it writes
                np.savez(buffer, **columns)
                buffer.seek(0)
                with tf.io.gfile.GFile(temporary, "wb") as file:
                    file.write(buffer.read())
            tf.io.gfile.rename(temporary, place, overwrite=True)
        except (OSError, tf.errors.OpError) as error:
            log.info(f"The index of the records cannot be kept as '{place}': {first_line(error)}")
            continue
        log.info(f"Kept the index of the records: {place}")
        return
