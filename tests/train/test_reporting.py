"""reporting.py: the line of progress, on a terminal and in a log, and TensorBoard."""

import io
import os
import sys
import time
import types

import numpy as np
import pytest

from effnet_tf import progress as progress_lib
from effnet_tf.recipes import Recipe, stages
from effnet_tf.train import objectives, reporting
from tests.helpers import tiny_net


class _Trainer:
    """As much of a Trainer as Progress looks at."""

    recipe, step, total_steps = Recipe(batch_size=64, epochs=1), 0, 100
    size, stages = 224, stages.of_run(recipe, 100.0)
    source, models = types.SimpleNamespace(num_eval=0), {}


@pytest.mark.parametrize(
    "position, init_weights, loss, warned",
    [
        (0, "a.pth", 1.61, False),
        (0, "a.pth", 2.4, False),
        (0, "a.pth", 2.5, True),
        (0, None, 11.4, False),  # random weights may begin anywhere
        (7, "a.pth", 11.4, False),
    ],
)
def test_a_first_loss_far_above_guessing_is_doubted(position, init_weights, loss, warned, capsys):
    trainer = types.SimpleNamespace(
        recipe=Recipe(init_weights=init_weights),
        train_step=types.SimpleNamespace(objective=objectives.OneClass(5, 0.0)),
    )
    rows = np.float32([[8 * loss, 1, 8, 0, 1], [0, 8, 8, 0, 1]])  # of 8 images each
    reporting.doubt(trainer, position, rows)
    said = capsys.readouterr().out
    assert bool(said) == warned
    if warned:
        assert "a loss of 2.50, and guessing would have 1.61 (ln 5)" in said


class Terminal(io.StringIO):
    """A stream that says that it is one."""

    def isatty(self):
        return True


class TestProgress:
    def test_a_log_file_gets_a_line_per_minute_and_per_epoch(self, capsys, monkeypatch):
        clock = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        progress = reporting.Progress(_Trainer)
        for step in range(1, 9):
            progress.steps_done(1, 25.0, 5.0)
            progress.show(1, step, 2.5, 0.5, 0.25)
            clock[0] += 25.0
        progress.end_epoch({"eval_accuracy": 0.75})
        out = capsys.readouterr().out
        lines = out.splitlines()[1:]
        assert [line.split("step ")[1].split("/")[0] for line in lines] == ["4", "7", "8"]
        assert (
            "loss 2.500  accuracy 50.0%  rate 0.25  3 images/s  data wait 20%  38:45 left"
            in lines[1]
        )  # 93 steps of 25 seconds
        assert lines[2].endswith("left  held-out 75.00%")
        assert "\r" not in out and "\x1b" not in out

    def test_a_terminal_shows_one_line_per_epoch_live(self, monkeypatch):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        progress = reporting.Progress(_Trainer)
        for epoch in (1, 2):
            progress.steps_done(1, 25.0, 5.0)
            progress.show(epoch, 50 * epoch, 2.5, 0.5, 0.25)
            ends = {"eval_accuracy": 0.75, "eval_accuracy_ema": 0.75, "eval_accuracy_raw": 0.5}
            progress.end_epoch(ends)
        lines = terminal.getvalue().split("\n")
        assert len(lines) == 4 and lines[3] == ""
        for epoch, line in enumerate(lines[1:3], 1):
            states = line.rstrip().split("\r")
            assert states[-1].startswith(f"epoch {epoch}/1  step {50 * epoch}/100  loss 2.500")
            assert states[-1].endswith("held-out 75.00% (raw weights 50.00%)")

    def test_of_other_workers_is_silent(self, capsys):
        progress = reporting.Progress(_Trainer, quiet=True)
        progress.steps_done(1, 1.0, 0.9)
        progress.steps_done(1, 1.0, 0.9)
        progress.show(1, 1, 2.5, 0.5, 0.25)
        progress.end_epoch({"eval_accuracy": 0.75})
        assert capsys.readouterr().out.splitlines() == [
            "Compiling the first step; this takes a while ..."
        ]

    def test_a_starved_device_is_said_once(self, capsys):
        progress = reporting.Progress(_Trainer)
        for step in (1, 2, 3, 4):
            progress.steps_done(1, 1.0, 0.9)
            progress.show(1, step, 2.5, 0.5, 0.25)
        assert capsys.readouterr().out.count("90% of the time the device waits for images") == 1

    def test_one_loop_that_waits_says_nothing(self, capsys):
        progress = reporting.Progress(_Trainer)
        for waited in (0.9, 0.9, 0.1, 0.9):  # the first is compiled
            progress.steps_done(1, 1.0, waited)
            progress.show(1, 1, 2.5, 0.5, 0.25)
        assert "waits for images" not in capsys.readouterr().out

    def test_the_first_step_is_alone(self):
        progress = reporting.Progress(_Trainer)
        assert progress.next_steps() == 1
        progress.steps_done(1, 60.0, 0.0)
        assert progress.next_steps() == 1 and progress.rate == 0  # compiling is no rate


