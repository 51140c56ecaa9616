"""objectives.py, kept.py, evaluation.py: images of several classes in training and evaluation."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data, multilabel
from effnet_tf.data import augment
from effnet_tf.recipes import Recipe
from effnet_tf.runs import evaluations
from effnet_tf.train import objectives
from effnet_tf.train.evaluation import Evaluation
from tests.helpers import processes, several_names, tiny_net
from tests.helpers.same_runs import assert_equal_runs

SETS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 1]], bool)
LOGITS = np.random.default_rng(0).normal(0, 2, (4, 3)).astype("float32")
LABELS = np.array([2, 0, 3, 1])
pytestmark = pytest.mark.usefixtures("tiny_variants")


def cross_entropy(targets, logits, weights=1.0):
    chances = 1 / (1 + np.exp(-logits.astype("float64")))
    each = weights * targets * np.log(chances) + (1 - targets) * np.log(1 - chances)
    return -each.mean(-1)


class TestSeveralClasses:
    def test_targets_are_smoothed_as_timms(self):
        found = objectives.SeveralClasses(SETS, 0.3).targets(LABELS).numpy()
        np.testing.assert_allclose(found, np.where(SETS[LABELS], 1 - 0.3 + 0.1, 0.1), rtol=1e-6)

    def test_the_loss_is_the_mean_over_the_classes(self):
        objective = objectives.SeveralClasses(SETS, 0.3)
        targets = objective.targets(LABELS)
        found = objective.losses(targets, LOGITS)
        np.testing.assert_allclose(found, cross_entropy(targets.numpy(), LOGITS), rtol=1e-5)
        plain = cross_entropy(SETS[LABELS], LOGITS)
        np.testing.assert_allclose(objective.plain_losses(LABELS, LOGITS), plain, rtol=1e-5)
        zeros = objective.plain_losses(LABELS, tf.zeros((4, 3)))
        np.testing.assert_allclose(zeros, objective.guessing, rtol=1e-6)

    def test_weights_are_of_the_images_with_the_class(self):
        weights = np.float32([2, 1, 0.5])
        objective = objectives.SeveralClasses(SETS, 0.0, weights)
        found = objective.losses(objective.targets(LABELS), LOGITS)
        np.testing.assert_allclose(found, cross_entropy(SETS[LABELS], LOGITS, weights), rtol=1e-5)

    def test_mixed_images_have_mixed_targets(self):
        targets = objectives.SeveralClasses(SETS, 0.0).targets(LABELS)
        images = tf.zeros((4, 8, 8, 3), tf.uint8)
        mixing = tf.constant([[0.75, 0.75, 0, 0, 0, 0]] * 4)
        _, mixed = augment.mix(images, targets, mixing)
        present = SETS[LABELS]
        np.testing.assert_allclose(mixed, 0.75 * present + 0.25 * present[::-1])

    def test_right_is_an_image_of_which_all_classes_are(self):
        objective = objectives.SeveralClasses(SETS, 0.1)
        logits = np.where(SETS[LABELS], 3.0, -3.0)
        assert objective.hits(LABELS, logits).numpy().tolist() == [1, 1, 1, 1]
        logits[0, 2] = 0.5
        assert objective.hits(LABELS, logits).numpy().tolist() == [0, 1, 1, 1]
        assert objective.hits(np.full(4, -1), -np.ones((4, 3))).numpy().tolist() == [0] * 4

    def test_one_class_is_the_default(self):
        assert isinstance(objectives.of(Recipe(), 3), objectives.OneClass)


@pytest.fixture(scope="module")
def stripes(tmp_path_factory):
    """The recipe of a run on pictures of several names."""
    root = tmp_path_factory.mktemp("stripes")
    return tiny_net.recipe(
        variant="tinier",
        dataset="table",
        data_dir=several_names.write(root),
        labels="multi",
        num_classes=None,
        batch_size=4,
        epochs=1,
    )


def colours(images, training):
    """Logits of a network that looks at the mean of each colour: blue, green, red."""
    return tf.reduce_mean(images, (1, 2))[:, ::-1] / 20 - 5


def test_every_image_is_ranked_once_on_several_replicas(stripes, mirrored, tmp_path):
    """13 pictures in batches of 4: the last is filled up; one is damaged."""
    source = data.open_source(stripes)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(b"\x89PNG")
    items = [path.decode() for path in source.held_out.items.numpy()]
    rows = list(zip([str(damaged), *items[1:]], source.held_out.labels.tolist()))
    source = dataclasses.replace(source, held_out=data.Listed(rows, paths=True))
    with mirrored.scope():
        stop = tf.Variable(False, trainable=False)
        evaluation = Evaluation(stripes, source, {"raw": colours}, mirrored, 2, stop)
    for _ in range(2):  # nothing is left of the first
        found = evaluation.evaluate()
    batch = next(iter(data.evaluation(source, stripes, 32, 16, 1)))
    good = batch["labels"].numpy() >= 0
    scores = tf.sigmoid(tf.cast(colours(batch["images"], False), tf.float64)).numpy()
    present, scores = source.label_sets[batch["labels"][good]], scores[good]
    keep = batch["weights"].numpy()[good] > 0
    present, scores = present[keep], scores[keep]
    assert len(present) == found["eval_images"] - 1 == 12 and found["eval_bad_images"] == 1
    sklearn = pytest.importorskip("sklearn.metrics").average_precision_score
    assert found["eval_map"] == pytest.approx(sklearn(present, scores), rel=1e-12)
    assert found["eval_map_micro"] == pytest.approx(sklearn(present, scores, average="micro"))
    right = ((scores >= 0.5) == present).all(-1)
    assert found["eval_accuracy"] == pytest.approx(right.sum() / 13)
    np.testing.assert_allclose(
        evaluation.thresholds, multilabel.best_thresholds(present, scores), rtol=1e-12
    )


def test_the_best_is_that_of_the_best_map():
    rows = [
        {"step": step, "epoch": step, "eval_accuracy": 1 - value, "eval_loss": 1, "eval_map": value}
        for step, value in enumerate((0.5, 0.8, 0.6), 1)
    ]
    assert evaluations.best(rows)["step"] == 2
    assert evaluations.told(rows[1]) == "mAP 80.00%"


@pytest.mark.slow
def test_kills_change_nothing(tmp_path):
    """As of runs of one name per image, see test_faults.py."""
    options = ("--dataset", "table", "--data_dir", several_names.write(tmp_path / "images"))
    options += ("--labels", "multi", "--num_classes", "3", "--batch_size", "8")
    assert processes.run(tmp_path / "whole", *options)[0] == 0
    for seed in (*range(1, 7), None):
        place = seed and processes.random_place(seed)
        code, out = processes.run(tmp_path / "run", *options, place=place)
        assert code in (0, -9), out[-3000:]
    assert code == 0
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")
