"""tfrecord.py and records.py: any record of real TFRecord files, also of damaged ones."""

import os

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.data import Chosen, Features, Listed, RecordFiles, tfrecord
from effnet_tf.data.tfrecord import Shard


def image(number):
    return b"image %d " % number * (1 + number % 7)


def example(number):
    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[image(number)])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[number + 1])),
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


@pytest.fixture
def paths(tmp_path):
    """Three files of 20, 1 and 30 records, numbered on."""
    found, number = [], 0
    for file, count in enumerate((20, 1, 30)):
        found.append(str(tmp_path / f"train-{file:05}-of-00003"))
        with tf.io.TFRecordWriter(found[-1]) as writer:
            for _ in range(count):
                writer.write(example(number))
                number += 1
    return found


def records_of(paths, **options):
    return RecordFiles([Shard(path, **options) for path in paths], Features(first_label=1))


def loaded(records, number, raw=""):
    encoded, label = records.load(tf.constant(number, tf.int64), tf.constant(raw))
    return encoded.numpy(), int(label)


class TestReading:
    def test_one_by_one(self, paths):
        records = records_of(paths)
        assert records.count == 51 and not records.faults
        for number in (0, 19, 20, 21, 50):
            assert loaded(records, number) == (image(number), number)

    @pytest.mark.parametrize(
        "numbers", [range(51), [50, 0, 20, 19, 21, 5], [], [7], [30, 29, 28, 3, 4, 5]]
    )
    def test_many_in_any_order(self, paths, numbers):
        records = records_of(paths)
        raw = tf.function(records.read)(tf.constant(list(numbers), tf.int64)).numpy()
        assert [loaded(records, number, one) for number, one in zip(numbers, raw)] == [
            (image(number), number) for number in numbers
        ]
        assert (raw != b"").all()  # nothing had to be read again

    def test_parts_of_files(self, paths):
        shards = [Shard(paths[0], skip=5, take=10), Shard(paths[2], skip=28)]
        records = RecordFiles(shards, Features(first_label=1))
        assert [loaded(records, number)[1] for number in range(records.count)] == [
            *range(5, 15),
            49,
            50,
        ]

    def test_names(self, paths):
        records = RecordFiles([Shard(paths[0], skip=5, take=10), Shard(paths[2])], Features())
        shard = "train-00000-of-00003"
        assert records.name(0) == {"key": f"{shard}__5", "shard": shard}
        assert records.name(10)["key"] == "train-00002-of-00003__0"

    def test_listed_images_and_files(self, tmp_path):
        (tmp_path / "ä.bin").write_bytes(b"abc")
        path = str(tmp_path / "ä.bin")
        assert loaded(Listed([(b"x", 3), (b"y", 4)]), 1) == (b"y", 4)
        files = Listed([(path, 2)], paths=True)
        assert loaded(files, 0) == (b"abc", 2) and files.name(0) == {"key": path}
        assert Listed([]).count == 0


def flip(path, position, bit=1):
    data = bytearray(open(path, "rb").read())
    data[position] ^= bit
    open(path, "wb").write(bytes(data))


