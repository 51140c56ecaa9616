"""Runs of train_tpu.py in real processes, for tests that kill them.

A fork server imports TensorFlow once; each run is a fork of it, so that a kill costs
seconds instead of the import.
"""

import ctypes
import faulthandler
import gc
import multiprocessing
import os
import random
import signal
import sys
import threading
import time

import matplotlib.figure  # noqa: F401  (imported once, in the server)
import tensorboard.plugins.image.summary_v2  # noqa: F401
import tensorflow as tf

import train_tpu
from effnet_tf import data, programs, storage
from effnet_tf.runs import checkpoints
from effnet_tf.train import evaluation, interruption, journal, step, trainer
from tests.helpers import tiny_net

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.helpers.processes"])

# 8 steps in 4 epochs; a checkpoint after each.
OPTIONS = (
    "--recipe",
    "smoke",
    "--variant",
    "tinier",
    "--phi",
    "none",
    "--dataset",
    "synthetic",
    "--num_classes",
    "3",
    "--batch_size",
    "16",
    "--epochs",
    "4",
    "--steps_per_loop",
    "2",
    "--checkpoint_every",
    "1",
    "--strategy",
    "cpu",
)

# One loop of many steps, without a checkpoint: Python hears of nothing for a while.
LONG_LOOP = (
    *("--epochs", "400", "--steps_per_loop", "2000"),
    *("--checkpoint_every", "none", "--batch_size", "4"),
)

# Where a process may be killed, or told to end: before or after a call of these.
PLACES = {
    "source": (data, "open_source"),
    "build": (trainer.Trainer, "build"),
    "trace": (step.Step, "_gradients"),
    "stage": (trainer.Trainer, "begin_stage"),
    "steps": (trainer.Trainer, "rows_since"),
    "evaluation": (trainer.Trainer, "evaluate"),
    "snapshot": (trainer.Trainer, "snapshot"),
    "restore": (trainer.Trainer, "restore"),
    "tensors": (tf.raw_ops, "SaveV2"),
    "manifest": (checkpoints, "_write_manifest"),
    "sweep": (checkpoints, "_remove"),
    "text": (storage, "write_text"),
    "rename": (tf.io.gfile, "rename"),
}

# Compiled loops that may be made to never end.
STUCK = {
    "training": (trainer.Trainer, "_train_steps"),
    "evaluation": (evaluation.Evaluation, "_steps"),
}


def _die_at(place, number, after, signal_number=signal.SIGKILL):
    """Arranges that this process gets a signal at the n-th call of a place."""
    owner, name = PLACES[place]
    real, calls = getattr(owner, name), []

    def maybe_die(*args, **kwargs):
        calls.append(1)
        if len(calls) == number and not after:
            os.kill(os.getpid(), signal_number)
        result = real(*args, **kwargs)
        if len(calls) == number and after:
            os.kill(os.getpid(), signal_number)
        return result

    setattr(owner, name, maybe_die)


def _get_stuck(name):
    """Makes a loop of steps never end, and Python's signal handlers wait, as C++ can.

    Args:
        name: of STUCK.
    """
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(128)

    @tf.autograph.experimental.do_not_convert
    def stuck(*_):
        print("stuck", flush=True)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)  # unlike a wait in Python, signals do not wake it

    setattr(*STUCK[name], stuck)
    interruption.PATIENCE = 0.5


def _main(workdir, options, place, environment, log, stuck):
    sys.stdout = sys.stderr = open(log, "w", buffering=1, encoding="utf-8")
    faulthandler.enable(sys.stderr)
    os.environ.update(environment)
    tiny_net.register()
    journal.Journal.show_batch = lambda journal: None  # a picture takes as long as all steps
    # So does rewriting the graphs; and looking for garbage among all that was imported.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    gc.freeze()
    if stuck:
        _get_stuck(stuck)
    if isinstance(place, (int, float)):  # seconds
        threading.Timer(place, os.kill, (os.getpid(), signal.SIGKILL)).start()
    elif place:
        _die_at(*place)
    arguments = ["train_tpu.py", *OPTIONS, "--workdir", workdir, *options]
    programs.run(lambda: train_tpu.main(train_tpu.parse(arguments)))


def start(workdir, *options, place=None, log=None, stuck=None, **environment):
    """Starts a run; returns (process, path of what it prints)."""
    log = log or f"{workdir}.log"
    process = _context.Process(
        target=_main, args=(str(workdir), options, place, environment, log, stuck)
    )
    process.start()
    return process, log


def run(workdir, *options, place=None, timeout=300, log=None, **environment):
    """Runs to the end; returns (exit code, -9 if killed; what it printed)."""
    process, log = start(workdir, *options, place=place, log=log, **environment)
    process.join(timeout)
    assert process.exitcode is not None, open(log).read()[-3000:]
    return process.exitcode, open(log).read()


def random_place(seed):
    """A random point of a run: a moment, or before or after some call of a place."""
    draw = random.Random(seed)
    if draw.random() < 0.3:
        return draw.uniform(0.3, 5)
    places = sorted(set(PLACES) - {"stage"})  # which most runs come to but at their start
    return draw.choice(places), draw.randint(1, 6), draw.random() < 0.5


def wait_for(log, text, timeout=200):
    """Waits until a run has printed a text."""
    end = time.monotonic() + timeout
    while not (os.path.exists(log) and text in open(log).read()):
        assert time.monotonic() < end, f"no '{text}' in {log}"
        time.sleep(0.05)
