"""directory.py, interruption.py and goodput.py: one writer, notices of the end, the time."""

import dataclasses
import json
import os
import signal
import socket
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data, storage
from effnet_tf.errors import InputError, SaveError
from effnet_tf.recipes import RECIPES, Recipe
from effnet_tf.runs import directory, texts
from effnet_tf.train import interruption, reporting

SMOKE = RECIPES["smoke"]
SOURCE = data.Source(
    "photos", ("a", "b"), data.Listed([(b"", 0)] * 20), data.Listed([(b"", 1)] * 5)
)


class TestOneWriter:
    def test_a_second_one_is_refused(self, tmp_path):
        with directory.claimed(str(tmp_path / "run"), SMOKE, SOURCE):
            with pytest.raises(InputError, match="Another process is training in"):
                with directory.claimed(str(tmp_path / "run"), SMOKE, SOURCE):
                    pass
        with directory.claimed(str(tmp_path / "run"), SMOKE, SOURCE) as check:
            check()  # free again

    def test_on_an_object_store_the_last_to_come_wins(self, tmp_path):
        workdir = f"ram://{tmp_path.name}/run"
        with directory.claimed(workdir, SMOKE, SOURCE) as first:
            first()
            with directory.claimed(workdir, SMOKE, SOURCE) as second:
                second()
                with pytest.raises(InputError, match="Another process has taken over"):
                    first()

    def test_other_images_are_another_run(self, tmp_path):
        with directory.claimed(str(tmp_path / "run"), SMOKE, SOURCE):
            pass
        more = dataclasses.replace(SOURCE, train=data.Listed([(b"", 0)] * 21), name="moved")
        with pytest.raises(InputError, match=r"data \(num_train: 20 -> 21; 1 training added"):
            with directory.claimed(str(tmp_path / "run"), SMOKE, more):
                pass

    @pytest.mark.parametrize("kept", [["recipe.json"], ["recipe.json", "classes.json"]])
    def test_a_start_that_was_killed_does_not_stand_in_the_way(self, tmp_path, kept):
        with directory.claimed(str(tmp_path), SMOKE, SOURCE):
            pass
        for path in tmp_path.iterdir():
            if path.name not in kept:
                path.unlink()
        with directory.claimed(str(tmp_path), SMOKE, SOURCE):
            assert texts.read_run(str(tmp_path)) == (SMOKE, SOURCE.class_names)

    def test_the_winner_of_a_takeover_keeps_its_files(self, tmp_path):
        workdir = f"ram://{tmp_path.name}/run"
        with pytest.raises(InputError, match="taken over"):
            with directory.claimed(workdir, SMOKE, SOURCE) as check:
                directory._own(workdir)
                check()
        assert texts.read_run(workdir)[0] == SMOKE

    def test_a_file_that_cannot_be_written_is_a_sentence(self, tmp_path):
        with pytest.raises(SaveError, match="'/.*/no/x' cannot be written: .*No such file"):
            storage.write_text(str(tmp_path / "no" / "x"), "text")
        assert os.listdir(tmp_path) == []


