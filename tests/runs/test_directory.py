"""directory.py and interruption.py: one writer, notices of the end."""

import dataclasses
import os
import signal
import socket
import threading
import time

import pytest
import tensorflow as tf

from effnet_tf import data, storage
from effnet_tf.errors import InputError, SaveError
from effnet_tf.recipes import RECIPES
from effnet_tf.runs import directory, texts
from effnet_tf.train import interruption

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
