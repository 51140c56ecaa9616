"""export/agreement.py: what is counted of a file's answers, and what of it is sure."""

import dataclasses

import numpy as np
import pytest

from effnet_tf import intervals
from effnet_tf.export import agreement, judging

# Of six images the model is sure of the first three; the file says the same of all but one of
# each kind. The last one has no known class.
EXACT = np.log([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], *[[0.4, 0.35, 0.25]] * 3])
OTHER = EXACT[:, :].copy()
OTHER[2] = np.log([0.5, 0.2, 0.3])
OTHER[3] = np.log([0.35, 0.4, 0.25])
LABELS = np.array([0, 1, 2, 1, 1, -1])


def answer(logits):
    scores = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    return {"scores": scores, "logits": logits}


@pytest.fixture(scope="module")
def groups():
    found = agreement.compared(answer(EXACT), answer(OTHER), LABELS, None)["groups"]
    return {group.name: group for group in found}


def test_sure_and_unsure_images_apart(groups):
    assert {name: group.images for name, group in groups.items()} == {
        "all": 6,
        "sure": 3,
        "unsure": 3,
    }
    assert groups["all"].agreement == intervals.share(4, 6)
    assert groups["sure"].agreement == groups["unsure"].agreement == intervals.share(2, 3)


def test_accuracies_of_known_classes(groups):
    assert [group.labelled for group in groups.values()] == [5, 3, 2]
    assert groups["all"].accuracy == groups["all"].model_accuracy == intervals.share(3, 5)
    assert (groups["all"].lost, groups["all"].gained) == (1, 1)
    assert groups["sure"].accuracy == intervals.share(2, 3)
    assert groups["sure"].model_accuracy == intervals.share(3, 3)
    assert (groups["unsure"].lost, groups["unsure"].gained) == (0, 1)


def test_without_labels_nothing_is_accurate():
    for labels in (None, np.full(6, -1)):
        found = agreement.compared(answer(EXACT), answer(OTHER), labels, None)
        assert found["accuracy"] is found["groups"][0].accuracy is None


def test_one_score_is_two_classes():
    logits = np.array([[2.0], [-1.0], [3.0]])
    found = agreement.compared(answer(logits), answer(-logits), np.array([1, 0, 0]), None)
    assert found["top1_agreement"] == 0 and found["model_accuracy"] == pytest.approx(2 / 3)
    assert [group.name for group in found["groups"]] == ["all", "sure"]  # none is unsure


def test_the_report_shows_them(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1000))
    report = judging.judge(
        "int8",
        str(tmp_path / "file"),
        answer(EXACT),
        answer(OTHER),
        {},
        simulated=answer(OTHER),
        labels=LABELS,
        judged_on="held out from training",
    )
    shown = str(report)
    for text in (
        "6 images: held out from training",
        "66.7 % (20.8 to 93.9)",
        "only Keras is right: 1, only the file: 1",
    ):
        assert text in shown
    assert dataclasses.asdict(report)["groups"][1]["agreement"]["low"] == pytest.approx(
        0.2077, abs=1e-4
    )


def test_places_of_a_map_are_no_sample(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1000))
    logits = np.zeros((2, 3, 3, 4)) + np.arange(4.0)
    report = judging.judge("none", str(tmp_path / "file"), answer(logits), answer(logits), {})
    assert report.groups == [] and "at 100.0% of all places" in str(report)