class TestNotices:
    def test_sigterm_reaches_a_thread_while_python_sleeps(self):
        before = signal.getsignal(signal.SIGTERM)
        seen = threading.Event()
        with interruption.Interruption() as watched:
            watched.at_stake = True
            watched.on_notice = seen.set
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen.wait(60) and watched.reason == "SIGTERM"
        assert signal.getsignal(signal.SIGTERM) is before

    def test_inside_tensorflow_too(self):
        """The flag is set while the main thread is in a compiled loop."""
        stop, rounds = tf.Variable(False), tf.Variable(0)

        @tf.function
        def loop():
            while tf.logical_and(rounds < 10**8, tf.logical_not(stop)):
                rounds.assign_add(1)

        def kill():
            while not rounds.numpy():
                time.sleep(0.01)  # then the main thread is inside
            os.kill(os.getpid(), signal.SIGTERM)

        with interruption.Interruption() as watched:
            watched.at_stake = True
            watched.on_notice = lambda: stop.assign(True)
            killer = threading.Thread(target=kill, daemon=True)
            killer.start()
            loop()
            killer.join(60)
        assert 0 < rounds.numpy() < 10**8 and watched.reason == "SIGTERM"

    def test_before_the_first_step_it_ends_the_run_at_once(self):
        with pytest.raises(interruption.Preempted, match="No step was made before the notice"):
            with interruption.Interruption():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(60)

    def test_not_in_the_main_thread(self, capsys):
        def watch_there():
            with interruption.Interruption():
                pass

        thread = threading.Thread(target=watch_there)
        thread.start()
        thread.join()
        assert "SIGTERM is not watched" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "name, value, reason",
        [
            ("preempted", "TRUE", True),
            ("preempted", "FALSE", False),
            ("preempted", None, False),
            ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE", True),
            ("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE", False),
        ],
    )
    def test_of_the_metadata_server(self, monkeypatch, name, value, reason):
        asked, twice = [], threading.Event()

        def answer(host, key):
            asked.append(key)
            if asked.count(name) == 2:  # then it has heard the first answer
                twice.set()
            return value if key == name else "NONE"

        monkeypatch.setenv("GCE_METADATA_HOST", "here")
        monkeypatch.setattr(interruption, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(interruption, "_metadata", answer)
        with interruption.Interruption() as watched:
            assert twice.wait(60)
            assert bool(watched.reason) == reason

    def test_a_server_that_does_not_answer(self):
        with socket.socket() as reserved:  # where nobody listens, and nobody else can begin to
            reserved.bind(("localhost", 0))
            address = f"localhost:{reserved.getsockname()[1]}"
            assert interruption._metadata(address, "preempted") is None


class TestGoodput:
    @pytest.fixture
    def pass_time(self, monkeypatch):
        """A function that lets seconds pass, on the clock that Goodput looks at."""
        clock = [1000.0]

        def let_pass(seconds):
            clock[0] += seconds

        monkeypatch.setattr(reporting.time, "monotonic", lambda: clock[0])
        return let_pass

    def test_adds_up_to_the_wall_time(self, tmp_path, pass_time):
        goodput = reporting.Goodput(str(tmp_path))
        pass_time(1)
        with goodput.timed("steps"):
            pass_time(5)
            with goodput.timed("checkpoint"):
                pass_time(2)
        goodput.move(1, "steps", "data_wait")
        pass_time(4)
        goodput.write()
        written = json.loads((tmp_path / "goodput.json").read_text())
        assert written["total"] == 12 and written["seconds"] == {
            "steps": 4,
            "data_wait": 1,
            "checkpoint": 2,
            "evaluation": 0,
            "start_up": 5,
            "lost_work": 0,
            "other": 0,
        }

    def test_a_killed_process_lost_what_it_had_not_saved(self, tmp_path, pass_time):
        first = reporting.Goodput(str(tmp_path))
        with first.timed("steps"):
            pass_time(3)
        first.checkpointed()
        with first.timed("steps"):
            pass_time(5)
        first.write()
        second = reporting.Goodput(str(tmp_path))
        second.load()
        assert second.seconds["lost_work"] == 5 and second.seconds["steps"] == 3
        assert "lost work 5.0 s" in str(second)

    @pytest.mark.parametrize(
        "saved, steps, wait",
        [
            ({"steps": 90.0, "data_wait": 15.0}, 90, 15),
            (96.0, 80, 16),  # 96: of earlier versions
            ({"steps": 100.0, "data_wait": 20.0}, 100, 20),
            (0.0, 0, 0),
        ],
    )
    def test_what_was_lost_is_what_was_not_saved(self, tmp_path, saved, steps, wait):
        seconds = {
            **dict.fromkeys(reporting.Goodput.PURPOSES, 0.0),
            "steps": 100.0,
            "data_wait": 20.0,
        }
        (tmp_path / "goodput.json").write_text(
            json.dumps({"seconds": seconds, "total": 120.0, "saved": saved})
        )
        goodput = reporting.Goodput(str(tmp_path))
        goodput.load()
        assert goodput.seconds["steps"] == pytest.approx(steps)
        assert goodput.seconds["data_wait"] == pytest.approx(wait)
        assert goodput.seconds["lost_work"] == pytest.approx(120 - steps - wait)


class _Trainer:
    """As much of a Trainer as Progress looks at."""

    recipe, step, total_steps = Recipe(batch_size=64, epochs=1), 0, 100


class TestProgress:
    def test_a_log_file_gets_a_line_per_minute(self, capsys, monkeypatch):
        clock = iter(range(0, 10_000, 25))
        monkeypatch.setattr(reporting.time, "monotonic", lambda: next(clock))
        progress = reporting.Progress(_Trainer)
        for step in range(1, 9):
            progress.steps_done(1, 25.0, 5.0)
            progress.show(1, step, 2.5, 0.5, 0.25)
        lines = capsys.readouterr().out.splitlines()[1:]
        assert [line.split("step ")[1].split("/")[0] for line in lines] == ["3", "6"]
        assert (
            "loss 2.500  accuracy 50.0%  rate 0.25  3 images/s  data wait 20%  39:10 left"
            in lines[1]
        )  # 94 steps of 25 seconds

    def test_a_starved_device_is_said_once(self, capsys):
        progress = reporting.Progress(_Trainer)
        for step in (1, 2, 3):
            progress.steps_done(1, 1.0, 0.9)
            progress.show(1, step, 2.5, 0.5, 0.25)
        assert capsys.readouterr().out.count("90% of the time the device waits for images") == 1

    def test_the_first_step_is_alone(self):
        progress = reporting.Progress(_Trainer)
        assert progress.next_steps() == 1
        progress.steps_done(1, 60.0, 0.0)
        assert progress.next_steps() == 100 and progress.rate == 0  # compiling is no rate


def test_without_tensorboard_a_sentence(tmp_path, monkeypatch, capsys):
    # TensorFlow's tf.summary.scalar is there all the same, and raises when it is called.
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    board = reporting.TensorBoard(str(tmp_path), SMOKE)
    board.scalars(1, {"x": 1.0})
    board.batch(np.zeros((1, 8, 8, 3), "uint8"), ["a"])
    board.close()
    assert "pip install 'effnet_tf[tensorboard]'. The same" in capsys.readouterr().out
    assert os.listdir(tmp_path) == ["augmented.png"]
