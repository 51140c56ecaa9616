"""rundir.py, interruption.py and watch.py: one writer, notices of the end, where the time went."""

import json
import os
import signal
import sys
import threading
import time
import types

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import interruption, rundir, watch
from effnet_tf.checkpoints import SaveError
from effnet_tf.errors import InputError
from effnet_tf.recipe import RECIPES, Recipe

SMOKE = RECIPES["smoke"]
SOURCE = types.SimpleNamespace(name="photos", class_names=("a", "b"), num_train=20, num_eval=5)


class TestOneWriter:
    def test_a_second_one_is_refused(self, tmp_path):
        with rundir.claimed(str(tmp_path / "run"), SMOKE, SOURCE):
            with pytest.raises(InputError, match="Another process is training in"):
                with rundir.claimed(str(tmp_path / "run"), SMOKE, SOURCE):
                    pass
        with rundir.claimed(str(tmp_path / "run"), SMOKE, SOURCE) as check:
            check()  # free again

    def test_on_an_object_store_the_last_to_come_wins(self, tmp_path):
        workdir = f"ram://{tmp_path.name}/run"
        with rundir.claimed(workdir, SMOKE, SOURCE) as first:
            first()
            with rundir.claimed(workdir, SMOKE, SOURCE) as second:
                second()
                with pytest.raises(InputError, match="Another process has taken over"):
                    first()

    def test_other_images_are_another_run(self, tmp_path):
        with rundir.claimed(str(tmp_path / "run"), SMOKE, SOURCE):
            pass
        more = types.SimpleNamespace(**{**vars(SOURCE), "num_train": 21, "name": "moved"})
        with pytest.raises(InputError, match=r"another recipe \(num_train: 20 -> 21\)"):
            with rundir.claimed(str(tmp_path / "run"), SMOKE, more):
                pass

    @pytest.mark.parametrize("kept", [["recipe.json"], ["recipe.json", "classes.json"]])
    def test_a_start_that_was_killed_does_not_stand_in_the_way(self, tmp_path, kept):
        with rundir.claimed(str(tmp_path), SMOKE, SOURCE):
            pass
        for path in tmp_path.iterdir():
            if path.name not in kept:
                path.unlink()
        with rundir.claimed(str(tmp_path), SMOKE, SOURCE):
            assert rundir.read_run(str(tmp_path)) == (SMOKE, SOURCE.class_names)

    def test_the_winner_of_a_takeover_keeps_its_files(self, tmp_path):
        workdir = f"ram://{tmp_path.name}/run"
        with pytest.raises(InputError, match="taken over"):
            with rundir.claimed(workdir, SMOKE, SOURCE) as check:
                rundir._own(workdir)
                check()
        assert rundir.read_run(workdir)[0] == SMOKE

    def test_a_file_that_cannot_be_written_is_a_sentence(self, tmp_path):
        with pytest.raises(SaveError, match="'/.*/no/x' cannot be written: .*No such file"):
            rundir.write_text(str(tmp_path / "no" / "x"), "text")
        assert os.listdir(tmp_path) == []


class TestNotices:
    def test_sigterm_reaches_a_thread_while_python_sleeps(self):
        before = signal.getsignal(signal.SIGTERM)
        seen = threading.Event()
        with interruption.Interruption() as watched:
            watched.on_notice = seen.set
            os.kill(os.getpid(), signal.SIGTERM)
            assert seen.wait(5) and watched.reason == "SIGTERM"
        assert signal.getsignal(signal.SIGTERM) is before

    def test_inside_tensorflow_too(self):
        """The flag is set while the main thread is in a compiled loop."""
        stop = tf.Variable(False)

        @tf.function
        def loop():
            count = tf.constant(0)
            while tf.logical_and(count < 10**7, tf.logical_not(stop)):
                count += 1
            return count

        with interruption.Interruption() as watched:
            watched.on_notice = lambda: stop.assign(True)
            threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
            assert loop() < 10**7

    def test_not_in_the_main_thread(self, capsys):
        def watch_there():
            with interruption.Interruption():
                pass
        thread = threading.Thread(target=watch_there)
        thread.start()
        thread.join()
        assert "SIGTERM is not watched" in capsys.readouterr().out

    @pytest.mark.parametrize("name, value, reason", [
        ("preempted", "TRUE", True), ("preempted", "FALSE", False), ("preempted", None, False),
        ("maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE", True),
        ("maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE", False)])
    def test_of_the_metadata_server(self, monkeypatch, name, value, reason):
        asked = threading.Event()

        def answer(host, key):
            asked.set()
            return value if key == name else "NONE"

        monkeypatch.setenv("GCE_METADATA_HOST", "here")
        monkeypatch.setattr(interruption, "POLL_SECONDS", 0.01)
        monkeypatch.setattr(interruption, "_metadata", answer)
        with interruption.Interruption() as watched:
            assert asked.wait(5)
            time.sleep(0.1)
            assert bool(watched.reason) == reason

    def test_a_server_that_does_not_answer(self):
        assert interruption._metadata("localhost:9", "preempted") is None


