"""evaluating.py, subjects.py, samples.py, report.py: a network on labelled images."""

import csv
import html.parser
import json
import os
import pathlib
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.data.bad_images import TooManyBad
from effnet_tf.errors import InputError
from effnet_tf.inference import confusion, evaluate_program, report, samples, subjects, telling
from effnet_tf.inference.evaluating import evaluate
from effnet_tf.inference.metrics import BAD, UNKNOWN
from effnet_tf.inference.subjects import Options
from tests.helpers import tiny_dataset
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)
from tests.inference.conftest import CLASSES


@pytest.fixture(scope="module")
def others(place, tmp_path_factory):
    """The photos in other folders: another order, a name in capitals, a class of nobody's."""
    root = tmp_path_factory.mktemp("others") / "photos"
    for old, new in (("cat", "z/cat"), ("cow", "COW"), ("dog", "dog"), ("dog", "wolf")):
        shutil.copytree(f"{place.photos}/{old}", root / new.replace("z/", ""))
    return root


@pytest.fixture(scope="module")
def of_run(trained, others):
    """The run, evaluated on the others."""
    return evaluate(trained.run, str(others))


class TestRun:
    def test_equals_its_own_training(self, trained):
        found = evaluate(trained.run, batch_size=5)
        assert found.summary.images == trained.result["eval_images"] == 12
        assert found.summary.top1.value == trained.result["eval_accuracy"]
        assert found.summary.loss.value == pytest.approx(trained.result["eval_loss"], rel=1e-5)

    def test_on_another_folder_with_its_classes_elsewhere(self, of_run):
        assert [note.split(":")[0] for note in of_run.matching.notes] == [
            "Other ways to write the same names",
            "The images have their classes in another order",
            "The network does not know wolf",
        ]
        assert (of_run.answers.labels == UNKNOWN).sum() == of_run.summary.unknown == 8
        assert of_run.summary.images == 24

    @pytest.mark.parametrize("kind", ["saved", "m.tflite"])
    def test_a_file_of_it_gives_the_same_table(self, trained, others, of_run, kind):
        file = evaluate(trained.files[kind], str(others), batch_size=7)
        np.testing.assert_array_equal(file.answers.labels, of_run.answers.labels)
        assert confusion.per_class(file.answers) == confusion.per_class(of_run.answers)
        np.testing.assert_allclose(file.answers.sureness, of_run.answers.sureness, atol=1e-4)
        assert file.subject.class_names == CLASSES

    @pytest.mark.slow
    @pytest.mark.usefixtures("in_this_process")
    def test_an_onnx_file_of_it_too(self, trained, others, of_run, tmp_path):
        from export import __main__ as export

        path = str(tmp_path / "m.onnx")
        export.main(export.parse(["export", "onnx", "--workdir", trained.run, "--out", path]))
        file = evaluate(path, str(others))
        np.testing.assert_allclose(file.answers.sureness, of_run.answers.sureness, atol=1e-4)

    def test_weights_with_their_network(self, place, trained):
        options = Options(variant=trained.variant, labels=place.labels, crop=1.0)
        found = subjects.open_subject(os.path.join(trained.run, "checkpoints"), options)
        images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("float32")
        expected = subjects.open_subject(trained.run).answer(images)
        np.testing.assert_allclose(found.answer(images), expected, rtol=1e-5)
        assert found.class_names == CLASSES and found.recipe.eval_crop_padding == 0


class TestFilesOfOthers:
    def test_without_a_word_on_classes_and_crop(self, place, capsys):
        found = evaluate(place.colours, place.photos)
        out = capsys.readouterr().out
        assert "does not say how its images are cut: took a central square of the whole" in out
        assert "it is assumed that they are those of the images, in this order: cat, cow" in out
        assert found.summary.top1.value == 1  # each class has its own colour
        np.testing.assert_allclose(found.subject.answer(np.ones((2, 8, 8, 3))).sum(-1), 1)

    def test_grey_images(self, tmp_path):
        inputs = keras.Input((8, 8, 1))
        keras.Model(inputs, keras.layers.Flatten()(inputs)).save(tmp_path / "m.keras")
        found = subjects.open_subject(str(tmp_path / "m.keras"))
        assert found.scores(np.full((2, 8, 8, 3), (40, 220, 40))).tolist() == [[146.0] * 64] * 2


