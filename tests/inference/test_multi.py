"""A run of images that have several names: resumed, asked, evaluated and exported."""

import csv
import dataclasses
import io
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import data, train
from effnet_tf.data import prepare
from effnet_tf.errors import InputError
from effnet_tf.export import identify
from effnet_tf.inference import (
    embedding,
    explaining,
    multi,
    multi_telling,
    predicting,
    report,
    samples,
    subjects,
    tally,
    writing,
)
from effnet_tf.inference.evaluating import MultiEvaluation, evaluate
from effnet_tf.models import trained
from effnet_tf.runs import checkpoints, same_run, texts
from effnet_tf.train import journal
from export import classify, opened
from tests.helpers import several_names, tiny_net
from tests.helpers.in_process import jobs_here


@dataclasses.dataclass(frozen=True)
class Place:
    """A run, what training said of it, the table of its images, and a file of it."""

    run: str
    result: dict
    table: str
    file: str
    verified: object


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A `Place`; of 24 pictures, three colours and all their combinations."""
    root = tmp_path_factory.mktemp("several")
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    with pytest.MonkeyPatch.context() as patch, tiny_net.registered(), jobs_here():
        patch.setattr(journal.Journal, "show_batch", lambda journal: None)
        variant = str(root / "tinier.json")
        effnet_tf.variants.save_variant(effnet_tf.VARIANTS["tinier"], variant)
        recipe = tiny_net.recipe(
            variant=variant,
            dataset="table",
            data_dir=several_names.write(root / "pictures"),
            labels="multi",
            num_classes=None,
            batch_size=4,
            epochs=1,
            ema_decay=0.0,
            keep="best",
        )
        result = train.run(recipe, str(root / "run"), tf.distribute.OneDeviceStrategy("/cpu:0"))
        run = opened.open_run(str(root / "run"))
        model = run.load_model()
        pixels, labels = run.images(16)
        file = str(root / "m.tflite")
        verified = effnet_tf.export.to_tflite(
            model, file, quantize="none", about=run.about(model), verify_with=pixels, labels=labels
        )
    return Place(str(root / "run"), result, recipe.data_dir, file, verified)


@pytest.fixture(scope="module")
def of_run(several):
    """The run, evaluated on its held-out images."""
    return evaluate(several.run)


@pytest.fixture(scope="module")
def asked(several):
    """The network of the run."""
    return subjects.open_subject(several.run)


def test_weights_of_a_run_keep_its_thresholds(several, asked):
    options = subjects.Options(variant=texts.read_run(several.run)[0].variant, crop=1.0)
    found = subjects.open_subject(os.path.join(several.run, "checkpoints"), options)
    images = np.random.default_rng(0).integers(0, 256, (2, *asked.size, 3)).astype("float32")
    np.testing.assert_allclose(found.answer(images), asked.answer(images), rtol=1e-5)
    assert found.thresholds.tolist() == asked.thresholds.tolist()


def test_other_weights_in_a_run_have_no_thresholds(several):
    variant = texts.read_run(several.run)[0].variant
    path = os.path.join(several.run, "own.weights.h5")
    trained.load_run(several.run).save_weights(path)
    found = subjects.open_subject(path, subjects.Options(variant=variant, crop=1.0))
    assert found.thresholds is None and found.classes == len(several_names.NAMES)
    os.remove(path)


class TestRun:
    def test_says_what_it_is(self, several):
        recipe, names = texts.read_run(several.run)
        assert recipe.labels == "multi" and names == several_names.NAMES
        with open(f"{several.run}/classes.json") as file:
            assert json.load(file) == {"labels": "multi", "names": list(names)}
        assert 0 < several.result["eval_map"] <= 1

    def test_becomes_a_model_with_a_sigmoid_and_thresholds(self, several):
        model = trained.load_run(several.run)
        assert model.layers[-1].activation.__name__ == "sigmoid"
        for folder in ("checkpoints", "best"):
            prefix = checkpoints.newest(f"{several.run}/{folder}")
            assert checkpoints.thresholds(prefix) == model.thresholds
        assert set(model.thresholds) != {0.5}

    def test_goes_on_only_with_the_same_combinations(self, several, tmp_path):
        copy = shutil.copytree(several.run, tmp_path / "run")
        recipe = texts.read_recipe(str(copy / "recipe.json"))
        source = data.open_source(recipe)
        same_run.check(str(copy), recipe, source, same_run.describe(source))
        other = dataclasses.replace(source, label_sets=~source.label_sets)
        with pytest.raises(InputError, match="other combinations of names"):
            same_run.check(str(copy), recipe, other, same_run.describe(other))


class TestEvaluate:
    def test_equals_its_own_training(self, several, of_run):
        summary, result = of_run.summary, several.result
        assert isinstance(of_run, MultiEvaluation) and summary.images == result["eval_images"]
        assert summary.map.value == pytest.approx(result["eval_map"])
        assert summary.map_micro.value == pytest.approx(result["eval_map_micro"])
        assert summary.loss.value == pytest.approx(result["eval_loss"], rel=1e-5)
        assert summary.f1.low <= summary.f1.value <= summary.f1.high

    def test_a_file_of_it_gives_the_same_table(self, several, of_run):
        found = evaluate(several.file, several.run, batch_size=7)
        assert found.summary.images == of_run.summary.images
        np.testing.assert_array_equal(found.answers.given, of_run.answers.given)
        assert multi_telling.class_rows(found) == multi_telling.class_rows(of_run)
        np.testing.assert_array_equal(found.answers.thresholds, of_run.answers.thresholds)

    def test_numbers_are_those_of_scikit_learn(self, of_run):
        metrics = pytest.importorskip("sklearn.metrics")
        answers, summary = of_run.answers, of_run.summary
        assert summary.map.value == pytest.approx(
            metrics.average_precision_score(answers.present, answers.chances)
        )
        for name in ("micro", "macro"):
            found = {"micro": summary.f1, "macro": summary.f1_macro}[name].value
            expected = metrics.f1_score(answers.present, answers.given, average=name)
            assert found == pytest.approx(expected)
        right = metrics.accuracy_score(answers.present, answers.given)
        assert summary.all_right.value == pytest.approx(right)

    def test_classes_by_name_and_bad_images(self, several, tmp_path, capsys):
        """Of other names in another order, some unknown; one image cannot be used."""
        lines = ["path,labels"]
        names = ("red|mauve", "blue;")
        for number in range(4):
            lines.append(
                f"{os.path.dirname(several.table)}/{number}.png,{names[number % 2].strip(';')}"
            )
        (tmp_path / "bad.png").write_bytes(b"\x89PNG")
        lines += ["bad.png,red", "bad.png,red"]
        (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
        found = evaluate(several.run, str(tmp_path / "t.csv"), max_bad_fraction=0.5)
        said = capsys.readouterr().out
        assert "does not know mauve: these names count nowhere" in said
        assert "2 of the network's 3 classes; the others count nowhere" in said
        assert found.answers.names == ("blue", "red") and found.summary.bad == 2
        assert not found.answers.present[4:].any() and not found.answers.given[4:].any()

    def test_report(self, of_run, tmp_path):
        written = report.write(of_run, str(tmp_path / "out"))
        pictures = ["classes.png", "mistakes.png"]
        assert written == ["report.json", "predictions.csv", *pictures, "report.html"]
        found = json.loads((tmp_path / "out" / "report.json").read_text())
        assert found["map"] == of_run.summary.map.value and found["labels"] == "multi"
        rows = list(csv.DictReader((tmp_path / "out" / "predictions.csv").open()))
        assert len(rows) == of_run.summary.images
        assert [set(row["labels"].split("|")) - {""} for row in rows] == [
            {name for name, there in zip(of_run.answers.names, one) if there}
            for one in of_run.answers.present
        ]
        page = (tmp_path / "out" / "report.html").read_text()
        assert "chosen for the best F1 on the images held out" in page and "threshold" in page
        assert "The surest mistakes" in page

    def test_a_network_of_one_class_is_not_for_them(self, several):
        with pytest.raises(InputError, match="only a network trained with --labels multi"):
            samples.open_samples(several.run)


def test_the_surest_mistakes_come_first():
    """Image 0 is right, 4 cannot be used; the others go 1/4, 3/5 and 1/2 of the way."""
    present = np.array([[1, 0], [1, 0], [0, 0], [1, 1], [0, 0]], bool)
    chances = np.array([[0.9, 0.1], [0.9, 0.4], [0.6, 0.68], [0.25, 0.9], [0.9, 0.9]])
    usable = np.array([True] * 4 + [False])
    answers = multi.MultiAnswers(("a", "b"), present, chances, usable, np.array([0.5, 0.2]))
    assert multi.surest_mistakes(answers) == [2, 3, 1]


class TestPredict:
    def test_gives_the_names_from_their_thresholds_on(self, several, asked):
        paths = [f"{os.path.dirname(several.table)}/{number}.png" for number in range(8)]
        found = list(predicting.answers(asked, paths))
        for each in found:
            numbers = [asked.class_names.index(name) for name in each.classes]
            chances = asked.answer(each.pixels[np.newaxis])[0]
            assert sorted(numbers) == np.flatnonzero(chances >= asked.thresholds).tolist()
            assert list(each.probabilities) == sorted(each.probabilities, reverse=True)
        assert max(len(each.classes) for each in found) > 1
        top = list(predicting.answers(asked, paths, top=1))
        assert [each.classes for each in top] == [each.classes[:1] for each in found]

    def test_csv_and_lines(self, capsys, tmp_path):
        text, some = io.StringIO(), predicting.Prediction("a.jpg", ("cat", "dog"), (0.9, 0.6))
        write = writing.as_csv_of_several(text, ("cat", "dog", "a|b"))
        for each in (
            some,
            predicting.Prediction("b.jpg"),
            predicting.Prediction("c.jpg", fault="no"),
        ):
            write(each)
            writing.for_people(each)
        assert text.getvalue().splitlines() == [
            "image,labels,probabilities,fault",
            "a.jpg,cat;dog,0.900000;0.600000,",
            "b.jpg,,,",
            "c.jpg,,,no",
        ]
        out = capsys.readouterr().out.splitlines()
        assert out == ["a.jpg: cat 90.0%, dog 60.0%", "b.jpg: nothing", "c.jpg: cannot be used: no"]
        pixels = np.zeros((8, 8, 3), "float32")
        kept = tally.Tally(str(tmp_path / "p.png"))
        kept.add(predicting.Prediction("b.jpg", pixels=pixels))
        kept.finish([], [])
        assert (tmp_path / "p.png").exists()


@pytest.mark.slow
def test_explaining_and_embedding(several, asked):
    """Any class is explained, given or not, with its own probability."""
    image = f"{os.path.dirname(several.table)}/3.png"
    (found,) = explaining.Explainer(asked, 3, (), "grad_cam").run([image], 1)
    chances = dict(zip(asked.class_names, asked.answer(found.pixels[np.newaxis])[0]))
    assert dict(zip(found.classes, found.probabilities)) == pytest.approx(chances)
    assert found.heats.shape == (3, 32, 32)
    (embedded,) = embedding.Embedder(asked).run([image], 1)
    assert embedded.features.ndim == 1 and np.isfinite(embedded.features).all()


class TestExport:
    def test_the_file_says_what_it_is(self, several):
        about = identify.about(several.file)
        assert (
            about.labels == "multi" and about.thresholds == trained.load_run(several.run).thresholds
        )
        assert about.from_json(about.to_json(), "") == about
        assert "labels" not in json.loads(dataclasses.replace(about, labels="single").to_json())

    def test_names_are_compared(self, several):
        found = several.verified
        assert found.names_agreement == 1 and found.accuracy == found.model_accuracy
        assert "same names" in str(found) and "same best class" not in str(found)

    def test_a_keras_file_tells_what_it_lost(self, several, place, tmp_path, capsys):
        trained.load_run(several.run).save(tmp_path / "m.keras")
        capsys.readouterr()
        assert subjects.open_subject(str(tmp_path / "m.keras")).thresholds is None
        assert "m.keras' ends in a sigmoid" in capsys.readouterr().out
        subjects.open_subject(place.colours)
        assert "sigmoid" not in capsys.readouterr().out

    def test_what_tells_one_class_is_refused(self, several, tmp_path):
        with pytest.raises(InputError, match="use python -m effnet_tf predict"):
            classify.answer(several.file, ["a.jpg"])
        recipe, _ = texts.read_run(several.run)
        with pytest.raises(InputError, match="one label per image"):
            prepare.prepare(data.open_source(recipe), recipe, str(tmp_path / "copy"))
