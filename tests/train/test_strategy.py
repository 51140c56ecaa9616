"""strategy.py: the same numbers on one device, on eight and in two processes; which is chosen."""

import ast
import json
import socket

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import layers
from effnet_tf.errors import InputError
from effnet_tf.layers.replica_group import Group
from effnet_tf.train import strategy
from effnet_tf.train.strategy import replicas_in_sync
from tests.helpers import worker as worker_lib


def worker(out, devices, **environment):
    """A process that trains; it prints to a file beside `out`."""
    return worker_lib.start(log_of(out), worker_lib.train, str(out), devices, **environment)


def log_of(out):
    return out.with_suffix(".log")


def finish(process, log):
    """Waits for the end of a process; returns what it has printed."""
    process.join(500)
    said = log.read_text()
    assert process.exitcode == 0, said[-3000:]
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
    finish(worker(out, 1), log_of(out))
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
    out = tmp_path / "s.npz"
    finish(worker(out, 8), log_of(out))
    assert_same(np.load(out), one)


def test_two_processes_equal_one(one, tmp_path):
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    outs = [tmp_path / f"{index}.npz" for index in (0, 1)]
    workers = []
    for index, out in enumerate(outs):
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        workers.append(worker(out, 0, TF_CONFIG=json.dumps(config)))
    for index, (process, out) in enumerate(zip(workers, outs)):
        said = finish(process, log_of(out))
        assert f"[worker {index}] Training with strategy 'multiworker'" in said
    first, second = map(np.load, outs)
    assert_same(first, one)
    for name in set(first) - {"metrics"}:  # and bit for bit the same in both
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def share_mean_and_variance():
    eight = strategy.choose_strategy("mirrored", virtual_devices=8)
    images = np.random.default_rng(0).normal(3, 2, (8, 2, 3, 3, 5)).astype("float32")
    for size in (2, 8):
        mean, variance = moments_of(eight, images, size)
        for group in range(8 // size):
            rows = slice(group * size, (group + 1) * size)
            part = images[rows].reshape(-1, 5)
            for replica in range(size):
                np.testing.assert_allclose(mean[rows][replica], part.mean(0), rtol=1e-5)
                np.testing.assert_allclose(variance[rows][replica], part.var(0), rtol=1e-4)


def moments_of(eight, images, size):
    """The (replicas, channels) mean and variance that groups of `size` replicas share."""

    @tf.function
    def moments(batches):
        group = Group(size)
        return eight.run(lambda x: group.moments(*tf.nn.moments(x, (0, 1, 2))), args=(batches,))

    batches = eight.experimental_distribute_values_from_function(
        lambda context: tf.constant(images[context.replica_id_in_sync_group])
    )
    return (np.stack(value.values) for value in moments(batches))


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
            ("group:8", 4, 4),
            ("group:8", 1, 1),
        ],
    )
    def test_have_the_originals_size(self, bn_sync, replicas, size):
        assert replicas_in_sync(bn_sync, replicas) == size

    def test_must_divide_the_replicas(self):
        with pytest.raises(InputError, match="groups of 3 replicas, which do not divide 8"):
            replicas_in_sync("group:3", 8)

    def test_share_mean_and_variance(self, tmp_path):
        """Eight replicas in a process of their own: four groups of two, and one of all."""
        log = tmp_path / "log"
        finish(worker_lib.start(log, share_mean_and_variance), log)

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
