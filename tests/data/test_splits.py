"""splits.py and who uses it: parts by any name, held-out parts within classes, no wrong classes."""

import collections
import dataclasses
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data
from effnet_tf.data import splits
from effnet_tf.errors import InputError
from effnet_tf.recipes import RECIPES, Recipe
from tests import conftest
from tests.helpers import hostile

FOLDER = dataclasses.replace(RECIPES["small"], dataset="folder", batch_size=4, image_size=32)


def open_folder(path, **changes):
    return data.open_source(dataclasses.replace(FOLDER, data_dir=str(path), **changes))


def open_table(path, text, **changes):
    path.write_text(text, encoding="utf-8")
    return open_folder(path, dataset="table", **changes)


def paths(records):
    return [os.fsdecode(item) for item in records.items.numpy()]


def counts(records):
    return dict(collections.Counter(records.labels.tolist()))


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "train",
            "Train",
            "TRAIN",
            "training",
            "Training_Set",
            "train2017",
            "train-images",
            "trainset",
            "train_data",
        ],
    )
    def test_of_training(self, name):
        assert splits.is_train(name) and not splits.is_eval(name)

    @pytest.mark.parametrize(
        "name",
        [
            "val",
            "Val",
            "valid",
            "VALIDATION",
            "test",
            "testing",
            "eval",
            "dev",
            "val2017",
            "Test Set",
            "testset",
            "hold-out",
        ],
    )
    def test_of_evaluation(self, name):
        assert splits.is_eval(name) and not splits.is_train(name)

    @pytest.mark.parametrize(
        "name",
        [
            *hostile.NAMES,
            "bullet_train",
            "trainer",
            "value",
            "2017",
            "images",
            "contest",
            "device",
            "strain",
            "set",
            "",
        ],
    )
    def test_of_classes(self, name):
        assert not splits.is_train(name) and not splits.is_eval(name)


class TestHoldOut:
    @pytest.mark.parametrize(
        "count, fraction, expected",
        [
            (1, 0.2, 0),
            (2, 0.2, 1),
            (2, 0.9, 1),
            (3, 0.2, 1),
            (10, 0.2, 2),
            (12, 0.2, 2),
            (13, 0.2, 3),
            (10, 1.0, 9),
            (10, 0.0, 0),
            (1000, 0.001, 1),
        ],
    )
    def test_every_class_has_its_share(self, count, fraction, expected):
        keys = [f"{label}/{number}" for label in "ab" for number in range(count)]
        labels = [label for label in "ab" for _ in range(count)]
        marks = splits.hold_out(keys, labels, fraction)
        held = collections.Counter(label for label, mark in zip(labels, marks) if mark)
        assert [held["a"], held["b"]] == [expected] * 2

    def test_depends_on_the_names_only(self):
        rows = [(f"{number}.jpg", number % 3) for number in range(90)]

        def held(rows):
            marks = splits.hold_out(*zip(*rows), 0.2)
            return {row for row, mark in zip(rows, marks) if mark}

        assert held(rows) == held(rows[::-1])
        assert len(held(rows)) == 18
        more = held([*rows, ("90.jpg", 0)])
        assert len(held(rows) - more) <= 1  # at most the one whose place the new one took

    def test_rows_of_one_name_stay_together(self):
        names = [f"{number}.jpg" for number in range(10)] * 3
        marks = splits.hold_out(names, [0] * 30, 0.3)
        assert marks[:10] == marks[10:20] == marks[20:] and sum(marks) == 9

    def test_is_the_published_choice(self):
        # Pinned: another choice would put training images of old runs among the held-out ones.
        marks = splits.hold_out([f"cat/{number}.jpg" for number in range(10)], [0] * 10, 0.2)
        assert np.flatnonzero(marks).tolist() == [3, 8]