class TestImages:
    def write_table(self, place, path):
        rows = [["path", "label", "split"]]
        for name in CLASSES:
            for index in range(4):
                file = f"{place.photos}/{name}/{index}.{('jpg', 'png')[index % 2]}"
                rows.append([file, name, ("test", "train")[index % 2]])
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows(rows)

    def test_a_table(self, place, tmp_path):
        self.write_table(place, tmp_path / "t.csv")
        path = str(tmp_path / "t.csv")
        assert samples.open_samples(path).num_eval == 6  # the split test
        assert samples.open_samples(path, split="train").held_out.name(0)["key"].endswith(".png")
        assert samples.open_samples(path).class_names == CLASSES

    def test_parts_of_a_folder(self, place, tmp_path):
        for part, classes in (("train", CLASSES), ("val", CLASSES)):
            for name in classes:
                shutil.copytree(f"{place.photos}/{name}", tmp_path / part / name)
        os.remove(tmp_path / "val" / "cat" / "0.jpg")
        assert samples.open_samples(str(tmp_path)).num_eval == 23
        assert samples.open_samples(str(tmp_path), split="train").num_eval == 24
        assert samples.open_samples(str(tmp_path / "val")).num_eval == 23

    def test_a_folder_of_one_class(self, place, tmp_path):
        shutil.copytree(f"{place.photos}/dog", tmp_path / "dog")
        found = samples.open_samples(str(tmp_path))
        assert found.num_eval == 8 and found.class_names == ("dog",)

    def test_record_files(self, place, tmp_path):
        (tmp_path / "classes.txt").write_text("cat\ncow\ndog\n")
        with tf.io.TFRecordWriter(str(tmp_path / "validation-00000-of-00001")) as writer:
            for number, name in enumerate(CLASSES, 1):
                encoded = pathlib.Path(f"{place.photos}/{name}/0.jpg").read_bytes()
                features = {
                    "image/encoded": tf.train.Feature(
                        bytes_list=tf.train.BytesList(value=[encoded])
                    ),
                    "image/class/label": tf.train.Feature(
                        int64_list=tf.train.Int64List(value=[number])
                    ),
                }
                example = tf.train.Example(features=tf.train.Features(feature=features))
                writer.write(example.SerializeToString())
        found = samples.open_samples(str(tmp_path), split="validation")
        assert (found.num_eval, found.class_names) == (3, CLASSES)
        assert found.held_out.name(2)["key"] == "validation-00000-of-00001__2"

    @pytest.mark.slow
    def test_tfds(self, place, tmp_path):
        tiny_dataset.write(tmp_path)
        found = samples.open_samples("tiny_colours:test", data_dir=str(tmp_path))
        assert (found.num_eval, found.class_names) == (20, ("red", "green", "blue"))
        with pytest.raises(InputError, match="has no split 'tset'"):
            samples.open_samples("tiny_colours:tset", data_dir=str(tmp_path))

    def test_bad_images_are_named_counted_and_bounded(self, place, damaged, evaluation, capsys):
        with pytest.raises(TooManyBad, match=r"1 of 24 eval images cannot be used.*cow/2.jpg"):
            evaluate(place.colours, str(damaged))
        (number,) = np.flatnonzero(evaluation.answers.labels == BAD)
        assert evaluation.name(number).endswith("cow/2.jpg")
        assert evaluation.summary.images == 24 and evaluation.summary.bad == 1
        # One is bad, and one is in the wrong folder.
        assert evaluation.summary.top1.value == pytest.approx(22 / 24)


@pytest.fixture(scope="module")
def damaged(place, tmp_path_factory):
    """The photos in a folder of an odd name, one empty, and one in the wrong class."""
    folder = tmp_path_factory.mktemp("odd") / "a <b> & $c$"
    for name in CLASSES:
        shutil.copytree(f"{place.photos}/{name}", folder / name)
    (folder / "cow" / "2.jpg").write_bytes(b"")
    shutil.copy(folder / "dog" / "0.jpg", folder / "cat" / "0.jpg")
    return folder


@pytest.fixture(scope="module")
def evaluation(place, damaged):
    options = Options(labels=place.labels)
    return evaluate(place.colours, str(damaged), options=options, max_bad_fraction=1)


