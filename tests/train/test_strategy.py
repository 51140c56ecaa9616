"""strategy.py: the same numbers on one device, on eight and in two processes; which is chosen."""

import ast
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers
from effnet_tf.errors import InputError
from effnet_tf.train import strategy
from effnet_tf.train.strategy import replicas_in_sync

ROOT = pathlib.Path(__file__).parents[2]


def worker(out, devices, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.worker", str(out), str(devices)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    """Waits for the end of processes; returns what each has printed."""
    said = []
    for process in processes:
        out, _ = process.communicate(timeout=500)
        assert process.returncode == 0, out[-3000:]
        said.append(out)
    return said


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "state.npz"
    finish(worker(out, 1))
    return np.load(out)


def assert_same(found, expected):
    """Losses, hits, weights, slots, averages, statistics: equal to 1e-5."""
    assert sorted(found) == sorted(expected)
    for name in set(expected) - {"metrics"}:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)
    a, b = (ast.literal_eval(str(values["metrics"])) for values in (found, expected))
    assert a["eval_images"] == b["eval_images"] == 40
    for name, value in b.items():
        assert a[name] == pytest.approx(value, abs=1e-5), name


def test_eight_devices_equal_one(one, tmp_path):
    finish(worker(tmp_path / "s.npz", 8))
    assert_same(np.load(tmp_path / "s.npz"), one)


def test_two_processes_equal_one(one, tmp_path):
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    said = finish(
        *[
            worker(
                tmp_path / f"{index}.npz",
                0,
                TF_CONFIG=json.dumps(
                    {"cluster": cluster, "task": {"type": "worker", "index": index}}
                ),
            )
            for index in (0, 1)
        ]
    )
    for index, out in enumerate(said):
        assert f"[worker {index}] Training with strategy 'multiworker'" in out
    first, second = (np.load(tmp_path / f"{index}.npz") for index in (0, 1))
    assert_same(first, one)
    for name in set(first) - {"metrics"}:  # and bit for bit the same in both
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


class TestGroups:
    @pytest.mark.parametrize(
        "bn_sync, replicas, size",
        [
            ("auto", 1, 1),
            ("auto", 8, 1),
            ("auto", 16, 8),
            ("auto", 64, 8),
            ("auto", 128, 16),
            ("auto", 2048, 256),
            ("none", 64, 1),
            ("all", 64, 64),
            ("group:4", 64, 4),
        ],
    )
    def test_have_the_originals_size(self, bn_sync, replicas, size):
        assert replicas_in_sync(bn_sync, replicas) == size

    def test_must_divide_the_replicas(self):
        with pytest.raises(InputError, match="groups of 3 replicas, which do not divide 8"):
            replicas_in_sync("group:3", 8)

    def test_share_mean_and_variance(self):
        """Eight replicas in a process of their own: four groups of two, and one of all."""
        code = """
import numpy as np, tensorflow as tf
from effnet_tf import layers
from effnet_tf.train import strategy
eight = strategy.choose_strategy("mirrored", virtual_devices=8)
images = np.random.default_rng(0).normal(3, 2, (8, 2, 3, 3, 5)).astype("float32")
for size in (2, 8):
    @tf.function
    def moments(batches):
        return eight.run(lambda x: layers.group_moments(x, size), args=(batches,))
    batches = eight.experimental_distribute_values_from_function(
        lambda context: tf.constant(images[context.replica_id_in_sync_group]))
    mean, variance = (np.stack(value.values) for value in moments(batches))
    for group in range(8 // size):
        rows = slice(group * size, (group + 1) * size)
        part = images[rows].reshape(-1, 5)
        for replica in range(size):
            np.testing.assert_allclose(mean[rows][replica], part.mean(0), rtol=1e-5)
            np.testing.assert_allclose(variance[rows][replica], part.var(0), rtol=1e-4)
"""
        finished = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        )
        assert finished.returncode == 0, finished.stderr[-3000:]

    def test_without_a_group_keras_moments_serve(self):
        layer = layers.BatchNorm()
        layer.sync_replicas = 2
        assert layer(np.ones((3, 2, 2, 4)), training=True).shape == (3, 2, 2, 4)  # one device


class TestChoice:
    def test_cpu_is_one_device(self, capsys):
        assert strategy.choose_strategy("cpu").num_replicas_in_sync == 1
        assert "strategy 'cpu' (as asked)" in capsys.readouterr().out

    def test_automatic_is_printed(self, capsys, monkeypatch):
        monkeypatch.delenv("TF_CONFIG", raising=False)
        strategy.choose_strategy()
        assert "chosen automatically; --strategy and --tpu take others" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "name, message",
        [
            ("tpu", "TPU 'local' cannot be used"),
            ("multiworker", "environment variable TF_CONFIG"),
            ("gpu", "no strategy 'gpu': use auto, tpu, mirrored"),
        ],
    )
    def test_what_is_not_there_is_a_sentence(self, name, message, monkeypatch):
        monkeypatch.delenv("TF_CONFIG", raising=False)
        with pytest.raises(InputError, match=message):
            strategy.choose_strategy(name)

    def test_the_cpu_is_split_before_it_is_used(self):
        tf.constant(1.0)
        with pytest.raises(InputError, match="can no longer be split into 4"):
            strategy.choose_strategy("mirrored", virtual_devices=4)

    @pytest.mark.parametrize(
        "environment, expected",
        [({"TF_CONFIG": "{}"}, "multiworker"), ({"TPU_NAME": "mine"}, "tpu"), ({}, "cpu")],
    )
    def test_auto_looks_at_the_machine(self, environment, expected, monkeypatch):
        for name in ("TF_CONFIG", "TPU_NAME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert strategy._automatic(None) == expected
        assert strategy._automatic("local") == "tpu"
