"""Where does a training step take the lean forms?

On a CPU they are quicker and need less memory; where XLA compiles the step, as for a TPU, they move
fewer bytes, in forms of their own. Both are the same to rounding. On a GPU without XLA they have no
measured advantage.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import keras
import tensorflow as tf
from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

_PRECISIONS = ("float32", "float64")  # half precision is slower on CPUs whatever the form is
_FOR_A_FILE = contextvars.ContextVar("_FOR_A_FILE", default=False)


@contextlib.contextmanager
def for_a_file() -> Iterator[None]:
    """Has training steps that are traced meanwhile take the plain form.

    A file that trains may be opened on any device, with or without XLA, and saved again; of
    gradients TensorFlow saves those that need nothing but an operation's inputs.
    """
    before = _FOR_A_FILE.set(True)
    try:
        yield
    finally:
        _FOR_A_FILE.reset(before)


def is_for_a_file() -> bool:
    """Whether what is traced goes to a file."""
    return _FOR_A_FILE.get()


def obstacle(dtype: str) -> str | None:
    """Returns what forbids the lean forms here, such as a GPU, or None where nothing does.

    Asked while a step is traced, or runs eagerly.

    Args:
        dtype: of the maps.
    """
    if is_for_a_file():
        return "it goes to a file"
    kinds = _device_kinds()
    if under_xla() or "TPU" in kinds:  # whose steps XLA always compiles
        return None
    if "GPU" in kinds:
        return "there is a GPU"
    if keras.backend.standardize_dtype(dtype) not in _PRECISIONS:
        return f"maps are {keras.backend.standardize_dtype(dtype)}"
    return None


def under_xla() -> bool:
    """Whether the function that is being traced will be compiled as a whole, as for a TPU."""
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


@functools.cache  # devices do not come and go once TensorFlow runs
def _device_kinds():
    return {device.device_type for device in tf.config.list_logical_devices()}
