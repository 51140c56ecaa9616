"""data/: every image once, the published crops, and bad data."""

import dataclasses
import json
import os
import time

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data
from effnet_tf.data import augment, batches, decoding, tables
from effnet_tf.errors import InputError
from effnet_tf.recipes import RECIPES, Recipe
from tests import conftest
from tests.helpers import tiny_dataset

FOLDER = dataclasses.replace(RECIPES["small"], dataset="folder", batch_size=4, image_size=32)


def open_folder(path, **changes):
    return data.open_source(dataclasses.replace(FOLDER, data_dir=str(path), **changes))


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def rows(records, numbers=None):
    """The (encoded image, label) of records, by default of all."""
    loaded = [
        records.load(tf.constant(number, tf.int64), tf.constant(""))
        for number in (range(records.count) if numbers is None else numbers)
    ]
    return [(encoded.numpy(), int(label)) for encoded, label in loaded]


def order(records, seed, start, count, shard=0, shards=1):
    """The (position, record)s of a host's training."""
    return [
        (int(position), int(number))
        for position, number, _ in take(
            batches.shuffled(records, seed, start, shard, shards).unbatch(), count
        )
    ]


def evaluated(records, shard, shards):
    return [int(number) for number, _ in batches.in_order(records, shard, shards).unbatch()]


class TestDigits:
    recipe = RECIPES["digits"]

    def test_are_the_bundled_scans(self):
        source = data.open_source(self.recipe)
        assert source.num_train + source.num_eval == 1797
        assert source.class_names == tuple("0123456789")
        encoded, label = rows(source.held_out, [0])[0]
        image = decoding.decode(encoded)
        assert image.shape == (8, 8, 3) and image.dtype == tf.uint8 and 0 <= label < 10

    def test_the_split_is_stable_and_disjoint(self):
        one, two = (data.open_source(self.recipe) for _ in range(2))
        assert rows(one.held_out) == rows(two.held_out)
        held_out = [encoded for encoded, _ in rows(one.held_out)]
        train = [encoded for encoded, _ in rows(one.train)]
        from sklearn.datasets import load_digits

        distinct = {tuple(row) for row in load_digits().data}
        assert len(set(train) | set(held_out)) == len(distinct)

    def test_holdout_is_a_fraction(self):
        half = data.open_source(dataclasses.replace(self.recipe, holdout=0.5))
        assert half.num_eval == pytest.approx(1797 / 2, abs=10)  # one more or less per class


class TestTrainingOrder:
    @pytest.fixture(scope="class")
    def source(self):
        return data.open_source(RECIPES["smoke"])

    def test_an_epoch_is_a_permutation_and_the_next_is_another(self, source):
        positions, two = zip(*order(source.train, 5, 0, 2 * source.num_train))
        first, second = two[: source.num_train], two[source.num_train :]
        assert sorted(first) == sorted(second) == list(range(source.num_train))
        assert first != second and list(positions) == list(range(2 * source.num_train))

    def test_is_a_function_of_the_seed(self, source):
        assert order(source.train, 1, 0, 50) == order(source.train, 1, 0, 50)
        assert order(source.train, 1, 0, 50) != order(source.train, 2, 0, 50)

    def test_starts_anywhere(self, source):
        assert order(source.train, 1, 0, 1000)[970:] == order(source.train, 1, 970, 30)

    @pytest.mark.parametrize("hosts", [2, 3])
    def test_hosts_share_the_order_of_one(self, source, hosts):
        shards = [order(source.train, 1, 0, 400, shard, hosts) for shard in range(hosts)]
        together = [example for group in zip(*shards) for example in group]
        assert together == order(source.train, 1, 0, 400 * hosts)

    def test_batches_continue_where_they_stopped(self, source):
        recipe = RECIPES["smoke"]
        whole = take(data.training(source, recipe, 32, 8), 5)
        rest = take(data.training(source, recipe, 32, 8, start=24), 2)
        for one, other in zip(whole[3:], rest):
            np.testing.assert_array_equal(one["images"], other["images"])
            np.testing.assert_array_equal(one["labels"], other["labels"])

    small = dataclasses.replace(RECIPES["smoke"], dataset="synthetic", num_classes=3, batch_size=16)

    @pytest.fixture(scope="class")
    def labels_of_one_host(self):
        """The first 120 labels of a data set of 32 images."""
        dataset = data.training(data.open_source(self.small), self.small, 32, 10)
        return np.concatenate([one["labels"] for one in take(dataset, 12)])

    @pytest.mark.parametrize("hosts, batch", [(2, 1), (7, 3), (1030, 1)])
    def test_any_number_of_hosts_and_any_batch(self, hosts, batch, labels_of_one_host):
        host = min(hosts - 1, 5)
        dataset = data.training(
            data.open_source(self.small), self.small, 32, batch, shard=host, num_shards=hosts
        )
        labels = np.concatenate([one["labels"] for one in take(dataset, 6)])
        expected = labels_of_one_host[host::hosts]
        np.testing.assert_array_equal(labels[: len(expected)], expected[: len(labels)])

    def test_batches_are_bytes(self, source):
        images, labels = take(data.training(source, RECIPES["smoke"], 40, 8), 1)[0].values()
        assert (images.shape, images.dtype) == ((8, 40, 40, 3), np.uint8)
        assert (labels.shape, labels.dtype) == ((8,), np.int64)