@pytest.mark.parametrize(
    "what, where, options, message",
    [
        ("{colours}x", None, Options(), "There is no file or run .*Did you mean colours.keras"),
        ("{photos}", None, Options(), "neither a run .* nor a SavedModel"),
        ("imagenet", "{photos}", Options(), "published weights: say of which network with --var"),
        (
            "{colours}",
            "{photos}/cat/0.jpg",
            Options(),
            "There are no images at .*Give a folder with",
        ),
        ("{colours}", "nowhere", Options(), "There are no images at 'nowhere'"),
        ("{colours}", None, Options(), "has no images of its own: give --data"),
        ("{colours}", "{photos}/cat", Options(), "has files but no folders"),
    ],
)
def test_what_cannot_be_evaluated_is_told(place, what, where, options, message):
    def filled(text):
        return text.format(colours=place.colours, photos=place.photos)

    with pytest.raises(InputError, match=message):
        evaluate(filled(what), where and filled(where), options=options)


class Page(html.parser.HTMLParser):
    """What a page asks for, and its text."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.cells, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.cells.append(data)


class TestReport:
    def test_everything_is_written_and_says_the_same(self, evaluation, tmp_path):
        out = tmp_path / "new" / "report"
        report.check_folder(str(out))
        written = report.write(evaluation, str(out))
        assert sorted(written) == sorted(os.listdir(out))
        assert {"report.json", "predictions.csv", "report.html", "confusion.png"} <= set(written)
        assert {"mistakes.png", "calibration.png"} <= set(written)
        numbers = json.loads((out / "report.json").read_text())
        assert numbers["top1"] == evaluation.summary.top1.value
        assert [row["class"] for row in numbers["classes"]] == list(CLASSES)
        assert numbers["bad"][0]["image"].endswith("cow/2.jpg")
        with open(out / "predictions.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == 24 and sum(row["right"] == "1" for row in rows) == round(
            numbers["top1"] * 24
        )
        assert [row["fault"] for row in rows if row["fault"]] == ["the file is empty"]
        assert {row["class"] for row in rows} == {*CLASSES, ""}
        page = Page((out / "report.html").read_text())
        assert len(page.sources) == 3  # pictures, and nothing from elsewhere
        assert all(source.startswith("data:image/png;base64,") for source in page.sources)
        text = "".join(page.cells)
        assert "a <b> & $c$" in text and telling.percent(numbers["top1"]) in text
        report.check_folder(str(out))  # an earlier report may be replaced

    def test_a_folder_of_the_user_is_refused(self, tmp_path):
        (tmp_path / "mine.txt").write_text("mine")
        with pytest.raises(InputError, match="has files of its own: give a new folder"):
            report.check_folder(str(tmp_path))
        with pytest.raises(InputError, match="is a file; it must be a folder"):
            report.check_folder(str(tmp_path / "mine.txt"))
        (tmp_path / "report.json").write_text('{"program": "another"}')
        with pytest.raises(InputError, match="has files of its own"):
            report.check_folder(str(tmp_path))

    def test_what_is_printed(self, evaluation):
        text = "\n".join(telling.lines(evaluation))
        for part in ("top-1 ", "top-5 ", "loss ", "mean accuracy of the classes", "Wilson's"):
            assert part in text
        assert "24 images, 1 of which cannot be used and count as wrong" in text
        for name in CLASSES:
            assert re.search(rf"^{name} +\d", text, re.MULTILINE)
        assert re.search(r"^cat +dog +1 +12.50 %$", text, re.MULTILINE)


@pytest.mark.usefixtures("in_this_process")
def test_the_program(place, tmp_path, capsys):
    words = ["evaluate", place.colours, "--data", place.photos, "--labels", place.labels]
    evaluate_program.main(evaluate_program.parse([*words, "--out", str(tmp_path / "r")]))
    out = capsys.readouterr().out
    assert (
        "Network: Keras '" in out
        and f"Images: folder '{place.photos}'" in out
        and "mean accuracy of the classes" in out
    )
    assert f"report.html to {tmp_path / 'r'}" in out.splitlines()[-1]


def test_labels_that_do_not_fit(place, tmp_path):
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(InputError, match="has 3 classes, and '.*names.txt' has 2 names"):
        subjects.open_subject(place.colours, Options(labels=f"{tmp_path}/names.txt"))
