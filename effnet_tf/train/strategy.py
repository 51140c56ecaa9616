"""On which devices does a run train?"""

import collections
import functools
import glob
import os

import tensorflow as tf

from effnet_tf import programs
from effnet_tf.errors import InputError, first_line
from effnet_tf.messages import log, name_this_process
from effnet_tf.recipes import STRATEGIES
from effnet_tf.train import cluster

# By purpose, the last iterators of this process; see `opened`.
_opened: dict[str, collections.deque] = collections.defaultdict(lambda: collections.deque(maxlen=2))


def choose_strategy(
    name: str = "auto",
    tpu: str | None = None,
    virtual_devices: int | None = None,
    worker_timeout: float = cluster.TIMEOUT,
) -> tf.distribute.Strategy:
    """Returns the tf.distribute strategy of a name, and says which it is.

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
    strategy, how = make(), "as asked"
    if name == "auto":
        how = "chosen automatically; --strategy and --tpu take others"
    log.info(
        f"Training with strategy '{chosen}' ({how}): {type(strategy).__name__}, "
        f"{strategy.num_replicas_in_sync} replica(s)"
    )
    return strategy


def _automatic(tpu):
    # Devices of a TPU VM: /dev/accel0 up to v4; v5e and v6e, it seems, /dev/vfio/0.
    is_tpu_vm = glob.glob("/dev/accel[0-9]*") or glob.glob("/dev/vfio/[0-9]*")
    if tpu or os.environ.get("TPU_NAME") or is_tpu_vm:
        return "tpu"
    if os.environ.get("TF_CONFIG"):
        return "multiworker"
    if tf.config.list_logical_devices("GPU"):
        return "mirrored"
    return "cpu"


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
    devices = tf.config.list_logical_devices("GPU")
    if virtual_devices or not devices:
        devices = tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _multiworker_strategy(timeout):
    cluster.meet(*cluster.addresses(), timeout)
    try:
        with programs.unheard():
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise InputError(
            f"The workers of TF_CONFIG cannot be used: {first_line(error)}."
        ) from error
    resolver = strategy.cluster_resolver
    name_this_process(f"{resolver.task_type} {resolver.task_id}")
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the files of a run; of several workers, the first does."""
    if not has_workers(strategy):
        return True
    resolver = strategy.cluster_resolver
    first = "worker"
    if "chief" in resolver.cluster_spec().jobs:
        first = "chief"
    return resolver.task_id == 0 and resolver.task_type == first


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy spans several processes like this one."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def any_worker(strategy: tf.distribute.Strategy, flag: bool) -> bool:
    """Whether `flag` is true on any worker: all of them ask, and all get the same answer."""
    return bool(mean_over_workers(strategy, float(flag)) > 0)


def mean_over_workers(strategy: tf.distribute.Strategy, value: float) -> float:
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


def replicas_in_sync(bn_sync: str, replicas: int) -> int:
    """Returns how many replicas share batch statistics.

    Args:
        bn_sync: of the recipe: none, all, group:N, or auto: the original's rule, utils.py:
            TpuBatchNormalization.
        replicas: how many there are.

    Raises:
        InputError: groups that do not divide the replicas.
    """
    size = _group_size(bn_sync, replicas)
    if replicas % size:
        raise InputError(
            f"bn_sync {bn_sync} makes groups of {size} replicas, which do not divide "
            f"{replicas}: use group:N with a divisor."
        )
    return size


def _group_size(bn_sync, replicas):
    if bn_sync == "none":
        return 1
    if bn_sync == "all":
        return replicas
    if bn_sync != "auto":
        # The code of EfficientNetV2, which has groups of 8, takes smaller machines whole.
        return min(int(bn_sync.partition(":")[2]), replicas)
    if replicas <= 8:
        return 1
    return max(8, replicas // 8)


def opened(
    batches: tf.distribute.DistributedDataset, purpose: str
) -> tf.distribute.DistributedIterator:
    """Returns an iterator over batches, which is kept until two more of its purpose are opened.

    TensorFlow 2.21 crashes where a distributed iterator is deleted while its thread prepares a
    batch (`MultiDeviceBuffer::BackgroundThread`): so ended a fifth of the evaluations that a notice
    cut. By then the thread has come to rest, or the process has ended.
    """
    iterator = iter(batches)
    _opened[purpose].append(iterator)
    return iterator
