"""python -m effnet_tf.data: what it finds in a data set, and the smaller copy it makes."""

import dataclasses
import json
import os

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data, programs
from effnet_tf.data import __main__ as program
from effnet_tf.data import bad_images, batches, check, crops, decoding, prepare
from effnet_tf.errors import InputError
from effnet_tf.recipes import RECIPES, Recipe
from tests.helpers import broken, hostile

BAD, ODD = broken.bad(), broken.odd()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """train/ and val/ of good, odd and bad files, with images that are there twice."""
    root = tmp_path_factory.mktemp("photos")
    for split, seeds in (("train", range(20)), ("val", range(100, 106))):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for seed in seeds:
                (root / split / name / f"{seed}.jpg").write_bytes(
                    broken.encoded(broken.photo(90, 120, seed=1000 * (label + 1) + seed))
                )
    for number, (name, (content, _)) in enumerate(BAD.items()):
        (root / ("train", "val")[number % 4 == 0] / "cat" / f"bad_{name}").write_bytes(content)
    for name, content in ODD.items():
        (root / "train" / "dog" / f"odd_{name}").write_bytes(content)
    copy = (root / "train" / "cat" / "3.jpg").read_bytes()
    (root / "val" / "cat" / "again.jpg").write_bytes(copy)
    (root / "train" / "dog" / "again.jpg").write_bytes(
        (root / "train" / "dog" / "4.jpg").read_bytes()
    )
    return root


def run(*arguments):
    """The exit code of the program."""
    try:
        with programs.sentences():
            return program.main(program.parse(["data", *map(str, arguments)]))
    except SystemExit as stopped:
        return stopped.code


def prepare_small(photos, out):
    """The exit code of `prepare` on a folder of photos, for a network of 32 pixels."""
    sizes = ("--image_size", 32, "--batch_size", 8)
    return run("prepare", "--dataset", "folder", "--data_dir", photos, *sizes, "--out", out)


class TestCheck:
    @pytest.fixture(scope="class")
    def checked(self, photos, tmp_path_factory):
        """(exit code, folder of the report)."""
        out = tmp_path_factory.mktemp("report")
        return run(
            "check",
            "--dataset",
            "folder",
            "--data_dir",
            photos,
            "--image_size",
            32,
            "--augment",
            "none",
            "--batch_size",
            8,
            "--out",
            out,
        ), out

    def test_names_every_bad_file_and_no_other(self, checked):
        code, out = checked
        listed = [json.loads(line) for line in (out / "bad_examples.jsonl").open()]
        assert code == 1
        assert {os.path.basename(entry["key"]) for entry in listed} == {
            f"bad_{name}" for name in BAD
        }
        for entry in listed:
            expected = BAD[os.path.basename(entry["key"])[4:]][1]
            assert expected in entry["reason"]
            assert f"/{ {'train': 'train', 'eval': 'val'}[entry['split']] }/" in entry["key"]

    def test_draws_samples(self, checked):
        picture = tf.io.decode_png((checked[1] / "contact_sheet.png").read_bytes())
        assert (
            picture.shape[0] > picture.shape[1] > 500
            and float(tf.math.reduce_std(tf.cast(picture, tf.float32))) > 20
        )

    def test_finds_what_there_is(self, photos, capsys):
        recipe = dataclasses.replace(RECIPES["small"], data_dir=str(photos), batch_size=8)
        source = data.open_source(recipe)
        found = check.scan(source)
        train, held_out = found.splits["train"], found.splits["eval"]
        good = 40 + len(ODD) + 1
        assert train.images == good + source.bad.count("train")
        assert sum(train.classes.values()) == good == len(train.sides)
        assert train.classes[0] == 20 and held_out.classes == {0: 7, 1: 6}
        names = [
            [(split, os.path.basename(key)) for split, _, key in group] for group in found.equal
        ]
        assert sorted(names) == [
            [("eval", "again.jpg"), ("train", "3.jpg")],
            [("train", "4.jpg"), ("train", "again.jpg")],
        ]
        assert len(found.across_splits()) == 1 and not found.across_classes()
        text = "\n".join(check.table(source, found))
        assert "1 image(s) are in both splits" in text and "2 image(s) are copies" in text
        assert "1..90..90" in text and "more bad ones" in text
        assert "        20 train        7 eval  cat" in text

    def test_the_same_image_in_two_classes(self):
        rows = [(broken.encoded(broken.photo()), label) for label in (0, 1)]
        source = data.Source("Some", ("a", "b"), data.Listed(rows), data.Listed(rows[:1]))
        text = "\n".join(check.table(source, check.scan(source)))
        assert "1 image(s) are in several classes: eval image 0 = train image 0 = train" in text

    def test_many_classes(self):
        rows = [(broken.encoded(broken.photo(seed=label)), label) for label in range(30)]
        source = data.Source(
            "Some", tuple(f"c{n}" for n in range(31)), data.Listed(rows), data.Listed(rows)
        )
        lines = check.table(source, check.scan(source))
        assert "31 classes; the 10 smallest and largest:" in lines
        assert any(line.endswith("c30   <- none to train on") for line in lines)

    def test_a_clean_data_set(self, tmp_path, capsys):
        assert (
            run(
                "check",
                "--recipe",
                "smoke",
                "--dataset",
                "synthetic",
                "--num_classes",
                3,
                "--out",
                tmp_path / "r",
            )
            == 0
        )
        assert "bad:" not in capsys.readouterr().out
        assert (tmp_path / "r" / "bad_examples.jsonl").read_text() == ""

    def test_bad_input(self, tmp_path, capsys):
        assert (
            run("check", "--dataset", "folder", "--data_dir", "/nowhere", "--out", tmp_path / "x")
            == 2
        )
        assert "error: --dataset folder needs" in capsys.readouterr().err

    def test_a_report_among_the_classes(self, photos, capsys):
        for program_name in ("check", "prepare"):
            assert (
                run(
                    program_name,
                    "--dataset",
                    "folder",
                    "--data_dir",
                    photos,
                    "--out",
                    photos / "report",
                )
                == 2
            )
            assert "would be taken for a class" in capsys.readouterr().err
        assert not (photos / "report").exists()

    def test_a_file_in_the_place_of_the_report(self, tmp_path, capsys):
        (tmp_path / "report").write_text("x")
        assert run("check", "--dataset", "digits", "--out", tmp_path / "report") == 2
        assert "report' " in capsys.readouterr().err


