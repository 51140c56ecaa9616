"""bad_images.py and batches.py: bad images are replaced and named, never hidden."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data, train
from effnet_tf.data import bad_images, batches, tfrecord
from effnet_tf.data.records import Features, Listed, RecordFiles
from effnet_tf.recipes import RECIPES
from effnet_tf.runs import texts
from tests.helpers import broken, tiny_net

pytestmark = pytest.mark.usefixtures("tiny_variants", "without_the_picture")
CPU = tf.distribute.OneDeviceStrategy("/cpu:0")
SIZE = 32
RECIPE = dataclasses.replace(RECIPES["imagenet"], batch_size=8, image_size=SIZE, augment="none")
BAD, ODD = broken.bad(), broken.odd()


def good(count):
    return [(broken.encoded(broken.photo(seed=number)), number % 2) for number in range(count)]


def source_of(train_rows, eval_rows=None):
    return data.Source(
        "Some images", ("even", "odd"), Listed(train_rows), Listed(eval_rows or good(4))
    )


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def images_of(dataset, count):
    """The images of some batches, one after the other."""
    return np.concatenate([batch["images"] for batch in take(dataset, count)])


class TestReasons:
    @pytest.mark.parametrize("name", BAD)
    def test_of_bad_files(self, name):
        content, expected = BAD[name]
        assert expected in bad_images.fault(content)

    @pytest.mark.parametrize("name", ODD)
    def test_odd_files_are_good(self, name):
        assert bad_images.fault(ODD[name]) is None

    @pytest.mark.parametrize("recipe", ["imagenet", "small"])
    def test_odd_files_are_trained_and_evaluated_on(self, recipe):
        count = len(ODD)
        recipe = dataclasses.replace(RECIPES[recipe], augment="none", batch_size=count)
        source = source_of(*[[(content, 1) for content in ODD.values()]] * 2)
        for batch in take(data.training(source, recipe, SIZE, count), 3):  # three crops of each
            assert (batch["labels"] == 1).all() and batch["images"].shape[0] == count
        (held_out,) = take(data.evaluation(source, recipe, SIZE, count, 1), 1)
        assert (held_out["labels"] == 1).all() and not source.bad.entries


class TestTraining:
    rows = [*good(20), *((content, 0) for content, _ in BAD.values()), (good(1)[0][0], 7)]

    def test_every_bad_image_is_named_once_and_replaced(self):
        source = source_of(self.rows)
        found = take(data.training(source, RECIPE, SIZE, 8), 2 * len(self.rows) // 8 + 1)
        assert all(batch["images"].shape == (8, SIZE, SIZE, 3) for batch in found)
        assert {entry["key"] for entry in source.bad.entries} == {
            f"image {number}" for number in range(20, len(self.rows))
        }
        assert len(source.bad.entries) == source.bad.count("train") == len(BAD) + 1
        reasons = {entry["key"]: entry["reason"] for entry in source.bad.entries}
        assert reasons[f"image {len(self.rows) - 1}"] == "its label is 7; labels are 0 to 1"
        for number, (_, expected) in enumerate(BAD.values(), 20):
            assert expected in reasons[f"image {number}"]

    @pytest.fixture(scope="class")
    def whole(self):
        """What one host sees, (48, SIZE, SIZE, 3)."""
        return images_of(data.training(source_of(self.rows), RECIPE, SIZE, 6), 8)

    @pytest.mark.parametrize("hosts", [pytest.param(2, marks=pytest.mark.slow), 3])
    def test_replacements_are_the_same_on_many_hosts_and_from_anywhere(self, hosts, whole):
        source = source_of(self.rows)
        for host in range(hosts):
            shard = dict(start=3, shard=host, num_shards=hosts)
            part = images_of(data.training(source, RECIPE, SIZE, 2, **shard), 4)
            np.testing.assert_array_equal(part, whole[host::hosts][3:11])

    def test_good_images_are_what_they_would_be_without_bad_ones(self):
        one = take(data.training(source_of(self.rows), RECIPE, SIZE, 8), 4)
        mended = [
            (good(1)[0][0], 0) if number >= 20 else row for number, row in enumerate(self.rows)
        ]
        other = take(data.training(source_of(mended), RECIPE, SIZE, 8), 4)
        numbers = np.concatenate(
            [
                group[1]
                for group in take(batches.shuffled(source_of(self.rows).train, 0, 0, 0, 1), 1)
            ]
        )[:32].reshape(4, 8)
        for a, b, number in zip(one, other, numbers):
            np.testing.assert_array_equal(a["images"][number < 20], b["images"][number < 20])

    def test_nothing_but_bad_images_is_an_error(self):
        source = source_of([(b"no", 0)] * 4)
        with pytest.raises(tf.errors.InvalidArgumentError):
            take(data.training(source, RECIPE, SIZE, 4), 1)
        assert source.bad.count("train") == 4

    def test_records_with_a_flipped_bit(self, tmp_path):
        path = str(tmp_path / "train-00000-of-00001")
        with tf.io.TFRecordWriter(path) as writer:
            for encoded, label in good(12):
                writer.write(
                    tf.train.Example(
                        features=tf.train.Features(
                            feature={
                                "image/encoded": tf.train.Feature(
                                    bytes_list=tf.train.BytesList(value=[encoded])
                                ),
                                "image/class/label": tf.train.Feature(
                                    int64_list=tf.train.Int64List(value=[label])
                                ),
                            }
                        )
                    ).SerializeToString()
                )
        begin = tfrecord.scan([tfrecord.Shard(path)])[0].offsets[5]
        content = bytearray(open(path, "rb").read())
        content[begin + 100] ^= 4
        open(path, "wb").write(bytes(content))
        records = RecordFiles([tfrecord.Shard(path)], Features())
        source = data.Source("Records", ("even", "odd"), records, records)
        take(data.training(source, RECIPE, SIZE, 4), 6)
        evaluated = take(data.evaluation(source, RECIPE, SIZE, 4, 3), 3)
        assert [(entry["split"], entry["key"], entry["shard"]) for entry in source.bad.entries] == [
            ("train", "train-00000-of-00001__5", "train-00000-of-00001"),
            ("eval", "train-00000-of-00001__5", "train-00000-of-00001"),
        ]
        assert "checksum is wrong" in source.bad.entries[0]["reason"]
        labels = np.concatenate([batch["labels"] for batch in evaluated])
        assert np.flatnonzero(labels < 0).tolist() == [5]


class TestRuns:
    recipe = tiny_net.recipe(
        variant="tinier",
        dataset="folder",
        num_classes=None,
        batch_size=8,
        epochs=3,
        max_bad_fraction=0.1,
        holdout=0.3,
    )

    def write(self, root, bad_files):
        for name in ("cat", "dog"):
            (root / name).mkdir(parents=True)
            for number in range(20):
                (root / name / f"{number}.jpg").write_bytes(
                    broken.encoded(broken.photo(seed=number))
                )
        for name in bad_files:
            (root / "dog" / name).write_bytes(BAD[name][0])
        return dataclasses.replace(self.recipe, data_dir=str(root))

    def test_go_on_and_list_the_bad(self, tmp_path, capsys):
        names = ["half.jpg", "html.jpg"]  # one is held out
        recipe = self.write(tmp_path / "photos", names)
        workdir = str(tmp_path / "run")
        metrics = train.run(recipe, workdir, CPU)
        listed = [
            json.loads(line)
            for line in texts.read_text(f"{workdir}/bad_examples.jsonl").splitlines()
        ]
        assert sorted(entry["key"].rpartition("/")[2] for entry in listed) == sorted(names)
        splits = [entry["split"] for entry in listed]
        assert metrics.get("eval_bad_images", 0) == splits.count("eval")
        assert "Bad train image" in capsys.readouterr().out and "train" in splits
        assert train.run(recipe, workdir, CPU) == metrics  # nothing is listed twice
        assert len(texts.read_text(f"{workdir}/bad_examples.jsonl").splitlines()) == 2

    @pytest.fixture(scope="class")
    def stopped(self, tmp_path_factory, tiny_variants):
        """A folder with photos and the run that stopped because of them; and why it did."""
        folder = tmp_path_factory.mktemp("stopped")
        recipe = self.write(folder / "photos", list(BAD)[:12])
        with pytest.MonkeyPatch.context() as patch, pytest.raises(bad_images.TooManyBad) as caught:
            patch.setattr("effnet_tf.train.journal.Journal.show_batch", lambda journal: None)
            train.run(recipe, str(folder / "run"), CPU)
        return folder, str(caught.value)

    @pytest.fixture
    def copied(self, stopped, tmp_path):
        """(recipe, photos, run) of a copy of the stopped run."""
        photos, workdir = tmp_path / "photos", tmp_path / "run"
        shutil.copytree(stopped[0] / "photos", photos)
        shutil.copytree(stopped[0] / "run", workdir)
        return dataclasses.replace(self.recipe, data_dir=str(photos)), photos, workdir

    def test_stop_with_the_list_when_there_are_too_many(self, stopped, copied):
        recipe, photos, workdir = copied
        assert re.search(
            r"images cannot be used, more than "
            r"--max_bad_fraction 0.1: .*dog/.*All are in .*bad_examples.jsonl",
            stopped[1],
        )
        assert texts.read_text(f"{workdir}/bad_examples.jsonl")
        # The images are mended, the run goes on: what was bad is looked at again.
        for seed, name in enumerate(list(BAD)[:12], 100):  # the good ones stay what they are
            (photos / "dog" / name).write_bytes(broken.encoded(broken.photo(seed=seed)))
        assert train.run(recipe, str(workdir), CPU)["epoch"] == 3  # from where it stopped
        assert texts.read_rows(f"{workdir}/bad_examples.jsonl") == []

    def test_what_was_bad_counts_after_a_resume(self, copied):
        recipe, _, workdir = copied
        self.check_stopped(workdir)
        with pytest.raises(bad_images.TooManyBad):
            train.run(recipe, str(workdir), CPU)
        self.check_stopped(workdir)
        assert len(texts.read_rows(f"{workdir}/bad_examples.jsonl")) >= 5
        allowed = dataclasses.replace(recipe, max_bad_fraction=0.5)
        assert train.run(allowed, str(workdir), CPU)["epoch"] == 3  # from where it stopped

    def check_stopped(self, workdir):
        assert len({folder.name for folder in (workdir / "checkpoints").iterdir()}) < 4

    def test_a_bad_held_out_image_counts_as_wrong(self):
        from effnet_tf.train.trainer import Trainer

        recipe = dataclasses.replace(self.recipe, dataset="synthetic", batch_size=4)
        whole = source_of(good(8), good(6))
        torn = source_of(good(8), [*good(6), (b"no", 0), (good(1)[0][0], 9)])
        found = []
        for source in (whole, torn):
            trainer = Trainer(recipe, source, CPU)
            trainer.start()
            found.append(trainer.evaluate())
        assert found[1]["eval_images"] == 8 and found[1]["eval_bad_images"] == 2
        assert "eval_bad_images" not in found[0]
        assert found[1]["eval_accuracy"] == pytest.approx(found[0]["eval_accuracy"] * 6 / 8)
        assert found[1]["eval_loss"] == pytest.approx(found[0]["eval_loss"], rel=1e-5)


def test_a_shard_that_is_missing_counts_as_many_bad_images():
    faults = [{"key": "f", "shard": "f", "reason": "the file is missing", "records": 30}]
    records = Listed(good(70))
    records.faults = faults
    source = data.Source("Some", ("even", "odd"), records, Listed(good(4)))
    assert source.bad.count("train") == 30
    bad_images.check(source, 0.3)
    with pytest.raises(
        bad_images.TooManyBad, match="30 of 100 train images .*f: the file is missing"
    ):
        bad_images.check(source, 0.1)