class TestDamage:
    def offsets(self, path):
        return tfrecord.scan([Shard(path)])[0].offsets

    def test_a_flipped_bit_costs_one_record(self, paths):
        where = self.offsets(paths[2])
        flip(paths[2], where[4] + 20)
        records = records_of(paths)
        assert records.count == 51 and not records.faults
        raw = records.read(tf.range(51, dtype=tf.int64)).numpy()
        for number in range(51):
            if number == 25:
                with pytest.raises(tf.errors.DataLossError):
                    loaded(records, number, raw[number])
            else:
                assert loaded(records, number, raw[number]) == (image(number), number)

    @pytest.mark.parametrize("byte", [0, 1, 7, 8, 11])
    def test_a_flipped_length_costs_the_rest_of_the_file_and_is_found(self, paths, byte):
        where = self.offsets(paths[2])
        flip(paths[2], where[4] + byte)
        records = records_of(paths)
        assert records.count == 25
        (fault,) = records.faults
        assert fault["shard"] == "train-00002-of-00003" and f"byte {where[4]:,}" in fault["reason"]
        assert [loaded(records, number)[1] for number in range(25)] == list(range(25))

    def test_a_missing_file(self, paths):
        os.remove(paths[2])
        records = records_of(paths, expected=None)
        (fault,) = records.faults
        assert records.count == 21 and "is missing" in fault["reason"]
        assert fault["records"] == 20  # as many as the largest of the others: nothing better known

    def test_a_file_that_is_cut_off(self, paths):
        whole = open(paths[0], "rb").read()
        end = self.offsets(paths[0])[12] + 30
        open(paths[0], "wb").write(whole[:end])
        records = RecordFiles(
            [Shard(path, expected=count) for path, count in zip(paths, (20, 1, 30))],
            Features(first_label=1),
        )
        (fault,) = records.faults
        assert records.count == 43 and fault["records"] == 8
        assert loaded(records, 12) == (image(20), 20)

    def test_other_than_the_expected_number(self, paths):
        records = records_of(paths[:1], expected=21)
        assert "has 20 records instead of 21" in records.faults[0]["reason"]

    def test_no_tfrecord_file(self, tmp_path):
        (tmp_path / "x").write_bytes(b"this is text, and no record file" * 10)
        records = records_of([str(tmp_path / "x")])
        assert records.count == 0 and "damaged at byte 0" in records.faults[0]["reason"]

    def test_a_file_that_vanishes_is_no_hang(self, paths):
        records = records_of(paths)
        os.remove(paths[0])
        raw = records.read(tf.range(51, dtype=tf.int64)).numpy()
        assert (raw[:20] == b"").all() and loaded(records, 30, raw[30]) == (image(30), 30)
        with pytest.raises(tf.errors.NotFoundError):
            loaded(records, 3, raw[3])

    def test_an_empty_file(self, paths):
        open(paths[1], "wb").close()
        (fault,) = records_of(paths).faults
        assert "is empty" in fault["reason"]
        assert not RecordFiles([Shard(paths[1], expected=0)], Features()).faults

    def test_a_compressed_file(self, tmp_path):
        path = str(tmp_path / "x")
        with tf.io.TFRecordWriter(path, "GZIP") as writer:
            writer.write(example(0))
        assert "is compressed" in records_of([path]).faults[0]["reason"]


def test_chosen_records(paths):
    chosen = Chosen(records_of(paths), [3, 30])
    assert chosen.count == 2 and loaded(chosen, 1) == (image(30), 30)
    assert chosen.name(1)["key"] == "train-00002-of-00003__9"


class TestKeptIndex:
    @pytest.fixture(autouse=True)
    def always(self, monkeypatch, tmp_path):
        monkeypatch.setattr(tfrecord, "KEEP_ABOVE", -1.0)
        monkeypatch.setattr(tfrecord, "CACHE", str(tmp_path / "cache"))

    def scans(self, monkeypatch, paths):
        """(what is found, which files were read for it)."""
        read, real = [], tfrecord._scan_file

        def scan(path, state):
            read.append(path)
            return real(path, state)

        monkeypatch.setattr(tfrecord, "_scan_file", scan)
        found = [one.offsets.tolist() for one in tfrecord.scan([Shard(path) for path in paths])]
        monkeypatch.setattr(tfrecord, "_scan_file", real)
        return found, read

    def test_is_used_while_the_files_are_the_same(self, monkeypatch, paths, capsys):
        first, read = self.scans(monkeypatch, paths)
        assert sorted(read) == paths and "Kept the index" in capsys.readouterr().out
        assert self.scans(monkeypatch, paths) == (first, [])
        with tf.io.TFRecordWriter(paths[1]) as writer:
            writer.write(b"another")
        again, read = self.scans(monkeypatch, paths)
        assert sorted(read) == paths and again != first

    def test_where_the_folder_takes_no_file(self, monkeypatch, paths, tmp_path, capsys):
        real = tf.io.gfile.rename

        def refuse(source, target, overwrite=False):
            if os.path.dirname(target) == str(tmp_path):
                raise tf.errors.PermissionDeniedError(None, None, "read-only")
            real(source, target, overwrite)

        monkeypatch.setattr(tf.io.gfile, "rename", refuse)
        first, _ = self.scans(monkeypatch, paths)
        assert str(tmp_path / "cache") in capsys.readouterr().out
        assert self.scans(monkeypatch, paths) == (first, [])

    @pytest.mark.parametrize("length", [0, 100, 700])
    def test_a_damaged_one_is_made_anew(self, monkeypatch, paths, tmp_path, capsys, length):
        first, _ = self.scans(monkeypatch, paths)
        (index,) = tmp_path.glob("*.npz")
        index.write_bytes(index.read_bytes()[:length])
        assert self.scans(monkeypatch, paths)[0] == first
        assert "will be rebuilt" in capsys.readouterr().out


def test_the_checksum_is_tensorflows(paths):
    data = np.frombuffer(open(paths[0], "rb").read()[:12], np.uint8)
    assert tfrecord._masked_crc32c(data[None, :8])[0] == int.from_bytes(
        data[8:].tobytes(), "little"
    )
