"""search/trials.py: what a result depends on, and where it is kept."""

import dataclasses
import json

import numpy as np
import pytest

from effnet_tf import InputError
from effnet_tf.search import trials
from effnet_tf.search.settings import Settings
from effnet_tf.search.trials import Data, Trials, key_of
from tests.search.few_images import BASE, colours


def evaluator(folder, training=None, seeds=2, latency=False, digest="d"):
    return Trials(str(folder), Data("", {"digest": digest}), training or {}, seeds, latency)


class TestJobs:
    def test_the_name_makes_no_difference(self, tmp_path):
        made = evaluator(tmp_path)
        assert key_of(made.job(BASE)) == key_of(made.job(dataclasses.replace(BASE, name="other")))

    def test_all_else_does(self, tmp_path):
        made = evaluator(tmp_path)
        wide = dataclasses.replace(BASE, width_coefficient=2.0)
        jobs = [
            made.job(BASE),
            made.job(wide),
            made.job(BASE, trials.TEST),
            made.job(BASE, first_seed=1),
            evaluator(tmp_path, seeds=1).job(BASE),
            evaluator(tmp_path, {"epochs": 2}).job(BASE),
            evaluator(tmp_path, latency=True).job(BASE),
            evaluator(tmp_path, digest="e").job(BASE),
        ]
        assert len({key_of(job) for job in jobs}) == len(jobs)

    def test_results_are_kept(self, tmp_path):
        made = evaluator(tmp_path)
        job, other = made.job(BASE), made.job(BASE, trials.TEST)
        assert made.kept(job) is None
        made.keep(job, {"accuracies": [0.5, 0.25], "seconds": 1.5})
        assert evaluator(tmp_path).kept(job) == {"accuracies": [0.5, 0.25], "seconds": 1.5}
        assert made.kept(other) is None
        (file,) = tmp_path.iterdir()
        assert file.name == f"{key_of(job)}.json"
        assert json.loads(file.read_text())["job"] == json.loads(json.dumps(job))

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
    def test_a_damaged_result_is_told(self, text, tmp_path):
        made = evaluator(tmp_path)
        path = tmp_path / f"{key_of(made.job(BASE))}.json"
        path.write_text(text)
        with pytest.raises(InputError, match=f"{path.name}' cannot be read .*: delete it, and"):
            made.kept(made.job(BASE))
        assert path.read_text() == text


class TestParts:
    def test_no_trial_sees_what_is_kept_aside(self):
        images = colours(count=90)
        searched = trials._of_part(images, trials.VALIDATION)
        assert len(searched.labels) == (~images.held_out).sum() == 60
        assert searched.held_out.sum() == 60 // trials.PARTS
        aside = {image.tobytes() for image in images.pixels[images.held_out]}
        assert not aside & {image.tobytes() for image in searched.pixels}
        final = trials._of_part(images, trials.TEST)
        assert np.array_equal(final.held_out, images.held_out)


@pytest.fixture
def file(tmp_path):
    """A file of images, as `read_images` writes it."""
    path = str(tmp_path / "images.npz")
    trials.write_images(colours(), path)
    return path


def test_images_come_back_from_a_file(file):
    images, found = colours(), trials._images(file)
    assert found.class_names == images.class_names and found.name == images.name
    assert found.digest() == images.digest()


def test_a_trial_is_a_training_by_the_proxy(file, tmp_path, monkeypatch):
    """In this process, whose threads are as they are."""
    from effnet_tf.search import proxy

    monkeypatch.setattr(trials, "use_one_thread", lambda: None)
    monkeypatch.setattr(trials, "_rewrite_no_graph", lambda: None)
    training = {"epochs": 1, "batch_size": 16}
    job = evaluator(tmp_path, training, latency=True).job(BASE)
    found = trials.evaluate(json.loads(json.dumps(job)), file)
    images = trials._of_part(colours(), trials.VALIDATION)
    wanted = proxy.train(BASE, images, [0, 1], Settings(**training))
    assert found["accuracies"] == wanted.tolist()
    assert 0 < found["latency_ms"] < 100 and found["seconds"] > 0
