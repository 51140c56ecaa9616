"""On which devices does a run train?"""

import functools
import glob
import os

import tensorflow as tf

from effnet_tf.config import InputError

STRATEGIES = ("auto", "tpu", "mirrored", "multiworker", "cpu")


def choose_strategy(name="auto", tpu=None, virtual_devices=None):
    """Returns the tf.distribute strategy of a name, and prints which it is.

    Args:
        name: "tpu"; "mirrored": all GPUs of this machine, or its virtual CPU devices;
            "multiworker": several machines, described by the environment variable
            TF_CONFIG as TensorFlow documents it; "cpu": one CPU device; "auto": tpu if
            `tpu` is given or this is a TPU VM, else multiworker if TF_CONFIG is set, else
            mirrored if there are GPUs, else cpu.
        tpu: name or address of a Cloud TPU, "local" on a TPU VM.
        virtual_devices: how many devices to make of the CPU, for trying out `mirrored`;
            only before TensorFlow has used it.

    Raises:
        InputError: these devices are not there, or the name is unknown.
    """
    if virtual_devices:
        _split_cpu(virtual_devices)
    chosen = _automatic(tpu) if name == "auto" else name
    make = {"tpu": lambda: _tpu_strategy(tpu or "local"), "mirrored": _mirrored_strategy,
            "multiworker": _multiworker_strategy,
            "cpu": lambda: tf.distribute.OneDeviceStrategy("/cpu:0")}.get(chosen)
    if make is None:
        raise InputError(f"There is no strategy '{name}': use {', '.join(STRATEGIES)}.")
    strategy = make()
    how = "chosen automatically; --strategy and --tpu take others" if name == "auto" else "as asked"
    print(f"Training with strategy '{chosen}' ({how}): {type(strategy).__name__}, "
          f"{strategy.num_replicas_in_sync} replica(s)")
    return strategy


def _automatic(tpu):
    if tpu or glob.glob("/dev/accel*") or os.environ.get("TPU_NAME"):
        return "tpu"
    if os.environ.get("TF_CONFIG"):
        return "multiworker"
    return "mirrored" if tf.config.list_logical_devices("GPU") else "cpu"


def _split_cpu(count):
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count)
    except RuntimeError as error:
        raise InputError(f"The CPU can no longer be split into {count} devices: {error}") from error


def _tpu_strategy(tpu):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise InputError(f"The TPU '{tpu}' cannot be used: {str(error).splitlines()[0]} "
                         "(On a TPU VM say --tpu local, and install tensorflow-tpu.)") from error
    return tf.distribute.TPUStrategy(resolver)


def _mirrored_strategy():
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy(
        [device.name for device in gpus or tf.config.list_logical_devices("CPU")])


def _multiworker_strategy():
    if not os.environ.get("TF_CONFIG"):
        raise InputError(
            "Strategy 'multiworker' needs the environment variable TF_CONFIG on every machine: "
            '{"cluster": {"worker": ["HOST1:PORT", "HOST2:PORT"]}, "task": {"type": "worker", '
            '"index": 0}}, with its own index on each.')
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(f"The workers of TF_CONFIG cannot be used: {error}") from error


def is_chief(strategy):
    """Whether this process writes the files of a run; of several workers, the first does."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return True
    return resolver.task_id == 0 and resolver.task_type in ("worker", "chief", None)


def any_worker(strategy, flag):
    """Whether `flag` is true on any worker: all of them ask, and all get the same answer."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return flag
    return bool(_adder(strategy)(tf.constant(float(flag))) > 0)


@functools.cache  # compiled once per strategy
def _adder(strategy):
    @tf.function
    def add_up(value):
        def on_replica():
            return tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, value)
        return strategy.experimental_local_results(strategy.run(on_replica))[0]
    return add_up
