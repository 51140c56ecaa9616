"""evaluations.py, saving.py: the best checkpoint, and the end of a run that no longer improves."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import storage, train
from effnet_tf.runs import checkpoints, evaluations, locate
from tests.helpers import processes, tiny_net
from tests.helpers.same_runs import assert_equal_runs, state
from tests.helpers.toy_trainer import ACCURACIES, Stop, ToyTrainer, stop_at

CPU = tf.distribute.OneDeviceStrategy("/cpu:0")
# Two steps in an epoch; the best evaluation is that of epoch 4, whose loss is lower than 3's.
BEST = tiny_net.recipe(
    variant="tinier", epochs=8, checkpoint_every=1, background_saves=False, keep="best", patience=2
)
pytestmark = pytest.mark.usefixtures("tiny_variants")


@pytest.fixture
def whole(tmp_path, toy_trainer):
    """The directory of a run that nothing disturbed."""
    train.run(BEST, str(tmp_path / "whole"), CPU)
    return tmp_path / "whole"


def best_state(workdir):
    return checkpoints.read(checkpoints.newest(f"{workdir}/best"))


def rows(*accuracies):
    return [
        {"step": 10 * number, "epoch": number, "eval_accuracy": each, "eval_loss": 1.0}
        for number, each in enumerate(accuracies, 1)
    ]


class TestWhichIsBest:
    def test_of_equal_ones_the_first(self):
        assert evaluations.best(rows(0.5, 0.9, 0.7, 0.9))["epoch"] == 2

    def test_of_equal_accuracies_that_of_the_lower_loss(self):
        found = rows(0.5, 0.9, 0.9)
        found[2]["eval_loss"] = 0.9
        assert evaluations.best(found)["epoch"] == 3 and evaluations.is_better(found[2], found[1])

    def test_epochs_since(self):
        assert evaluations.epochs_since_best([]) == 0
        assert evaluations.epochs_since_best(rows(0.5, 0.9, 0.7, 0.8)) == 2
        assert evaluations.epochs_since_best(rows(0.9, 0.7, 0.8), begun=20) == 1
        assert evaluations.epochs_since_best(rows(0.9, 0.7), begun=20) == 0


def test_the_best_is_kept_beside_the_last(whole, capsys):
    assert locate.checkpoint_prefix(str(whole)).startswith(f"{whole}/best/00000008")
    assert "the checkpoint of the best evaluation is taken, step 8" in capsys.readouterr().out
    assert best_state(whole)["step"] == 8 and state(whole)["step"] == 12
    assert len(list((whole / "best").iterdir())) == 1
    assert locate.chosen(str(whole), None) == str(whole)
    assert locate.checkpoint_prefix(locate.chosen(str(whole), "last")).endswith("12/state")


def test_it_ends_when_it_no_longer_improves(whole, capsys):
    found = [json.loads(line) for line in (whole / "metrics.jsonl").open()]
    assert [row["eval_accuracy"] for row in found] == list(ACCURACIES)
    train.run(BEST, str(whole), CPU)
    out = capsys.readouterr().out
    assert "Ends here: no better evaluation for 2 epochs (patience 2)." in out
    assert f"was 75.00% after epoch 4: its checkpoint is in {whole}/best" in out
    assert len((whole / "metrics.jsonl").read_text().splitlines()) == 6


def test_without_patience_it_goes_on(whole):
    metrics = train.run(dataclasses.replace(BEST, patience=None), str(whole), CPU)
    assert metrics["epoch"] == 8


def test_an_extension_gives_it_new_patience(whole):
    recipe = dataclasses.replace(BEST, base_learning_rate=0.001)
    assert train.run(recipe, str(whole), CPU, extend=True)["epoch"] == 8


@pytest.mark.parametrize(
    "owner, name, numbers",
    [
        (ToyTrainer, "evaluate", [4, 5, 6]),
        (checkpoints.Store, "save", [7, 11, 12, 14, 17]),  # the best ones' saves among them
        (storage, "write_rows", [3, 4, 6]),
        (storage, "write_text", [20]),
    ],
)
def test_wherever_it_is_stopped_it_ends_the_same(whole, tmp_path, owner, name, numbers):
    for number in numbers:
        workdir = tmp_path / str(number)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
            stop_at(patch, owner, name, number)
            train.run(BEST, str(workdir), CPU)
        train.run(BEST, str(workdir), CPU)
        assert_equal_runs(workdir, whole)
        for entry, value in best_state(whole).items():
            np.testing.assert_array_equal(best_state(workdir)[entry], value, err_msg=entry)


def test_kept_from_the_middle_on(tmp_path, toy_trainer):
    """There is none of the epochs before, and the first after has to do."""
    workdir = tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        stop_at(patch, ToyTrainer, "evaluate", 5)
        train.run(dataclasses.replace(BEST, keep="last"), str(workdir), CPU)
    assert not (workdir / "best").exists()
    train.run(dataclasses.replace(BEST, patience=None), str(workdir), CPU)
    assert best_state(workdir)["step"] >= 12  # epoch 6 is better than 5


def test_a_run_that_fails_takes_its_best_back(tmp_path, toy_trainer, monkeypatch):
    workdir = tmp_path / "run"
    monkeypatch.setattr("effnet_tf.runs.directory.has_progress", lambda workdir: False)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        stop_at(patch, ToyTrainer, "evaluate", 3)
        train.run(BEST, str(workdir), CPU)
    assert not workdir.exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 32))
def test_runs_that_keep_their_best_are_killed(tmp_path, seed, undisturbed):
    """Real networks, in real processes."""
    for place in (processes.random_place(seed), None):
        code, out = processes.run(tmp_path / "run", *KEEP, place=place)
    assert code == 0, out[-3000:]
    assert_equal_runs(tmp_path / "run", undisturbed)
    for name, value in best_state(undisturbed).items():
        np.testing.assert_array_equal(best_state(tmp_path / "run")[name], value, err_msg=name)


KEEP = ("--keep", "best", "--patience", "1", "--epochs", "8")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The directory of a run in a process."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    assert processes.run(workdir, *KEEP)[0] == 0
    return workdir


class TestMetrics:
    def test_are_a_table_too(self, whole):
        found = list(csv.DictReader((whole / "metrics.csv").open()))
        expected = [json.loads(line) for line in (whole / "metrics.jsonl").open()]
        assert [{name: float(value) for name, value in row.items()} for row in found] == expected

    def test_go_to_a_tracker(self, tmp_path, toy_trainer):
        told = []
        train.run(BEST, str(tmp_path / "run"), CPU, on_metrics=lambda *given: told.append(given))
        ends = [(step, values) for step, values in told if "eval_accuracy" in values]
        expected = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
        assert [values for _, values in ends] == expected
        assert [step for step, _ in ends] == [2, 4, 6, 8, 10, 12]
        steps = [step for step, values in told if "train/loss" in values]
        assert steps == list(range(1, 13))

    def test_an_error_of_the_tracker_is_the_callers(self, tmp_path, toy_trainer):
        def broken(step, values):
            if "eval_accuracy" in values:
                raise Stop

        workdir = tmp_path / "run"
        with pytest.raises(Stop):
            train.run(BEST, str(workdir), CPU, on_metrics=broken)
        copy = shutil.copytree(workdir, tmp_path / "copy")
        train.run(BEST, str(copy), CPU)
        train.run(BEST, str(tmp_path / "whole"), CPU)
        assert_equal_runs(copy, tmp_path / "whole")