def test_without_tensorboard_a_sentence(tmp_path, monkeypatch, capsys):
    # TensorFlow's tf.summary.scalar is there all the same, and raises when it is called.
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    board = reporting.TensorBoard(str(tmp_path), tiny_net.recipe())
    board.scalars(1, {"x": 1.0})
    board.batch(np.zeros((1, 8, 8, 3), "uint8"), ["a"])
    board.close()
    assert "pip install 'effnet_tf[tensorboard]'. The same" in capsys.readouterr().out
    assert os.listdir(tmp_path) == ["augmented.png"]


class _Epochs(_Trainer):
    recipe, total_steps = Recipe(batch_size=64, epochs=4, steps_per_loop=1000), 400
    stages = stages.of_run(recipe, 100.0)
    source, models = types.SimpleNamespace(num_eval=960), {"raw": None, "ema": None}


class TestTimeLeft:
    @pytest.fixture
    def clock(self, monkeypatch):
        now = [0.0]
        monkeypatch.setattr(time, "monotonic", lambda: now[0])
        return now

    def left(self, progress, epoch, step):
        progress.show(epoch, step, 1.0, 0.5, 0.1)
        return progress._text.rpartition("  ")[2].removesuffix(" left")

    def test_holds_the_evaluations_and_checkpoints_to_come(self, clock):
        progress = reporting.Progress(_Epochs)
        progress.begin_epoch()
        for _ in range(100):
            clock[0] += 1
            progress.steps_done(1, 1.0, 0.0)
        # 300 steps; and four times two thirds of 960 images, at 64 a second
        assert self.left(progress, 1, 100) == "5:40"
        clock[0] += 30  # the first evaluation, and the checkpoint
        progress.end_epoch({"eval_accuracy": 0.5})
        clock[0] += 2
        progress.begin_epoch()
        progress.steps_done(1, 1.0, 0.0)
        assert self.left(progress, 2, 101) == progress_lib.clock(299 + 3 * 32)

    def test_an_epoch_without_its_evaluation_is_not_measured(self, clock):
        progress = reporting.Progress(_Epochs)
        for _ in range(2):
            progress.begin_epoch()
            progress.steps_done(1, 1.0, 0.0)
            clock[0] += 100.0  # and then it went back to a checkpoint
        assert progress._clock.beside(64) == 10


def test_it_looks_up_every_five_seconds():
    progress = reporting.Progress(_Epochs)
    counts = []
    for seconds in (60.0, 0.5, 5.0, 0.01):
        counts.append(progress.next_steps())
        progress.steps_done(counts[-1], seconds, 0.0)
    assert counts == [1, 1, 10, 10] and progress.next_steps() == 1000
    together = reporting.Progress(_Epochs, several=True)
    together.steps_done(1, 9.0, 0.0)
    assert together.next_steps() == 1000  # or the workers would wait for each other for ever


def test_something_moves_while_nothing_is_done(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    progress = reporting.Progress(_Epochs)
    with progress.compiling():
        time.sleep(1.2)
    assert "step 0/400  compiling the first step 0:01" in terminal.getvalue()
    progress.steps_done(1, 1.0, 0.0)
    with progress.compiling():
        time.sleep(1.2)
    assert terminal.getvalue().count("0:01") == 1  # a loop that is not the first says nothing