class TestHoldOutRecords:
    @pytest.mark.parametrize("fraction", [0.01, 0.1, 0.2, 0.3, 0.5, 0.9])
    def test_the_share_is_right_in_every_stretch(self, fraction):
        marks = splits.hold_out_records([3000, 500, 1, 0, 2000], [0] * 5, fraction)
        assert marks.shape == (5501,)
        for stretch in (marks[:3000], marks[3500:], marks[::3], marks[1::2]):
            assert abs(stretch.mean() - fraction) < 0.04, fraction

    def test_a_file_that_grows_and_one_that_is_added_move_nothing(self):
        marks = splits.hold_out_records([40, 30], [0, 0], 0.2)
        more = splits.hold_out_records([40, 37, 20], [0, 0, 0], 0.2)
        np.testing.assert_array_equal(marks, more[:70])
        # A file that lost its first records by a slice keeps the others' sides.
        part = splits.hold_out_records([25, 30], [15, 0], 0.2)
        np.testing.assert_array_equal(marks[15:], part)

    @pytest.mark.parametrize("sizes", [[2], [1, 1], [3]])
    def test_never_none_and_never_all(self, sizes):
        for fraction in (0.01, 0.5, 1.0):
            marks = splits.hold_out_records(sizes, [0] * len(sizes), fraction)
            assert marks.any() and not marks.all()
        assert not splits.hold_out_records(sizes, [0] * len(sizes), 0.0).any()


class TestFolders:
    @pytest.mark.parametrize(
        "train, held_out",
        [
            ("train", "valid"),
            ("Train", "Val"),
            ("TRAIN", "TEST"),
            ("training", "validation"),
            ("training", "testing"),
            ("train", "dev"),
            ("train", "eval"),
            ("Training_Set", "Test_Set"),
        ],
    )
    def test_parts_by_any_name(self, tmp_path, capsys, train, held_out):
        conftest.write_photos(tmp_path / train)
        conftest.write_photos(tmp_path / held_out, count=3)
        source = open_folder(tmp_path)
        assert source.class_names == ("cat", "dog")
        assert (source.num_train, source.num_eval) == (24, 6)
        assert f"(folders {train}/ and {held_out}/)" in capsys.readouterr().out

    def test_of_two_the_first_is_used_and_the_other_named(self, tmp_path, capsys):
        for name, count in (("train", 12), ("test", 3), ("val", 4)):
            conftest.write_photos(tmp_path / name, count=count)
        assert open_folder(tmp_path).num_eval == 8
        assert "evaluating on 'val'; not used: test (choose with --eval" in capsys.readouterr().out
        assert open_folder(tmp_path, eval_split="test").num_eval == 6

    def test_two_to_train_on(self, tmp_path):
        for name in ("Train", "training", "val"):
            conftest.write_photos(tmp_path / name)
        with pytest.raises(InputError, match="several parts to train on, Train, training"):
            open_folder(tmp_path)
        assert open_folder(tmp_path, train_split="Train").num_train == 24

    def test_train_alone_is_divided(self, tmp_path, capsys):
        conftest.write_photos(tmp_path / "Training")
        source = open_folder(tmp_path)
        assert source.class_names == ("cat", "dog")
        assert counts(source.held_out) == {0: 2, 1: 2} and source.num_train == 20
        assert "folder Training/, 20% of each class held out" in capsys.readouterr().out

    def test_a_test_part_without_classes_is_not_used(self, tmp_path, capsys):
        conftest.write_photos(tmp_path / "train")
        shutil.copytree(tmp_path / "train" / "cat", tmp_path / "test")
        source = open_folder(tmp_path)
        assert source.class_names == ("cat", "dog") and source.num_eval == 4
        assert "not used: test/" in capsys.readouterr().out

    def refused(self, root, count):
        """Is refused, unless somebody says how many classes there are."""
        with pytest.raises(InputError, match="looks? like (a part|parts) of a data set"):
            open_folder(root)
        assert len(open_folder(root, num_classes=count).class_names) == count

    def test_parts_beside_classes(self, tmp_path):
        conftest.write_photos(tmp_path)
        conftest.write_photos(tmp_path / "train")
        self.refused(tmp_path, 3)

    def test_parts_without_classes(self, tmp_path):
        conftest.write_photos(tmp_path, classes=("Train", "Valid"))
        self.refused(tmp_path, 2)

    @pytest.mark.parametrize("names", [("val", "test"), ("test", "cat")])
    def test_nothing_to_train_on(self, tmp_path, names):
        conftest.write_photos(tmp_path, classes=names)
        self.refused(tmp_path, 2)

    def test_a_folder_too_high(self, tmp_path):
        conftest.write_photos(tmp_path / "photos" / "train")
        with pytest.raises(InputError, match="is --data_dir .*/photos meant"):
            open_folder(tmp_path)

    def test_parts_in_other_languages(self, tmp_path):
        for name in ("treino", "teste"):
            conftest.write_photos(tmp_path / name)
        self.refused(tmp_path, 2)
        source = open_folder(tmp_path, train_split="treino", eval_split="teste")
        assert (source.num_train, source.num_eval) == (24, 24)

    def test_confirmed_classes_do_not_make_classes_of_parts(self, tmp_path):
        conftest.write_photos(tmp_path / "train")
        conftest.write_photos(tmp_path / "valid", count=3)
        assert open_folder(tmp_path, num_classes=2).class_names == ("cat", "dog")

    def test_every_class_is_held_out(self, photos):
        source = open_folder(photos)
        assert counts(source.held_out) == {0: 2, 1: 2} and counts(source.train) == {0: 10, 1: 10}