@pytest.mark.parametrize(
    "hosts, batch",
    [
        (1, 7),
        (3, 64),
        pytest.param(2, 7, marks=pytest.mark.slow),
        pytest.param(4, 16, marks=pytest.mark.slow),
    ],
)
def test_evaluation_has_every_image_once(hosts, batch):
    recipe = dataclasses.replace(RECIPES["smoke"], holdout=0.1)
    source = data.open_source(recipe)
    steps = -(-(-(-source.num_eval // hosts)) // batch)
    labels, total = [], 0
    for host in range(hosts):
        batches = take(
            data.evaluation(source, recipe, 32, batch, steps, shard=host, num_shards=hosts),
            steps + 1,
        )
        assert len(batches) == steps
        for images, label, weight, _ in (batch.values() for batch in batches):
            assert images.shape == (batch, 32, 32, 3)
            labels += list(label[weight == 1])
            total += weight.sum()
    assert total == source.num_eval
    expected = [label for _, label in rows(source.held_out)]
    assert sorted(labels) == sorted(expected)


class TestFolder:
    def test_one_folder_per_class(self, photos, capsys):
        source = open_folder(photos)
        assert source.class_names == ("cat", "dog")
        assert source.num_train + source.num_eval == 24
        assert "20% of each class held out by a hash" in capsys.readouterr().out

    def test_the_split_does_not_move_when_images_are_added(self, photos):
        def held_out():
            return {encoded for encoded, _ in rows(open_folder(photos).held_out)}

        before = held_out()
        (photos / "cat" / "new.png").write_bytes((photos / "cat" / "1.png").read_bytes())
        assert before <= held_out()

    @pytest.mark.parametrize("name", ["val", "validation", "test"])
    def test_train_and_val_folders(self, tmp_path, name):
        conftest.write_photos(tmp_path / "train")
        conftest.write_photos(tmp_path / name, count=3)
        source = open_folder(tmp_path)
        assert (source.num_train, source.num_eval) == (24, 6)

    def test_train_and_val_of_other_classes(self, tmp_path):
        conftest.write_photos(tmp_path / "train")
        conftest.write_photos(tmp_path / "val", classes=("cat", "wolf"))
        with pytest.raises(InputError, match="dog, wolf only in one"):
            open_folder(tmp_path)

    def test_empty(self, tmp_path):
        with pytest.raises(InputError, match="is empty"):
            open_folder(tmp_path)

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="nowhere' is not a folder"):
            open_folder(tmp_path / "nowhere")
        with pytest.raises(InputError, match="give --data_dir, the folder with"):
            data.open_source(FOLDER)

    def test_class_without_images(self, photos):
        (photos / "wolf").mkdir()
        with pytest.raises(InputError, match="wolf' holds no images"):
            open_folder(photos)

    def test_one_class(self, tmp_path):
        conftest.write_photos(tmp_path / "p", classes=("cat",))
        with pytest.raises(InputError, match="only the class 'cat'"):
            open_folder(tmp_path / "p")

    def test_batch_larger_than_the_data(self, photos):
        with pytest.raises(InputError, match="batch_size is 64.*smaller --batch_size"):
            open_folder(photos, batch_size=64)

    def test_nothing_held_out(self, photos):
        with pytest.raises(InputError, match="0 to evaluate on"):
            open_folder(photos, holdout=0.0)

    def test_misspelt_eval_split(self, tmp_path):
        conftest.write_photos(tmp_path / "train")
        with pytest.raises(InputError, match="no folders train/ and valid/"):
            open_folder(tmp_path, eval_split="valid")

    def test_images_without_class_folders(self, tmp_path):
        conftest.write_photos(tmp_path / "p")
        with pytest.raises(InputError, match="has files but no folders"):
            open_folder(tmp_path / "p" / "cat")

    def test_hidden_folders_are_skipped_and_other_files_counted(self, photos, capsys):
        hidden = photos / "cat" / ".ipynb_checkpoints"
        hidden.mkdir()
        (hidden / "0.jpg").write_bytes((photos / "cat" / "0.jpg").read_bytes())
        (photos / "dog" / "notes.txt").write_text("good dog")
        (photos / "dog" / "x.tiff").write_bytes(b"II*\0")
        (photos / "__MACOSX" / "dog").mkdir(parents=True)
        (photos / "__MACOSX" / "dog" / "._0.jpg").write_bytes(b"\0\5\x16\7")
        (photos / "cat" / "more").mkdir()
        (photos / "cat" / "more" / "1.png").write_bytes((photos / "cat" / "1.png").read_bytes())
        source = open_folder(photos)
        assert source.num_train + source.num_eval == 25
        said = capsys.readouterr().out
        assert "Left out 1: TIFF files, which cannot be decoded" in said
        assert "Left out 1: files that are not images" in said and "notes.txt" in said

    def test_names_that_are_no_utf8_and_links(self, photos):
        odd = os.path.join(os.fsencode(photos), b"dog", b"caf\xe9.png")
        with open(odd, "wb") as file:
            file.write((photos / "dog" / "1.png").read_bytes())
        (photos / "more").mkdir()
        (photos / "more" / "2.png").write_bytes((photos / "cat" / "1.png").read_bytes())
        (photos / "cat" / "linked").symlink_to(photos / "more")
        source = open_folder(photos, eval_split=None)
        # "more" is a class of its own: its image is not cat's, too.
        assert source.class_names == ("cat", "dog", "more")
        assert source.num_train + source.num_eval == 26
        names = [
            records.name(number)["key"]
            for records in (source.train, source.held_out)
            for number in range(records.count)
        ]
        assert any("caf\\xe9.png" in name for name in names)
        assert all(
            encoded for records in (source.train, source.held_out) for encoded, _ in rows(records)
        )

    def test_split_folder_that_is_not_there(self, photos):
        with pytest.raises(InputError, match="no folders train/ and check/"):
            open_folder(photos, eval_split="check")


class TestTfds:
    @pytest.fixture(scope="class")
    def data_dir(self, tmp_path_factory):
        return tiny_dataset.write(tmp_path_factory.mktemp("tfds"))

    def recipe(self, data_dir, **changes):
        return dataclasses.replace(
            Recipe(dataset="tiny_colours", data_dir=str(data_dir), batch_size=4, image_size=32),
            **changes,
        )

    def test_reads_a_data_set_on_disk(self, data_dir):
        recipe = self.recipe(data_dir)
        source = data.open_source(recipe)
        assert source.class_names == ("red", "green", "blue")
        assert (source.num_train, source.num_eval) == (20, 20)
        recipe = dataclasses.replace(recipe, augment="none")
        for images, labels in map(dict.values, take(data.training(source, recipe, 32, 4), 10)):
            # The label is the brightest channel: image and label belong together.
            np.testing.assert_array_equal(images.mean((1, 2)).argmax(-1), labels)

    def test_train_order_repeats_and_resumes(self, data_dir):
        source = data.open_source(self.recipe(data_dir))
        whole = order(source.train, 3, 0, 50)
        assert order(source.train, 3, 0, 50) == whole
        assert order(source.train, 3, 30, 20) == whole[30:]
        numbers = [number for _, number in whole]
        assert sorted(numbers[:20]) == sorted(numbers[20:40]) and numbers[:20] != numbers[20:40]

    def test_evaluation_has_every_image_once_over_hosts(self, data_dir):
        source = data.open_source(self.recipe(data_dir))
        shards = [evaluated(source.held_out, host, 3) for host in range(3)]
        assert sorted(sum(shards, [])) == list(range(source.num_eval))

    def test_holds_out_where_there_is_no_other_split(self, tmp_path):
        tiny_dataset.write(tmp_path, splits=("train",))
        source = data.open_source(self.recipe(tmp_path, holdout=0.25))
        assert (source.num_train, source.num_eval) == (15, 5)

    def test_an_empty_slice(self, tmp_path):
        tiny_dataset.write(tmp_path, splits=("train",))
        with pytest.raises(InputError, match="20 images to train and 0 to evaluate on"):
            data.open_source(self.recipe(tmp_path, holdout=0.0))

    @pytest.mark.parametrize(
        "changes, message",
        [
            (dict(dataset="cifar11"), "no data set 'cifar11'.*cifar10"),
            (dict(dataset="a b"), "cannot open 'a b'"),
            (dict(dataset="cifar10"), "not prepared under.*download_and_prepare"),
            (dict(eval_split="minival"), "no split 'minival'; it has train, test"),
            (dict(train_split="trian[:50%]"), "no split 'trian"),
            (dict(eval_split="train[:x%]"), "no split 'train"),
            (dict(dataset="huggingface:mnist"), "cannot open 'huggingface:mnist'"),
            (dict(dataset="zzzzqqq"), "No known name is near"),
        ],
    )
    def test_what_cannot_be_opened(self, data_dir, changes, message):
        with pytest.raises(InputError, match=message):
            data.open_source(dataclasses.replace(self.recipe(data_dir), **changes))

    def test_a_data_set_that_is_no_classification(self, tmp_path):
        import tensorflow_datasets as tfds

        tiny_dataset.write(
            tmp_path,
            "only_text",
            features=tfds.features.FeaturesDict({"text": tfds.features.Text()}),
            examples=lambda split: [(0, {"text": "a"})],
        )
        with pytest.raises(InputError, match="not an image classification data set.*text"):
            data.open_source(self.recipe(tmp_path, dataset="only_text"))


class TestTable:
    def open(self, path, text, **changes):
        path.write_text(text, encoding="utf-8")
        return data.open_source(
            dataclasses.replace(FOLDER, dataset="table", data_dir=str(path), **changes)
        )

    def rows(self, photos, split=""):
        return [
            (f"{name}/{number}.{('jpg', 'png')[number % 2]}", name, split)
            for name in ("dog", "cat")
            for number in range(12)
        ]

    def test_csv(self, photos):
        text = "path,label\n" + "".join(f"{path},{label}\n" for path, label, _ in self.rows(photos))
        source = self.open(photos / "all.csv", text)
        assert source.class_names == ("cat", "dog")
        assert source.num_train + source.num_eval == 24
        images, labels = map(
            np.concatenate, zip(*map(dict.values, take(data.training(source, FOLDER, 32, 4), 8)))
        )
        np.testing.assert_array_equal(images.mean((1, 2)).argmax(-1), labels)  # by its colour
        assert not source.bad.entries

    def test_jsonl_with_splits_and_numbers(self, photos):
        rows = [
            (path, {"cat": 7, "dog": 10}[label], ("train", "val")[number % 3 == 0])
            for number, (path, label, _) in enumerate(self.rows(photos))
        ]
        text = "".join(
            json.dumps(dict(zip(("path", "label", "split"), row))) + "\n" for row in rows
        )
        source = self.open(photos / "all.jsonl", text)
        assert source.class_names == ("7", "10")  # by the number, not the letters
        assert (source.num_train, source.num_eval) == (16, 8)

    def test_what_spreadsheets_and_programs_write(self, tmp_path):
        for name, text in (
            ("a.csv", "\ufeffpath,label\r\na.jpg,0\r\nb.jpg,1\r\n"),
            ("a.jsonl", '{"path": "a.jpg", "label": 0}\n{"path": "b.jpg", "label": 1}\n\n'),
        ):
            (tmp_path / name).write_text(text, encoding="utf-8", newline="")
            table = tables.read(str(tmp_path / name), 2)
            assert table.class_names == ("0", "1")
            assert [row.path for row in table.rows] == [
                str(tmp_path / "a.jpg"),
                str(tmp_path / "b.jpg"),
            ]

    def test_places(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text('path,label\n"gs://bucket/a, b.jpg",x\n/abs.jpg,y\n')
        assert [row.path for row in tables.read(str(path), 2).rows] == [
            "gs://bucket/a, b.jpg",
            "/abs.jpg",
        ]

    def test_classes_are_in_one_order_on_every_host(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text(
            "path,label\n"
            + "".join(f"{n}.jpg,{label}\n" for n, label in enumerate(("1", "01", "10", "001", "9")))
        )
        assert tables.read(str(path), 5).class_names == ("001", "01", "1", "9", "10")

    def test_rows_of_other_splits_are_counted(self, photos, capsys):
        rows = self.rows(photos)
        text = "path,label,split\n" + "".join(
            f"{path},{label},{('train', ' val ', 'Train', '')[number % 4]}\n"
            for number, (path, label, _) in enumerate(rows)
        )
        source = self.open(photos / "all.csv", text)
        assert (source.num_train, source.num_eval) == (6, 6)
        assert "Ignored 12 row(s)" in capsys.readouterr().out

    def test_the_split_does_not_depend_on_the_order_of_the_rows(self, photos):
        lines = [f"{path},{label}\n" for path, label, _ in self.rows(photos)]
        sources = [
            self.open(photos / "a.csv", "path,label\n" + "".join(some))
            for some in (lines, lines[::-1])
        ]
        assert len({frozenset(source.held_out.items.numpy()) for source in sources}) == 1

    @pytest.mark.parametrize(
        "text, message",
        [
            ("file,label\na,b\n", "no column path; its first line must name them"),
            ("path,label\n", "has no rows"),
            ("", "no column path and no column label"),
            ("path,label\na.jpg,\n", "line 2: a row needs a path and a label"),
            ("path,label\na.jpg\n", "line 2: a row needs a path and a label"),
            ("path,label,split\na,b,x\nc,b,x\n", "no rows of the split 'train'; it has x"),
        ],
    )
    def test_faults(self, tmp_path, text, message):
        with pytest.raises(InputError, match=message):
            self.open(tmp_path / "a.csv", text)

    def test_faults_of_jsonl(self, tmp_path):
        with pytest.raises(InputError, match="line 2, is not a JSON object"):
            self.open(tmp_path / "a.jsonl", '{"path": "a", "label": 1}\n{"path"\n')

    def test_missing(self, tmp_path):
        for path, message in (
            (None, "give --data_dir, the .csv or .jsonl"),
            (str(tmp_path), "needs --data_dir, a .csv or .jsonl"),
            (str(tmp_path / "no.csv"), "needs --data_dir, a .csv or .jsonl"),
        ):
            with pytest.raises(InputError, match=message):
                data.open_source(dataclasses.replace(FOLDER, dataset="table", data_dir=path))


class TestTfrecord:
    """Files as the original code reads them."""

    def write(self, root, split="train", shards=3, count=20, first_label=1):
        random = np.random.default_rng(0)
        for shard in range(shards):
            path = str(root / f"{split}-{shard:05}-of-{shards:05}")
            with tf.io.TFRecordWriter(path) as writer:
                for number in range(shard, count, shards):
                    image = random.integers(0, 100, (30, 40, 3)).astype("uint8")
                    image[..., number % 3] = 255
                    writer.write(
                        tf.train.Example(
                            features=tf.train.Features(
                                feature={
                                    "image/encoded": tf.train.Feature(
                                        bytes_list=tf.train.BytesList(
                                            value=[tf.io.encode_jpeg(image).numpy()]
                                        )
                                    ),
                                    "image/class/label": tf.train.Feature(
                                        int64_list=tf.train.Int64List(
                                            value=[number % 3 + first_label]
                                        )
                                    ),
                                    "image/class/text": tf.train.Feature(
                                        bytes_list=tf.train.BytesList(value=[b"unused"])
                                    ),
                                }
                            )
                        ).SerializeToString()
                    )

    def open(self, root, **changes):
        return data.open_source(
            dataclasses.replace(
                Recipe(dataset="tfrecord", data_dir=str(root), batch_size=4, image_size=32),
                **changes,
            )
        )

    @pytest.mark.parametrize("first_label", [0, 1])
    def test_labels_names_and_images(self, tmp_path, first_label):
        self.write(tmp_path, first_label=first_label)
        self.write(tmp_path, "validation", 2, 7, first_label)
        (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
        source = self.open(tmp_path, first_label=first_label)
        assert source.class_names == ("red", "green", "blue")
        assert (source.num_train, source.num_eval) == (20, 7)
        recipe = Recipe(augment="none", batch_size=4)
        for images, labels in map(dict.values, take(data.training(source, recipe, 32, 4), 10)):
            np.testing.assert_array_equal(images.mean((1, 2)).argmax(-1), labels)
        assert not source.bad.entries

    @pytest.mark.parametrize("text", ["red\ngreen\nblue", "red\r\ngreen\r\nblue\r\n\r\n"])
    def test_class_names_as_editors_write_them(self, tmp_path, text):
        self.write(tmp_path)
        self.write(tmp_path, "validation")
        (tmp_path / "classes.txt").write_text(text, newline="")
        assert self.open(tmp_path).class_names == ("red", "green", "blue")
        (tmp_path / "classes.txt").write_text("red\n\nblue\n")
        with pytest.raises(InputError, match="classes.txt' has an empty line"):
            self.open(tmp_path)

    def test_a_folder_with_brackets(self, tmp_path):
        root = tmp_path / "set [1]"
        root.mkdir()
        self.write(root)
        self.write(root, "test")
        assert self.open(root).num_eval == 20

    def test_imagenets_names_are_known(self, tmp_path, capsys):
        self.write(tmp_path)
        self.write(tmp_path, "validation")
        source = self.open(tmp_path)
        assert len(source.class_names) == 1000 and source.class_names[0] == "n01440764"
        assert "taking ImageNet's" in capsys.readouterr().out

    def test_a_label_of_zero_is_bad_where_they_begin_at_one(self, tmp_path):
        self.write(tmp_path, first_label=0)
        self.write(tmp_path, "validation", first_label=0)
        source = self.open(tmp_path)
        take(data.training(source, Recipe(augment="none"), 32, 4), 5)
        assert len(source.bad.entries) == 7
        assert {entry["reason"] for entry in source.bad.entries} == {
            "its label is -1; labels are 0 to 999, after --first_label 1 was taken off"
        }

    def test_a_missing_file_is_named(self, tmp_path, capsys):
        self.write(tmp_path)
        self.write(tmp_path, "validation")
        (tmp_path / "train-00001-of-00003").unlink()
        source = self.open(tmp_path)
        assert source.num_train == 13 and source.bad.count("train") == 7
        assert "train-00001-of-00003: the file is missing" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "prepare, changes, message",
        [
            (lambda root: None, dict(), "has no files train-00000-of-NNNNN"),
            (
                lambda root: (
                    TestTfrecord().write(root, "train", 2) or TestTfrecord().write(root, "train", 3)
                ),
                dict(),
                "has several sets of files train-",
            ),
            (
                lambda root: TestTfrecord().write(root) or TestTfrecord().write(root, "validation"),
                dict(num_classes=5),
                "write the names into classes.txt",
            ),
        ],
    )
    def test_faults(self, tmp_path, prepare, changes, message):
        prepare(tmp_path)
        with pytest.raises(InputError, match=message):
            self.open(tmp_path, **changes)


class TestDeterminism:
    """Order and draws depend on nothing but seed, epoch and place."""

    recipe = dataclasses.replace(
        RECIPES["smoke"],
        dataset="synthetic",
        augment="randaugment",
        flip=True,
        random_erasing=0.5,
        mixup_alpha=0.2,
        num_classes=4,
    )

    def batches(self, start=0, count=3, threads=None, **changes):
        recipe = dataclasses.replace(self.recipe, **changes)
        dataset = data.training(data.open_source(recipe), recipe, 32, 8, start=start)
        options = tf.data.Options()
        if threads:
            options.threading.private_threadpool_size = threads
        return take(dataset.with_options(options), count)

    @pytest.fixture(scope="class")
    def near(self):
        """The first 30 batches."""
        return self.batches(count=30)

    def test_threads_change_nothing(self, near):
        for one, other in zip(near, self.batches(threads=1)):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])

    def test_nothing_is_tuned(self):
        """What tunes sleeps for up to a minute, and is waited for when a pipeline ends."""
        source = data.open_source(self.recipe)
        held_out = data.evaluation(source, self.recipe, 32, 8, 1)
        for dataset in (data.training(source, self.recipe, 32, 8), held_out):
            assert dataset.options().autotune.enabled is False

    def test_a_late_step_starts_at_once(self):
        found, seconds = [], []
        for start in (0, 10**6 * 168):  # images of so many epochs: their draws differ
            begun = time.process_time()  # what else the machine does is not counted
            found.append(self.batches(start=start, count=1, augment="none")[0])
            seconds.append(time.process_time() - begun)
        assert seconds[1] < 10 * seconds[0]  # most of both is tracing
        assert not np.array_equal(found[0]["images"], found[1]["images"])

    def test_a_late_step_is_what_it_would_have_been(self, near):
        for one, other in zip(near[20:], self.batches(start=160, count=10)):
            np.testing.assert_array_equal(one["images"], other["images"])

    def test_epochs_draw_anew(self):
        source = data.open_source(self.recipe)
        recipe = dataclasses.replace(self.recipe, augment="none")
        first, second = (
            batch["images"]
            for batch in take(data.training(source, recipe, 32, source.num_train), 2)
        )
        assert not {image.tobytes() for image in first} & {image.tobytes() for image in second}


class TestAugmentation:
    recipe = dataclasses.replace(
        RECIPES["smoke"], dataset="synthetic", batch_size=16, num_classes=5
    )

    def batches(self, count, **changes):
        recipe = dataclasses.replace(self.recipe, **changes)
        return take(data.training(data.open_source(recipe), recipe, 32, 16), count)

    def batch(self, **changes):
        return self.batches(1, **changes)[0]

    @pytest.fixture(scope="class")
    def plain(self):
        """The first batch, as the recipe makes it."""
        return self.batch()

    def test_noise_has_two_batches_and_the_classes_asked_for(self):
        source = data.open_source(self.recipe)
        assert (source.num_train, source.num_eval, len(source.class_names)) == (32, 40, 5)

    @pytest.mark.parametrize(
        "changes",
        [
            dict(augment="autoaugment"),
            dict(augment="randaugment"),
            pytest.param(
                dict(augment="randaugment", randaugment_layers=1, randaugment_magnitude=30.0),
                marks=pytest.mark.slow,
            ),
        ],
    )
    def test_policies_change_images_and_not_labels(self, changes, plain):
        augmented = self.batch(**changes)
        np.testing.assert_array_equal(plain["labels"], augmented["labels"])
        different = (plain["images"] != augmented["images"]).any((1, 2, 3))
        assert augmented["images"].dtype == np.uint8 and different.sum() > 4

    @pytest.mark.parametrize(
        "changes",
        [dict(mixup_alpha=0.2), dict(cutmix_alpha=1.0), dict(mixup_alpha=0.2, cutmix_alpha=1.0)],
    )
    def test_pixels_and_labels_are_mixed_by_the_same_share(self, changes):
        mixing = np.concatenate([batch["mixing"] for batch in self.batches(8, **changes)])
        ones = np.zeros((len(mixing), 64, 64, 3), "uint8")
        ones[: len(mixing) // 2] = 200  # the partner, the batch reversed, has the other colour
        scale = np.float32([1, 1, 2, 2, 2, 2])  # boxes were drawn for 32 pixels
        targets = np.eye(2, dtype="float32")[(ones[:, 0, 0, 0] > 0).astype(int)]
        images, mixed = augment.mix(ones, targets, mixing * scale)
        share = np.where(targets[:, 1] == 1, mixing[:, 0], 1 - mixing[:, 0])
        np.testing.assert_allclose(np.mean(images, (1, 2, 3)) / 200, share, atol=1e-5)
        np.testing.assert_allclose(mixed[:, 1], share, atol=1e-6)
        assert mixing[:, 0].min() >= 0 and len(np.unique(mixing[:, 0])) > 50
        if changes.get("cutmix_alpha") is None:
            assert mixing[:, 0].min() >= 0.5  # main.py: the larger share is the image's own

    def test_cutmix_keeps_about_half_on_average(self):
        seeds = tf.stack([tf.range(2000, dtype=tf.int64)] * 2, 1)
        draw = tf.function(
            lambda: tf.map_fn(
                lambda seed: augment.mixing(seed, 32, 0.0, 1.0),
                seeds,
                fn_output_signature=tf.float32,
            )
        )
        drawn = draw().numpy()
        assert 0.5 < drawn[:, 0].mean() < 0.75  # the border cuts boxes, which keeps more
        areas = (drawn[:, 3] - drawn[:, 2]) * (drawn[:, 5] - drawn[:, 4]) / 32**2
        np.testing.assert_allclose(drawn[:, 0], 1 - areas, atol=1e-6)
