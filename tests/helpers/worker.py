"""Processes of tests/train/test_strategy.py, whose devices are not those of the test process.

A fork server imports TensorFlow once; it has computed nothing, so that each fork of it may
choose its devices.
"""

import multiprocessing
import os

import numpy as np
import tensorflow as tf

from effnet_tf import data
from effnet_tf.train import strategy as strategy_lib
from effnet_tf.train.trainer import Trainer
from tests.helpers import tiny_net

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.helpers.worker"])


def start(log, function, *arguments, **environment):
    """Starts a function of a module in a process that prints to the file `log`."""
    process = _context.Process(target=_main, args=(str(log), function, arguments, environment))
    process.start()
    return process


def _main(log, function, arguments, environment):
    file = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(environment)
    # Rewriting the graphs of eight replicas takes longer than running them.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    function(*arguments)


def train(out, devices):
    """Trains some steps; writes state and metrics to `out`.

    Args:
        out: path of a new .npz file.
        devices: of this process; 0 for a worker of TF_CONFIG, which computes blocks again, so that
            workers ask each other in the backward pass, too.
    """
    tiny_net.register()
    name = "multiworker" if devices == 0 else "cpu" if devices == 1 else "mirrored"
    strategy = strategy_lib.choose_strategy(name, virtual_devices=devices if devices > 1 else None)
    recipe = tiny_net.recipe(
        variant="tinier",
        bn_sync="all",
        remat="block" if devices == 0 else "none",
        dropout_rate=0.0,
        drop_connect_rate=0.0,
        warmup_epochs=0.0,
        eval_batch_size=24,
    )
    trainer = Trainer(recipe, data.open_source(recipe), strategy)
    trainer.start()
    trainer.train_steps(trainer.train_iterator(0), tf.constant(6))
    state = {name.replace("/", "|"): value for name, value in trainer.snapshot().items()}
    metrics = trainer.evaluate()
    stopped = [
        strategy_lib.any_worker(strategy, flag)
        for flag in (False, not strategy_lib.is_chief(strategy) or devices != 0)
    ]
    assert stopped == [False, True]  # a notice to one worker reaches all
    np.savez(out, rows=trainer.rows_since(0), metrics=str(metrics), **state)