class TestLinks:
    def test_loops_add_nothing(self, photos, capsys):
        plain = [
            paths(records) for records in (open_folder(photos).train, open_folder(photos).held_out)
        ]
        (photos / "cat" / "up").symlink_to(photos)
        (photos / "dog" / "self").symlink_to(photos / "dog")
        (photos / "dog" / "above").symlink_to(photos.parent)
        (photos / "loop").symlink_to(photos)
        source = open_folder(photos)
        assert [paths(source.train), paths(source.held_out)] == plain
        assert "Left out 4: links to folders that are there already" in capsys.readouterr().out

    def test_no_image_is_trained_on_and_held_out(self, tmp_path, capsys):
        conftest.write_photos(tmp_path / "train")
        conftest.write_photos(tmp_path / "val", count=3)
        os.link(tmp_path / "train" / "cat" / "0.jpg", tmp_path / "val" / "cat" / "same.jpg")
        source = open_folder(tmp_path)
        assert (source.num_train, source.num_eval) == (24, 6)
        assert "Left out 1: links to images that are there already" in capsys.readouterr().out

    def test_two_names_of_one_folder(self, tmp_path, photos):
        (photos / "wolf").symlink_to(photos / "dog")
        with pytest.raises(InputError, match="dog' and '.*wolf' are the same folder"):
            open_folder(photos)
        shutil.move(photos, tmp_path / "train")
        os.unlink(tmp_path / "train" / "wolf")
        (tmp_path / "val").symlink_to(tmp_path / "train")
        with pytest.raises(InputError, match="train' and '.*val' are the same folder"):
            open_folder(tmp_path)

    def test_pipes_and_huge_files_are_left_out(self, photos, capsys):
        os.mkfifo(photos / "cat" / "pipe.jpg")
        with open(photos / "dog" / "huge.jpg", "wb") as file:
            file.truncate(1 << 40)
        source = open_folder(photos)
        assert source.num_train + source.num_eval == 24
        said = capsys.readouterr().out
        assert "Left out 1: not regular files" in said and "Left out 1: larger than" in said

    def test_hostile_names(self, tmp_path):
        root = tmp_path / hostile.NOT_UTF8
        names = (*hostile.NAMES, hostile.NOT_UTF8)
        picture = tf.io.encode_png(np.zeros((8, 8, 3), "uint8")).numpy()
        for name in names:
            (root / name).mkdir(parents=True)
            for number in range(2):
                (root / name / f"{name}{number}.PNG").write_bytes(picture)
        source = open_folder(root)
        assert source.class_names == tuple(sorted(names))
        assert source.num_train == source.num_eval == len(names)
        batch = next(iter(data.evaluation(source, FOLDER, 32, 64, 1)))
        assert float(tf.reduce_sum(batch["weights"])) == len(names) and not source.bad.entries
        assert all(source.train.name(number)["key"].isprintable() for number in range(5))


