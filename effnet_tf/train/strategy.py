"""On which devices does a run train?"""

import functools
import glob
import os

import tensorflow as tf

from effnet_tf import programs
from effnet_tf.errors import InputError, first_line
from effnet_tf.recipes import STRATEGIES
from effnet_tf.train import cluster


def choose_strategy(
    name="auto", tpu=None, virtual_devices=None, worker_timeout: float = cluster.TIMEOUT
):
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
        worker_timeout: for "multiworker", seconds to wait for the other workers.

    Raises:
        InputError: these devices are not there, or the name is unknown.
    """
    if virtual_devices:
        _split_cpu(virtual_devices)
    chosen = _automatic(tpu) if name == "auto" else name
    make = {
        "tpu": lambda: _tpu_strategy(tpu or os.environ.get("TPU_NAME") or "local"),
        "mirrored": lambda: _mirrored_strategy(virtual_devices),
        "multiworker": lambda: _multiworker_strategy(worker_timeout),
        "cpu": lambda: tf.distribute.OneDeviceStrategy("/cpu:0"),
    }.get(chosen)
    if make is None:
        raise InputError(f"There is no strategy '{name}': use {', '.join(STRATEGIES)}.")
    strategy = make()
    how = "chosen automatically; --strategy and --tpu take others" if name == "auto" else "as asked"
    print(
        f"Training with strategy '{chosen}' ({how}): {type(strategy).__name__}, "
        f"{strategy.num_replicas_in_sync} replica(s)"
    )
    return strategy


def _automatic(tpu):
    # Devices of a TPU VM: /dev/accel0 up to v4; v5e and v6e, it seems, /dev/vfio/0.
    if (
        tpu
        or os.environ.get("TPU_NAME")
        or glob.glob("/dev/accel[0-9]*")
        or (glob.glob("/dev/vfio/[0-9]*"))
    ):
        return "tpu"
    if os.environ.get("TF_CONFIG"):
        return "multiworker"
    return "mirrored" if tf.config.list_logical_devices("GPU") else "cpu"


def _split_cpu(count):
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * count
        )
    except RuntimeError as error:
        raise InputError(
            f"The CPU can no longer be split into {count} devices: {first_line(error)}."
        ) from error


def _tpu_strategy(tpu):
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise InputError(
            f"The TPU '{tpu}' cannot be used: {first_line(error)}. "
            "(On a TPU VM say --tpu local, and install tensorflow-tpu.)"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def _mirrored_strategy(virtual_devices):
    gpus = None if virtual_devices else tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy(
        [device.name for device in gpus or tf.config.list_logical_devices("CPU")]
    )


def _multiworker_strategy(timeout):
    cluster.meet(*cluster.addresses(), timeout)
    try:
        with programs.unheard():
            return tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(
            f"The workers of TF_CONFIG cannot be used: {first_line(error)}."
        ) from error


def is_chief(strategy):
    """Whether this process writes the files of a run; of several workers, the first does."""
    if not has_workers(strategy):
        return True
    resolver = strategy.cluster_resolver
    first = "chief" if "chief" in resolver.cluster_spec().jobs else "worker"
    return resolver.task_id == 0 and resolver.task_type == first


def has_workers(strategy):
    """Whether a strategy spans several processes like this one."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def any_worker(strategy, flag):
    """Whether `flag` is true on any worker: all of them ask, and all get the same answer."""
    return bool(mean_over_workers(strategy, float(flag)) > 0)


def mean_over_workers(strategy, value):
    """Returns the mean of a number over all workers, which all ask; a barrier."""
    if not has_workers(strategy):
        return value
    total = float(_adder(strategy)(tf.constant(value, tf.float32)))
    return total / strategy.num_replicas_in_sync


@functools.cache  # compiled once per strategy
def _adder(strategy):
    @tf.function
    def add_up(value):
        def on_replica():
            mine = tf.identity(value)  # now it has a device
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, mine)

        return strategy.experimental_local_results(strategy.run(on_replica))[0]

    return add_up
