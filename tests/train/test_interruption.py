"""interruption.py: SIGTERM and the metadata server's notices, before, inside and after steps."""

import os
import signal
import socket
import threading
import time

import pytest
import tensorflow as tf

from effnet_tf.train import interruption


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