class TestTables:
    def rows(self, splits_of=("",)):
        return [
            f"{name}/{number}.jpg,{name},{splits_of[number % len(splits_of)]}"
            for name in ("cat", "dog")
            for number in range(10)
        ]

    def test_a_split_column_that_knows_only_train(self, tmp_path, capsys):
        text = "\n".join(["path,label,split", *self.rows(["Train"])])
        source = open_table(tmp_path / "a.csv", text)
        assert counts(source.held_out) == {0: 2, 1: 2} and source.num_train == 16
        assert "split Train, 20% of each class held out" in capsys.readouterr().out

    def test_parts_by_any_name(self, tmp_path):
        text = "\n".join(["path,label,split", *self.rows(["TRAINING", "Valid"])])
        source = open_table(tmp_path / "a.csv", text)
        assert (source.num_train, source.num_eval) == (10, 10)

    @pytest.mark.parametrize(
        "labels",
        [
            [f"{number / 7}" for number in range(24)],
            [str(17 * number) for number in range(24)],
            ["1.5", "2.5"] * 12,
            ["1e-3", "2e5"] * 12,
            [f"img_{number}" for number in range(24)],
            [*map(str, range(20)), "1", "1", "2", "3"],
        ],
    )
    def test_measurements_and_names_of_images_are_no_classes(self, tmp_path, labels):
        text = "\n".join(["path,label", *(f"{n}.jpg,{label}" for n, label in enumerate(labels))])
        with pytest.raises(InputError, match="confirm it with --num_classes"):
            open_table(tmp_path / "a.csv", text)
        if len(set(labels)) == 2:
            assert open_table(tmp_path / "a.csv", text, num_classes=2).num_eval == 4

    def test_small_tables_stay_classes(self, tmp_path):
        text = "path,label\na.jpg,3\nb.jpg,3\nc.jpg,12\nd.jpg,12\n"
        source = open_table(tmp_path / "a.csv", text, batch_size=2)
        assert source.class_names == ("3", "12") and (source.num_train, source.num_eval) == (2, 2)

    @pytest.mark.parametrize(
        "row, message",
        [
            ("http://host/a.jpg,cat", "line 3: 'http://host/a.jpg' is a web address"),
            ("s3://bucket/a.jpg,cat", "line 3: 's3://bucket/a.jpg' cannot be reached"),
            ("a.jpg,", "line 3: a row needs a path and a label"),
            ("a.jpg,nan", "line 3: the label is 'nan'"),
            ("a,b.jpg,cat", r"line 3: there are more values than columns \('cat'\)"),
            ("/dev/zero,cat", "line 3: '/dev/zero' is a device"),
            (".,cat", "line 3: '.' is a folder"),
            ("fifo.jpg,cat", "line 3: 'fifo.jpg' is a FIFO"),
            ("huge.jpg,cat", "larger than 256 MiB"),
            ("a\0.jpg,cat", r"line 3: the path 'a\\x00.jpg' cannot be the name"),
            ("0.jpg,dog", "line 3: '0.jpg' has the label 'dog', and in line 2 the label 'cat'"),
            ("./link.jpg,dog", "has the label 'dog', and in line 2 the label 'cat'"),
            ('"' + "a" * 200_000 + '",cat', "cannot be read as CSV"),
        ],
    )
    def test_a_row_that_cannot_be_used(self, tmp_path, row, message):
        os.mkfifo(tmp_path / "fifo.jpg")
        with open(tmp_path / "huge.jpg", "wb") as file:
            file.truncate(1 << 40)
        (tmp_path / "0.jpg").write_bytes(b"x")
        (tmp_path / "link.jpg").symlink_to(tmp_path / "0.jpg")
        rows = [f"{number}.jpg,cat" for number in range(1, 9)]
        text = "\n".join(["path,label", "0.jpg,cat", row, *rows, "x.jpg,dog", "y.jpg,dog"])
        with pytest.raises(InputError, match=message) as error:
            open_table(tmp_path / "a.csv", text)
        assert str(error.value).isprintable()

    @pytest.mark.parametrize(
        "label, message",
        [
            ("0.5", "the label 0.5 is a floating point number"),
            ("1.0", "the label 1.0 is a floating"),
            ("NaN", "the label nan is a floating"),
            ("null", "a row needs a path and a label"),
            ("true", "the label is true"),
            ("[1]", r"the label is \[1\]"),
            ('"\\ud83d"', "cannot be the name of a file or a class"),
            ("[" * 100_000, "line 2, is not a JSON object"),
        ],
    )
    def test_labels_of_jsonl(self, tmp_path, label, message):
        text = '{"path": "a.jpg", "label": "x"}\n{"path": "b.jpg", "label": %s}\n' % label
        with pytest.raises(InputError, match=message):
            open_table(tmp_path / "a.jsonl", text)

    def test_tables_that_cannot_be_read(self, tmp_path):
        os.mkfifo(tmp_path / "fifo.csv")
        with open(tmp_path / "huge.csv", "wb") as file:
            file.truncate(1 << 40)
        (tmp_path / "latin.csv").write_bytes(b"path,label\ncaf\xe9.jpg,x\n")
        for name, message in (
            ("fifo.csv", "cannot be read"),
            ("huge.csv", "bytes"),
            ("latin.csv", r"not UTF-8 text \(line 2\)"),
        ):
            with pytest.raises(InputError, match=message):
                open_folder(tmp_path / name, dataset="table")

    def test_classes_without_images_are_named(self, tmp_path, capsys):
        rows = [*self.rows(["train"]), "x.jpg,wolf,test", "y.jpg,wolf,test", "a.jpg,emu,train"]
        open_table(tmp_path / "a.csv", "\n".join(["path,label,split", *rows]))
        said = capsys.readouterr().out
        assert "No images to train on of 1 class(es): wolf" in said
        assert "No images held out of 3 class(es): cat, dog, emu" in said

    def test_links_to_one_file_are_on_one_side(self, tmp_path):
        lines = ["path,label"]
        for number in range(10):
            (tmp_path / f"{number}.jpg").write_bytes(b"x")
            (tmp_path / f"z{number}.jpg").symlink_to(tmp_path / f"{number}.jpg")
            lines += [f"{number}.jpg,cat", f"z{number}.jpg,cat", f"d{number}.jpg,dog"]
        source = open_table(tmp_path / "a.csv", "\n".join(lines))
        real = [
            {os.path.realpath(path) for path in paths(records)}
            for records in (source.train, source.held_out)
        ]
        assert not real[0] & real[1] and source.num_eval == 6


