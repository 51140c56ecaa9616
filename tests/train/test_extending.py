"""going_on.py: a run with another recipe from its newest checkpoint on, exact under kills."""

import dataclasses
import json
import shutil
import signal

import pytest
import tensorflow as tf

from effnet_tf import optim, plots, storage, train
from effnet_tf.errors import InputError
from effnet_tf.runs import checkpoints, directory, texts
from tests.helpers import processes, tiny_net
from tests.helpers.same_runs import assert_equal_runs
from tests.helpers.toy_trainer import Stop, ToyTrainer, stop_at

CPU = tf.distribute.OneDeviceStrategy("/cpu:0")
SHORT = tiny_net.recipe(
    variant="tinier", epochs=2, checkpoint_every=1, background_saves=False, schedule="cosine"
)
LONGER = dataclasses.replace(SHORT, epochs=4, base_learning_rate=0.004, crop_area_min=0.5)
pytestmark = pytest.mark.usefixtures("tiny_variants")


@pytest.fixture
def short(tmp_path, toy_trainer):
    """The directory of a complete run of `SHORT`: 4 steps in 2 epochs."""
    train.run(SHORT, str(tmp_path / "short"), CPU)
    return tmp_path / "short"


@pytest.fixture
def longer(short, tmp_path):
    """The directory of that run, extended, and disturbed by nothing."""
    workdir = shutil.copytree(short, tmp_path / "longer")
    train.run(LONGER, str(workdir), CPU, extend=True)
    return workdir


@pytest.mark.parametrize(
    "owner, name, numbers",
    [
        (directory, "_write_what_it_is", [1]),
        (storage, "write_text", [2, 3]),  # the recipe, and then the classes
        (ToyTrainer, "train_steps", [1, 2, 3]),
        (ToyTrainer, "evaluate", [1, 2]),
        (checkpoints.Store, "save", [1, 2, 3, 4]),
        (storage, "write_rows", [1, 2]),
    ],
)
def test_an_extended_run_that_is_stopped_goes_on_exactly(
    short, longer, tmp_path, owner, name, numbers
):
    for number in numbers:
        workdir = shutil.copytree(short, tmp_path / str(number))
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
            stop_at(patch, owner, name, number)
            train.run(LONGER, str(workdir), CPU, extend=True)
        train.run(LONGER, str(workdir), CPU, extend=True)
        assert_equal_runs(workdir, longer)


def test_while_an_extended_run_is_not_complete_it_has_no_result(short):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        stop_at(patch, ToyTrainer, "train_steps", 2)
        train.run(LONGER, str(short), CPU, extend=True)
    assert not (short / "result.json").exists()
    train.run(LONGER, str(short), CPU)  # without another word: it is the recipe of the run now
    assert (short / "result.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_extended_runs_that_are_killed(whole, tmp_path, seed):
    """Real networks, in real processes."""
    workdir = shutil.copytree(whole[0], tmp_path / "run")
    more = ("--epochs", "6", "--base_learning_rate", "0.004", "--extend")
    code, out = processes.run(workdir, *more, place=processes.random_place(seed))
    assert code in (0, -signal.SIGKILL), out[-3000:]
    code, out = processes.run(workdir, *more)
    assert code == 0, out[-3000:]
    assert_equal_runs(workdir, whole[1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The directories of a run in a process, and of that run extended."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    assert processes.run(workdir)[0] == 0
    extended = shutil.copytree(workdir, workdir.parent / "extended")
    more = ("--epochs", "6", "--base_learning_rate", "0.004", "--extend")
    code, out = processes.run(extended, *more)
    assert code == 0 and "Extends the run from step 8" in out, out[-3000:]
    return workdir, extended


def test_an_extension_is_written_down(short, longer):
    before, after = (texts.read_metrics(f"{each}/metrics.jsonl") for each in (short, longer))
    assert after[:2] == before and [row["epoch"] for row in after] == [1, 2, 3, 4]
    assert texts.read_recipe(f"{longer}/recipe.json") == dataclasses.replace(LONGER, extended_at=4)
    changed = ["crop_area_min: 0.08 -> 0.5", "epochs: 2 -> 4", "base_learning_rate: 0.016 -> 0.004"]
    assert texts.read_history(f"{longer}/recipe.json") == [{"step": 4, "changed": changed}]
    assert "history" not in json.loads((short / "recipe.json").read_text())


def test_the_curve_shows_it(longer, monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "learning_curve", lambda *arguments: drawn.append(arguments))
    train.run(LONGER, str(longer), CPU)
    assert list(drawn[0][2]) == [2.0] and "epochs: 2 -> 4" in drawn[0][2][2.0]


def test_the_same_extension_again_changes_nothing(longer, tmp_path, capsys):
    workdir = shutil.copytree(longer, tmp_path / "run")
    train.run(LONGER, str(workdir), CPU, extend=True)
    assert "Nothing to extend" in capsys.readouterr().out
    assert (workdir / "recipe.json").read_text() == (longer / "recipe.json").read_text()


def test_the_schedule_begins_anew(longer):
    """Cosine over the two epochs that are left, after half an epoch of warm-up."""
    recipe = texts.read_recipe(f"{longer}/recipe.json")
    whole, rest = (
        optim.schedule(each, 2.0) for each in (recipe, dataclasses.replace(LONGER, epochs=2))
    )
    assert [float(whole(step)) for step in (4, 5, 7, 8)] == [
        float(rest(step)) for step in (0, 1, 3, 4)
    ]
    again = optim.schedules.From.from_config(whole.get_config())
    assert float(again(tf.constant(6, tf.int64))) == float(rest(2)) > 0


@pytest.mark.parametrize(
    "changes, extend, sentence",
    [
        (
            {"epochs": 4},
            False,
            r"of another recipe \(epochs: 2 -> 4\). .*extend=True.*init_weights",
        ),
        ({"seed": 4}, False, r"\(seed: 0 -> 4\). (?!.*extend).* for a new run from its weights"),
        (
            {"batch_size": 8, "epochs": 9},
            True,
            r"can change .*\(batch_size: 16 -> 8\): for a new run",
        ),
        ({"ema_decay": 0.0}, True, r"\(ema_decay: 0.9 -> 0.0\): for a new run"),
        ({"base_learning_rate": 1.0}, True, "has made 2 epochs already.*give more epochs"),
        ({"epochs": 1}, True, "has made 2 epochs already, and is to have 1"),
    ],
)
def test_what_cannot_be_is_a_sentence(short, tmp_path, changes, extend, sentence):
    before = (short / "recipe.json").read_text()
    with pytest.raises(InputError, match=sentence):
        train.run(dataclasses.replace(SHORT, **changes), str(short), CPU, extend=extend)
    assert (short / "recipe.json").read_text() == before


def test_there_must_be_a_run(tmp_path, toy_trainer):
    with pytest.raises(InputError, match="There is no run in .* to extend"):
        train.run(SHORT, str(tmp_path / "none"), CPU, extend=True)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("history", ["3", "[3]", '[{"step": 1}]', '[{"step": "1", "changed": []}]'])
def test_a_damaged_history_is_a_sentence(tmp_path, history):
    path = tmp_path / "recipe.json"
    path.write_text('{"epochs": 3, "history": %s}' % history)
    with pytest.raises(InputError, match="its history is"):
        texts.read_history(str(path))
