"""fingerprint.py: a run goes on with the images it began with, wherever they lie."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data, storage
from effnet_tf.data import changes, fingerprint
from effnet_tf.errors import InputError
from effnet_tf.recipes import Recipe
from effnet_tf.runs import directory, texts
from tests.helpers import hostile

FOLDER = Recipe(dataset="folder", batch_size=4)


def image(seed):
    random = np.random.default_rng(seed)
    return tf.io.encode_png(random.integers(0, 256, (8, 8, 3)).astype("uint8")).numpy()


@pytest.fixture
def photos(tmp_path):
    """train/ and val/ with two classes, whose files have the same names and sizes."""
    root = tmp_path / "photos"
    for split, count in (("train", 8), ("val", 4)):
        for label, name in enumerate(("cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                (root / split / name / f"{number}.png").write_bytes(
                    image(1000 * len(split) + 100 * label + number)
                )
    return root


def start(tmp_path, root, recipe=FOLDER):
    """Begins or resumes a run; returns what source.json says."""
    recipe = dataclasses.replace(recipe, data_dir=str(root))
    with directory.claimed(str(tmp_path / "run"), recipe, data.open_source(recipe)):
        pass
    return json.loads((tmp_path / "run" / "source.json").read_text())


def refuses(tmp_path, root, *phrases, recipe=FOLDER):
    with pytest.raises(InputError) as caught:
        start(tmp_path, root, recipe)
    assert "a run on other data" in str(caught.value)
    for phrase in phrases:
        assert phrase in str(caught.value)


def test_moved_data_resume_and_an_old_run_gets_a_fingerprint(tmp_path, photos):
    first = start(tmp_path, photos)
    moved = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(photos, moved)
    assert start(tmp_path, moved)["fingerprint"] == first["fingerprint"]
    path = tmp_path / "run" / "source.json"
    del first["fingerprint"]
    path.write_text(json.dumps(first))
    assert start(tmp_path, photos)["fingerprint"]
    path.write_text(json.dumps({**first, "fingerprint": {"train": 3}}))
    with pytest.raises(InputError, match="source.json' is damaged .its fingerprint"):
        start(tmp_path, photos)


def test_a_relative_data_dir_is_kept_as_absolute(tmp_path, photos, monkeypatch):
    monkeypatch.chdir(tmp_path)
    start(tmp_path, "photos")
    assert texts.read_run(str(tmp_path / "run"))[0].data_dir == str(photos)
    start(tmp_path, photos)
    start(tmp_path, "./photos/")


def test_two_classes_exchanged(tmp_path, photos):
    start(tmp_path, photos)
    for split in ("train", "val"):
        os.rename(photos / split / "cat", photos / split / "x")
        os.rename(photos / split / "dog", photos / split / "cat")
        os.rename(photos / split / "x", photos / split / "dog")
    refuses(tmp_path, photos, "16 of 16 training images", "changed places", "was one of dog")


def test_two_images_exchanged(tmp_path, photos):
    start(tmp_path, photos)
    one, other = photos / "train" / "cat" / "1.png", photos / "train" / "dog" / "2.png"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    refuses(tmp_path, photos, "2 of 16", "dog/2.png was one of cat")


def test_what_was_added_removed_or_renamed_is_said(tmp_path, photos):
    start(tmp_path, photos)
    os.rename(photos / "train" / "cat" / "1.png", photos / "train" / "dog" / "new.png")
    refuses(
        tmp_path,
        photos,
        "1 training added ('train/dog/new.png')",
        "1 training removed ('train/cat/1.png')",
    )


def test_other_classes_are_said(tmp_path, photos):
    start(tmp_path, photos)
    for split in ("train", "val"):
        os.rename(photos / split / "cat", photos / split / "cow")
    refuses(tmp_path, photos, "classes: added cow and removed cat")


def test_many_images_are_compared_by_class(tmp_path, photos, monkeypatch):
    monkeypatch.setattr("effnet_tf.data.fingerprint.MOST_NAMES", 3)
    assert start(tmp_path, photos)["fingerprint"]["train"]["names"] is None
    os.rename(photos / "train" / "cat" / "1.png", photos / "train" / "cat" / "new.png")
    refuses(tmp_path, photos, "other training images of cat")


def test_mended_images_go_on(tmp_path, photos, capsys):
    bad = [photos / "train" / "cat" / f"{number}.png" for number in (1, 2, 3, 4, 5)]
    for path in bad:
        path.write_bytes(b"not an image, but of some length")
    start(tmp_path, photos)
    storage.write_rows(
        str(tmp_path / "run" / "bad_examples.jsonl"),
        [
            {"split": "train", "key": str(path), "reason": "", "record": number}
            for number, path in enumerate(bad, 1)
        ],
    )
    for number, path in enumerate(bad):
        path.write_bytes(image(number))
    start(tmp_path, photos)  # listed as bad
    assert "taken for repaired" not in capsys.readouterr().out
    (tmp_path / "run" / "bad_examples.jsonl").unlink()
    for path in bad[:2]:
        path.write_bytes(image(77))
    start(tmp_path, photos)  # few enough
    assert (
        "2 of 16 training images looked at have changed since the run began"
        in capsys.readouterr().out
    )
    for number, path in enumerate(bad):
        path.write_bytes(image(80 + number))
    refuses(tmp_path, photos, "5 of 16 training images looked at have other content")


def test_an_image_that_could_not_be_read_may_come_back(tmp_path):
    rows = [(str(tmp_path / f"{number}.png"), number % 2) for number in range(4)]
    for path, _ in rows[1:]:
        with open(path, "wb") as file:
            file.write(image(len(path)))
    source = data.Source(
        "some", ("a", "b"), data.Listed(rows, paths=True), data.Listed(rows, paths=True)
    )
    lacking = fingerprint.of(source)
    with open(rows[0][0], "wb") as file:
        file.write(image(0))
    assert changes.differences(lacking, fingerprint.of(source), ("a", "b"), source) == []


def test_a_table_with_other_labels(tmp_path, photos):
    def table(*labels):
        rows = [
            f"train/{name}/{number}.png,{label},train"
            for name, label in zip(("cat", "dog"), labels)
            for number in range(8)
        ]
        rows += [
            f"val/{name}/{number}.png,{label},val"
            for name, label in zip(("cat", "dog"), labels)
            for number in range(4)
        ]
        (photos / "table.csv").write_text("\n".join(["path,label,split", *rows]))
        return photos / "table.csv"

    recipe = dataclasses.replace(FOLDER, dataset="table")
    start(tmp_path, table("miau", "wau"), recipe)
    refuses(
        tmp_path, table("wau", "miau"), "16 training changed", "0.png': miau -> wau", recipe=recipe
    )


def write_records(folder, label_of):
    folder.mkdir(exist_ok=True)
    for split, count in (("train", 12), ("validation", 6)):
        with tf.io.TFRecordWriter(str(folder / f"{split}-00000-of-00001")) as file:
            for number in range(count):
                feature = {
                    "image/encoded": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[image(number)])
                    ),
                    "image/class/label": tf.train.Feature(
                        int64_list=tf.train.Int64List(value=[label_of(number)])
                    ),
                }
                file.write(
                    tf.train.Example(
                        features=tf.train.Features(feature=feature)
                    ).SerializeToString()
                )
    (folder / "classes.txt").write_text("cat\ndog\n")


def test_record_files_with_exchanged_labels(tmp_path):
    recipe = dataclasses.replace(FOLDER, dataset="tfrecord")
    write_records(tmp_path / "a", lambda number: 1 + number % 2)
    start(tmp_path, tmp_path / "a", recipe)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    start(tmp_path, tmp_path / "b", recipe)
    write_records(tmp_path / "a", lambda number: 2 - number % 2)
    refuses(
        tmp_path,
        tmp_path / "a",
        "12 of 12 training images",
        "another label",
        "cat -> dog",
        recipe=recipe,
    )


def test_record_files_of_which_a_part_is_held_out(tmp_path):
    recipe = dataclasses.replace(FOLDER, dataset="tfrecord", holdout=0.25)
    write_records(tmp_path / "a", lambda number: 1 + number % 2)
    for file in (tmp_path / "a").glob("validation-*"):
        file.unlink()
    before = start(tmp_path, tmp_path / "a", recipe)
    ((name, count),) = before["fingerprint"]["train"]["names"]
    assert name.startswith("train-") and count == before["num_train"] == 9
    assert before["fingerprint"]["eval"]["names"] == [[name, 3]]
    assert start(tmp_path, tmp_path / "a", recipe) == before
    write_records(tmp_path / "a", lambda number: 2 - number % 2)
    for file in (tmp_path / "a").glob("validation-*"):
        file.unlink()
    refuses(tmp_path, tmp_path / "a", "9 of 9 training images", "another label", recipe=recipe)


def test_images_in_memory_are_known_by_their_labels():
    rows = [(image(number), number % 2) for number in range(6)]
    source = data.Source("some", ("a", "b"), data.Listed(rows), data.Listed(rows[:2]))
    first = fingerprint.of(source)
    assert first["train"]["sample"] == []
    rows[0] = (image(9), 1)
    other = data.Source("some", ("a", "b"), data.Listed(rows), data.Listed(rows[2:4]))
    assert changes.differences(first, fingerprint.of(other), ("a", "b"), other) == [
        "1 training changed ('0': a -> b)"
    ]


def test_every_name_of_a_class_and_file(tmp_path):
    root = tmp_path / "photos"
    for number, name in enumerate((*hostile.NAMES, hostile.NOT_UTF8)):
        for split in ("train", "val"):
            (root / split / name).mkdir(parents=True)
            for copy in range(2):
                (root / split / name / f"{name}{copy}.png").write_bytes(image(4 * number + copy))
    assert start(tmp_path, root) == start(tmp_path, root)