class TestPrepare:
    recipe = dataclasses.replace(RECIPES["small"], image_size=32, batch_size=8)

    @pytest.fixture(scope="class")
    def copy(self, photos, tmp_path_factory):
        out = tmp_path_factory.mktemp("copy") / "small"
        assert prepare_small(photos, out) == 0
        return out

    def opened(self, copy):
        return data.open_source(
            dataclasses.replace(self.recipe, dataset="tfrecord", data_dir=str(copy))
        )

    def rows(self, source):
        return [(encoded, label) for _, encoded, label in check.examples(source)]

    def test_is_a_smaller_data_set_of_the_same_labels(self, photos, copy):
        old = data.open_source(dataclasses.replace(self.recipe, data_dir=str(photos)))
        new = self.opened(copy)
        assert new.class_names == old.class_names and new.num_train == 40 + len(ODD) + 1
        side, kept = prepare.MARGIN * 32, 0
        originals = {encoded for encoded, _ in self.rows(old.train)}
        for encoded, _ in self.rows(new.train):
            shape = decoding.shape_of(tf.constant(encoded)).numpy()
            assert min(shape) <= side + 1 or encoded in originals  # which it could not shrink
            kept += encoded in originals
        assert kept < len(ODD)
        with open(copy / "prepared.json") as file:
            about = json.load(file)
        assert (
            about["short_side"] == 37
            and about["train"]["bytes"] < about["train"]["bytes_before"]
            and 0 < about["mean_difference_grey_levels"] < 20
        )

    def test_labels_belong_to_their_images(self, photos, copy):
        # Every shrunk image is nearest to one of its own class in the original.
        old, new = (
            data.open_source(dataclasses.replace(self.recipe, dataset=kind, data_dir=str(root)))
            for kind, root in (("folder", photos), ("tfrecord", copy))
        )
        crop = crops.EvaluationCrop(8, 0, exif_rotation=True)
        small, labels = [], []
        for records in (old.train, new.train):
            rows = [row for row in self.rows(records) if row[0] and not bad_images.fault(row[0])]
            small.append(np.array([crop(tf.constant(encoded)) for encoded, _ in rows]))
            labels.append([label for _, label in rows])
        for image, label in zip(small[1], labels[1]):
            nearest = np.abs(small[0] - image).mean((1, 2, 3)).argmin()
            assert labels[0][nearest] == label

    def test_held_out_images_are_the_same_bytes_bad_ones_too(self, photos, copy):
        old = data.open_source(dataclasses.replace(self.recipe, data_dir=str(photos)))
        expected = self.rows(old.held_out)
        assert self.rows(self.opened(copy).held_out) == expected

    def test_bad_images_are_listed(self, copy):
        listed = [json.loads(line) for line in (copy / "bad_examples.jsonl").open()]
        assert len([entry for entry in listed if entry["split"] == "train"]) == len(BAD) - len(
            range(0, len(BAD), 4)
        )

    def test_is_the_same_again(self, photos, copy, tmp_path):
        old = data.open_source(dataclasses.replace(self.recipe, data_dir=str(photos)))
        prepare.prepare(old, self.recipe, str(tmp_path / "again"))
        for name in ("train-00000-of-00001", "validation-00000-of-00001"):
            assert (tmp_path / "again" / name).read_bytes() == (copy / name).read_bytes()

    def test_an_existing_folder_is_left_alone(self, copy, photos, capsys):
        assert prepare_small(photos, copy) == 2
        assert "exists already" in capsys.readouterr().err

    def test_an_interrupted_one_leaves_nothing(self, photos, tmp_path, monkeypatch):
        old = data.open_source(dataclasses.replace(self.recipe, data_dir=str(photos)))
        monkeypatch.setattr(prepare, "_example", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare.prepare(old, self.recipe, str(tmp_path / "out"))
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("shape", [(300, 400), (401, 300)])
    def test_shrinking_keeps_what_evaluation_sees(self, shape):
        # A smooth image has nothing to lose; half a pixel of shift would be seen.
        encoded = tf.constant(broken.encoded(broken.photo(*shape), "PNG"))
        small = prepare.shrunk(encoded, 74, 95)
        before, after = (crops.bicubic(decoding.decode(file), 64) for file in (encoded, small))
        assert min(decoding.shape_of(small).numpy()) == 74
        shifted = np.abs(np.roll(before, 1, 1) - before).mean()
        assert np.abs(before - after).mean() < 0.25 * shifted  # chroma of a JPEG

    def test_small_bad_images_are_left_out_too(self, tmp_path):
        rows = [
            (broken.encoded(broken.photo(30, 40)), 0),
            (BAD["half.jpg"][0], 1),
            (broken.encoded(broken.photo(30, 40, seed=1)), 1),
        ]
        source = data.Source("Some", ("a", "b"), data.Listed(rows), data.Listed(rows[:1]))
        recipe = dataclasses.replace(self.recipe, image_size=224)
        about = prepare.prepare(source, recipe, str(tmp_path / "out"))
        assert about["train"]["images"] == 2 and source.bad.count("train") == 1

    def test_small_images_stay_as_they_are(self):
        encoded = tf.constant(broken.encoded(broken.photo(40, 60), "PNG"))
        assert prepare.shrunk(encoded, 40, 95) == encoded


def test_drawn_images_are_those_of_the_training(tmp_path):
    rows = [(broken.encoded(broken.photo(seed=number)), number % 2) for number in range(8)]
    source = data.Source("Some", ("a", "b"), data.Listed(rows), data.Listed(rows))
    recipe = Recipe(augment="randaugment", batch_size=8, random_erasing=0.5)
    batch = next(iter(data.training(source, recipe, 32, 8)))
    positions, numbers, _ = next(iter(batches.shuffled(source.train, 0, 0, 0, 1)))
    draw = tf.function(batches.draw, autograph=False)
    for place in range(8):
        drawn = draw(recipe, tf.constant(rows[int(numbers[place])][0]), 32, positions[place])
        np.testing.assert_array_equal(drawn, batch["images"][place])


def test_preparing_nothing_usable(tmp_path):
    source = data.Source(
        "Some", ("a", "b"), data.Listed([(b"no", 0)] * 3), data.Listed([(b"no", 0)])
    )
    with pytest.raises(InputError, match="No image of Some can be used"):
        prepare.prepare(source, RECIPES["small"], str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


class TestPreparing:
    """What a copy must not do: lose images in silence, grow, or touch what is the user's."""

    recipe = dataclasses.replace(RECIPES["small"], image_size=32, batch_size=8)

    def source(self, rows, names=("a", "b")):
        return data.Source("Some", names, data.Listed(rows), data.Listed(rows[:1]))

    def good(self, count=4):
        return [(broken.encoded(broken.photo(90, 120, seed=n)), n % 2) for n in range(count)]

    def test_says_what_is_left_out(self, tmp_path, capsys):
        for name in ("cat", "dog"):
            (tmp_path / "photos" / name).mkdir(parents=True)
            for number, (content, _) in enumerate(self.good(10)):
                (tmp_path / "photos" / name / f"{number}.jpg").write_bytes(content)
            for number in range(5):
                (tmp_path / "photos" / name / f"bad{number}.jpg").write_bytes(BAD["half.jpg"][0])
        assert prepare_small(tmp_path / "photos", tmp_path / "out") == 0
        said = capsys.readouterr().out
        listed = [json.loads(line) for line in (tmp_path / "out/bad_examples.jsonl").open()]
        train = [entry for entry in listed if entry["split"] == "train"]
        assert f"Left out {len(train)} of 24 training images" in said and len(train) >= 8
        assert str(tmp_path / "out/bad_examples.jsonl") in said

    def test_no_file_grows(self, tmp_path):
        rows = [(broken.encoded(broken.photo(60, 80, seed=n), quality=5), n % 2) for n in range(4)]
        about = prepare.prepare(self.source(rows), self.recipe, str(tmp_path / "out"), quality=100)
        assert about["train"]["bytes"] == about["train"]["bytes_before"]
        encoded = tf.constant(rows[0][0])
        assert prepare.shrunk(encoded, 37, 100) == encoded

    @pytest.mark.parametrize("name", ["line\nbreak", " blank", "caf\udce9", "a\0b"])
    def test_a_class_that_cannot_be_a_line(self, tmp_path, name):
        with pytest.raises(InputError, match="rename the class"):
            prepare.prepare(
                self.source(self.good(), ("a", name)), self.recipe, str(tmp_path / "out")
            )
        assert not list(tmp_path.iterdir())

    def test_a_folder_of_the_users_is_left_alone(self, tmp_path):
        theirs = tmp_path / "out.incomplete"
        theirs.mkdir()
        (theirs / "thesis.txt").write_text("x")
        (theirs / "train-00000-of-00001").write_text("x")
        with pytest.raises(InputError, match="is not the unfinished copy"):
            prepare.prepare(self.source(self.good()), self.recipe, str(tmp_path / "out"))
        assert len(list(theirs.iterdir())) == 2

    def test_an_unfinished_copy_is_replaced_but_what_was_put_there_stays(self, tmp_path):
        old = tmp_path / "out.incomplete"
        prepare._begin(str(old))
        (old / "train-00007-of-00009").write_text("x")
        prepare.prepare(self.source(self.good()), self.recipe, str(tmp_path / "one"))
        prepare.prepare(self.source(self.good()), self.recipe, str(tmp_path / "out"))
        assert not old.exists() and not (tmp_path / "out" / "train-00007-of-00009").exists()
        for folder in ("one", "out"):
            assert sorted(path.name for path in (tmp_path / folder).iterdir()) == [
                "bad_examples.jsonl",
                "classes.txt",
                "prepared.json",
                "train-00000-of-00001",
                "validation-00000-of-00001",
            ]
        prepare._begin(str(tmp_path / "two.incomplete"))
        (tmp_path / "two.incomplete" / "thesis.txt").write_text("x")
        with pytest.raises(InputError, match="holds files that prepare did not write"):
            prepare.prepare(self.source(self.good()), self.recipe, str(tmp_path / "two"))
        assert (tmp_path / "two.incomplete" / "thesis.txt").read_text() == "x"

    def test_a_file_that_is_put_into_an_unfinished_copy_survives_its_failure(
        self, tmp_path, monkeypatch
    ):
        def put_and_fail(*_):
            (tmp_path / "out.incomplete" / "thesis.txt").write_text("x")
            raise KeyboardInterrupt

        monkeypatch.setattr(prepare, "_example", put_and_fail)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(self.source(self.good()), self.recipe, str(tmp_path / "out"))
        assert (tmp_path / "out.incomplete" / "thesis.txt").read_text() == "x"

    def test_hostile_names_come_back(self, tmp_path):
        kept = tuple(name for name in hostile.NAMES if name == name.strip() and name.isprintable())
        assert len(kept) > 30
        rows = [(self.good(1)[0][0], label) for label in range(len(kept))]
        prepare.prepare(self.source(rows, kept), self.recipe, str(tmp_path / "out"))
        source = data.open_source(
            dataclasses.replace(self.recipe, dataset="tfrecord", data_dir=str(tmp_path / "out"))
        )
        assert source.class_names == kept


def test_check_of_hostile_names(tmp_path, capsys):
    root, picture = tmp_path / "photos", broken.encoded(broken.photo(), "PNG")
    for name in (*hostile.NAMES, hostile.NOT_UTF8):
        (root / name).mkdir(parents=True)
        for number in range(2):
            (root / name / f"{name}{number}.png").write_bytes(picture)
        (root / name / f"{name}.jpg").write_bytes(BAD["half.jpg"][0])
    source = data.open_source(dataclasses.replace(RECIPES["small"], data_dir=str(root)))
    lines = check.table(source, check.scan(source))
    assert all(line.isprintable() for line in lines)
    assert len(source.bad.entries) == len(hostile.NAMES) + 1
    assert json.loads(json.dumps(source.bad.entries)) == source.bad.entries