def write_records(root, split, labels, label_kind="int64_list", shards=2):
    root.mkdir(exist_ok=True)
    picture = tf.io.encode_png(np.zeros((8, 8, 3), "uint8")).numpy()
    for shard in range(shards):
        with tf.io.TFRecordWriter(str(root / f"{split}-{shard:05}-of-{shards:05}")) as writer:
            for label in labels[
                len(labels) * shard // shards : len(labels) * (shard + 1) // shards
            ]:
                kind = {"int64_list": tf.train.Int64List, "float_list": tf.train.FloatList}
                writer.write(
                    tf.train.Example(
                        features=tf.train.Features(
                            feature={
                                "image/encoded": tf.train.Feature(
                                    bytes_list=tf.train.BytesList(value=[picture])
                                ),
                                "image/class/label": tf.train.Feature(
                                    **{label_kind: kind[label_kind](value=[label])}
                                ),
                            }
                        )
                    ).SerializeToString()
                )


class TestRecords:
    def open(self, root, names="red\ngreen\nblue\n", **changes):
        (root / "classes.txt").write_text(names)
        return data.open_source(
            dataclasses.replace(
                Recipe(
                    dataset="tfrecord",
                    data_dir=str(root),
                    batch_size=4,
                    image_size=32,
                    augment="none",
                ),
                **changes,
            )
        )

    def labels(self, records):
        return [
            int(records.load(tf.constant(number, tf.int64), tf.constant(""))[1])
            for number in range(records.count)
        ]

    @pytest.mark.parametrize("order", ["class by class", "in turn"])
    def test_train_alone_is_divided(self, tmp_path, capsys, order):
        labels = [
            1 + number // 50 if order == "class by class" else 1 + number % 3
            for number in range(150)
        ]
        write_records(tmp_path, "Train", labels)
        source = self.open(tmp_path)
        held = collections.Counter(self.labels(source.held_out))
        assert all(5 <= held[label] <= 15 for label in range(3)), held
        assert source.num_train + source.num_eval == 150 and source.num_eval == 30
        assert "Train, 20% held out by a hash" in capsys.readouterr().out
        names = [
            records.name(number)["key"]
            for records in (source.train, source.held_out)
            for number in range(records.count)
        ]
        assert len(set(names)) == 150

    def test_divided_records_are_trained_on_and_evaluated(self, tmp_path):
        write_records(tmp_path, "train", [1 + number // 50 for number in range(150)])
        source = self.open(tmp_path)
        recipe = Recipe(batch_size=8, augment="none")
        batch = next(iter(data.evaluation(source, recipe, 32, 30, 1)))
        assert batch["labels"].numpy().tolist() == self.labels(source.held_out)
        # A record comes once in an epoch, as it does in whole files.
        labels = np.concatenate(
            [one["labels"] for one in data.training(source, recipe, 32, 8).take(15)]
        )
        assert sorted(labels) == sorted(self.labels(source.train))
        assert not source.bad.entries

    def test_parts_by_any_name(self, tmp_path):
        write_records(tmp_path, "TRAINING", [1, 2, 3] * 4)
        write_records(tmp_path, "valid", [1, 2, 3])
        assert self.open(tmp_path).num_eval == 3

    def test_labels_that_are_no_whole_numbers(self, tmp_path):
        write_records(tmp_path, "train", [0.5] * 8, "float_list")
        source = self.open(tmp_path)
        source.bad.examine("train", source.train, 0)
        (entry,) = source.bad.entries
        assert entry["reason"] == (
            "its feature image/class/label holds float numbers or texts; "
            "labels must be int64, images bytes"
        )

    def test_pipes_and_folders_in_the_place_of_files(self, tmp_path):
        write_records(tmp_path, "train", [1, 2, 3] * 4, shards=3)
        for number, put in enumerate((os.mkfifo, os.mkdir)):
            os.unlink(tmp_path / f"train-0000{number}-of-00003")
            put(tmp_path / f"train-0000{number}-of-00003")
        source = self.open(tmp_path, batch_size=2)
        assert [fault["reason"] for fault in source.train.faults] == [
            "the file is a FIFO, not a file",
            "the file is a folder, not a file",
        ]

    def test_the_same_file_twice(self, tmp_path):
        write_records(tmp_path, "train", [1, 2, 3] * 4)
        (tmp_path / "validation-00000-of-00001").symlink_to(tmp_path / "train-00001-of-00002")
        with pytest.raises(InputError, match="are the same file"):
            self.open(tmp_path)

    def test_a_name_that_claims_too_many_files(self, tmp_path):
        write_records(tmp_path, "train", [1, 2])
        for file in tmp_path.iterdir():
            file.rename(tmp_path / f"train-00000-of-{10**12}")
        with pytest.raises(InputError, match="more than 1,000,000 files"):
            self.open(tmp_path)

    def test_a_list_that_names_the_background(self, tmp_path):
        write_records(tmp_path, "train", [1, 2, 3] * 10)
        names = "background\nred\ngreen\nblue\n"
        with pytest.raises(InputError, match="--num_classes 3; if it is .*--num_classes 4"):
            self.open(tmp_path, names)
        assert self.open(tmp_path, names, num_classes=3).class_names == ("red", "green", "blue")
        assert len(self.open(tmp_path, names, num_classes=4).class_names) == 4
        assert len(self.open(tmp_path, names, first_label=0).class_names) == 4
        with pytest.raises(InputError, match="has the class 'red' twice"):
            self.open(tmp_path, "red\nred\nblue\n")