class TestGoodput:
    def test_adds_up_to_the_wall_time(self, tmp_path):
        begun = time.monotonic()
        goodput = watch.Goodput(str(tmp_path))
        with goodput.timed("steps"):
            time.sleep(0.05)
            with goodput.timed("checkpoint"):
                time.sleep(0.02)
        goodput.move(0.01, "steps", "data_wait")
        goodput.write()
        wall = time.monotonic() - begun
        seconds = json.loads((tmp_path / "goodput.json").read_text())["seconds"]
        assert sum(seconds.values()) == pytest.approx(wall, abs=0.5)
        assert 0.04 <= seconds["steps"] < 5 and seconds["checkpoint"] >= 0.02
        assert seconds["data_wait"] == 0.01

    def test_a_killed_process_lost_what_it_had_not_saved(self, tmp_path):
        first = watch.Goodput(str(tmp_path))
        with first.timed("steps"):
            time.sleep(0.03)
        first.checkpointed()
        with first.timed("steps"):
            time.sleep(0.05)
        first.write()
        second = watch.Goodput(str(tmp_path))
        second.load()
        assert 0.05 <= second.seconds["lost_work"] < 5
        assert "lost work" in str(second)


class _Trainer:
    """As much of a Trainer as Progress looks at."""
    recipe, step, total_steps = Recipe(batch_size=64, epochs=1), 0, 100


class TestProgress:
    def test_a_log_file_gets_a_line_per_minute(self, capsys, monkeypatch):
        clock = iter(range(0, 10_000, 25))
        monkeypatch.setattr(watch.time, "monotonic", lambda: next(clock))
        progress = watch.Progress(_Trainer)
        for step in range(1, 9):
            progress.steps_done(1, 25.0, 5.0)
            progress.show(1, step, 2.5, 0.5, 0.25)
        lines = capsys.readouterr().out.splitlines()[1:]
        assert [line.split("step ")[1].split("/")[0] for line in lines] == ["3", "6"]
        assert ("loss 2.500  accuracy 50.0%  rate 0.25  3 images/s  data wait 20%  39:10 left"
                in lines[1])  # 94 steps of 25 seconds

    def test_a_starved_device_is_said_once(self, capsys):
        progress = watch.Progress(_Trainer)
        for step in (1, 2, 3):
            progress.steps_done(1, 1.0, 0.9)
            progress.show(1, step, 2.5, 0.5, 0.25)
        assert capsys.readouterr().out.count("90% of the time the device waits for images") == 1

    def test_the_first_step_is_alone(self):
        progress = watch.Progress(_Trainer)
        assert progress.next_steps() == 1
        progress.steps_done(1, 60.0, 0.0)
        assert progress.next_steps() == 100 and progress.rate == 0  # compiling is no rate


def test_without_tensorboard_a_sentence(tmp_path, monkeypatch, capsys):
    # TensorFlow's tf.summary.scalar is there all the same, and raises when it is called.
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("tensorboard.")]:
        monkeypatch.delitem(sys.modules, name)
    board = watch.TensorBoard(str(tmp_path), SMOKE)
    board.scalars(1, {"x": 1.0})
    board.batch(np.zeros((1, 8, 8, 3), "uint8"), ["a"])
    board.close()
    assert "pip install 'effnet_tf[tensorboard]'. The same" in capsys.readouterr().out
    assert os.listdir(tmp_path) == ["augmented.png"]
