"""cluster.py: TF_CONFIG in words, and a worker whose peer never comes."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import pytest

from effnet_tf.errors import InputError
from effnet_tf.train import cluster, strategy
from tests.helpers import processes
from tests.helpers.clock import Clock

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def absent():
    """An address where nobody answers, and where nobody else can begin to."""
    with socket.socket() as reserved:
        reserved.bind(("localhost", 0))
        yield f"localhost:{reserved.getsockname()[1]}"


@pytest.fixture
def present():
    """An address where somebody answers."""
    with socket.create_server(("localhost", 0)) as server:
        yield f"localhost:{server.getsockname()[1]}"


def config(addresses, index=0, **others):
    return json.dumps(
        {"cluster": {"worker": addresses, **others}, "task": {"type": "worker", "index": index}}
    )


class TestAddresses:
    def test_of_this_one_and_the_others(self, monkeypatch):
        monkeypatch.setenv("TF_CONFIG", config(["a:1", "b:2", "[::1]:3"], 1))
        assert cluster.addresses() == ("b:2", ["a:1", "[::1]:3"])
        monkeypatch.setenv("TF_CONFIG", config(["a:1", "b:2"], 1, chief=["c:3"]))
        assert cluster.addresses() == ("b:2", ["c:3", "a:1"])

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            "{}",
            "3",
            "null",
            config(["a:1"], 1),
            config(["a:1"], -1),
            config(["a"]),
            config(["a:x"]),
            config(["a:99999"]),
            config([3]),
            config("a:1"),
            config(["a:1"], "one"),
            config(["a:1"]).replace("worker", "ps", 1),
            "[" * 100_000,
        ],
    )
    def test_of_a_text_that_is_something_else(self, text, monkeypatch):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(InputError, match="TF_CONFIG does not describe workers") as caught:
            cluster.addresses()
        assert len(str(caught.value)) < 1000

    def test_without_one(self, monkeypatch):
        monkeypatch.delenv("TF_CONFIG", raising=False)
        with pytest.raises(InputError, match="needs the environment variable TF_CONFIG"):
            cluster.addresses()


def free_address():
    with socket.create_server(("localhost", 0)) as server:
        return f"localhost:{server.getsockname()[1]}"


def has_ipv6():
    """Whether this machine knows IPv6, and may use it."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        return socket.has_dualstack_ipv6()
    except OSError:
        return False


class TestMeeting:
    def test_of_those_who_are_there(self, present):
        cluster.meet(free_address(), [present], 600)
        cluster.meet(free_address(), [], 600)

    def test_of_workers_that_come_one_after_the_other(self):
        all_of_them = [free_address() for _ in range(3)]
        met, threads = [], []

        def worker(own):
            cluster.meet(own, [each for each in all_of_them if each != own], 600)
            with socket.create_server(("localhost", int(own.rpartition(":")[2]))):  # as gRPC then
                met.append(own)
                gone.wait(600)

        gone = threading.Event()
        for own in all_of_them:
            assert met == []
            threads.append(threading.Thread(target=worker, args=(own,)))
            threads[-1].start()
            time.sleep(0.3)
        while len(met) < 3:
            time.sleep(0.05)
        gone.set()
        for thread in threads:
            thread.join()

    def test_with_either_protocol(self):
        own = free_address()
        port = int(own.rpartition(":")[2])
        with cluster._listening(own):
            assert cluster._answers(f"127.0.0.1:{port}")
            if has_ipv6():
                assert cluster._answers(f"[::1]:{port}")

    def test_says_whom_it_waits_for_and_gives_up(self, absent, present, capsys, monkeypatch):
        monkeypatch.setattr(cluster, "PATIENCE", 0.0)
        nowhere = "no-such-host.invalid:1"
        refusal = f"No worker has answered at {absent}, {nowhere} for "
        with Clock() as clock, pytest.raises(InputError, match=refusal):
            passing = types.SimpleNamespace(monotonic=lambda: clock.seconds, sleep=time.sleep)
            monkeypatch.setattr(cluster, "time", passing)
            cluster.meet(free_address(), [absent, present, nowhere], 2.0)
        shown = capsys.readouterr().out
        assert f"Waiting for the workers {absent}, " in shown
        assert "gives up after 2 seconds (--worker_timeout)" in shown

    def test_at_an_address_that_is_taken(self, present):
        with pytest.raises(InputError, match=f"cannot listen at its address {present}"):
            cluster.meet(present, [], 600)

    def test_hears_of_signals(self, absent):
        with pytest.raises(KeyboardInterrupt):
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            cluster.meet(free_address(), [absent], 600)


def test_a_worker_gives_up_after_the_time_of_the_option(absent, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config([free_address(), absent]))
    with pytest.raises(InputError, match=f"No worker has answered at {absent} for 0.5 seconds"):
        strategy.choose_strategy("multiworker", worker_timeout=0.5)


def test_a_worker_that_waits_obeys_sigterm(absent, tmp_path):
    process = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "train_tpu.py",
            "--recipe",
            "smoke",
            "--dataset",
            "synthetic",
            "--strategy",
            "multiworker",
            "--workdir",
            str(tmp_path / "run"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CONFIG": config([free_address(), absent])},
    )
    for line in process.stdout:
        if line.startswith(f"Waiting for the workers {absent} of TF_CONFIG"):
            break
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 143 and "Traceback" not in errors
    assert errors.endswith("\nEnded by SIGTERM: nothing was written.\n")
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_worker_whose_peer_dies(victim, tmp_path):
    addresses = [free_address(), free_address()]
    started = [
        processes.start(
            tmp_path / "run",
            "--strategy",
            "multiworker",
            "--epochs",
            "4000",
            log=str(tmp_path / f"log{index}"),
            TF_CONFIG=config(addresses, index),
        )
        for index in (0, 1)
    ]
    processes.wait_for(started[0][1], "held-out")
    started[victim][0].kill()
    survivor, log = started[1 - victim]
    survivor.join(300)
    out = open(log).read()
    assert survivor.exitcode == 75, out[-2000:]
    (last,) = [line for line in out.splitlines() if line.startswith("error: ")]
    assert last.startswith("error: Another worker is gone (")
    assert "they go on from the newest checkpoint" in last and "File" not in last
