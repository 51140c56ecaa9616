"""What do the weights files of this world hold?

`read` looks at a file, never at its name, and returns its variables under the canonical names of
`names.py`, in Keras' layouts. Each format is a file of its own: names and reader together.
"""

import contextlib
import os

import tensorflow as tf

from effnet_tf import storage
from effnet_tf.errors import InputError, first_line, printable
from effnet_tf.runs.locate import checkpoint_prefix
from effnet_tf.weights import claims, keras_files, keras_hub_files, tf_checkpoints, torch_files
from effnet_tf.weights.contents import Contents, Target

# Asked in this order whether they recognise a file. A new format is a new file and its name here.
FORMATS = (keras_hub_files, keras_files, torch_files)
# What Hugging Face's transformers and timm save, now and before; and keras_hub.
IN_FOLDERS = ("model.safetensors", "pytorch_model.bin", keras_files.WEIGHTS)


def read(path: str, ema: bool, target: Target) -> Contents:
    """Reads whatever weights lie at `path`.

    Args:
        path: a file, a checkpoint prefix, a run directory, or an extracted archive.
        ema: whether to take averaged weights where there are raw ones too.
        target: the model they are for.

    Raises:
        InputError: there is nothing at `path`, or nothing that can be read.
    """
    found = _open(path, claims.most_bytes(target.parameters))
    if isinstance(found, str):
        return tf_checkpoints.read(found, ema, target)
    with _damage_told(path):
        return _format_of(found).read(found, ema, target)


def families(path: str, most: int) -> tuple[str, ...]:
    """Returns the families that the weights at `path` say that they can be of.

    Args:
        path: see `read`.
        most: bytes that they may have.

    Returns:
        Names of `variants.FAMILIES`; () for formats that all of them share.

    Raises:
        InputError: as `read`.
    """
    found = _open(path, most)
    if isinstance(found, str):
        return tf_checkpoints.families(found)
    with _damage_told(path):
        return _format_of(found).families(found)


@contextlib.contextmanager
def _damage_told(path):
    """Makes a sentence of whatever is raised about a file."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # h5py and others raise anything for a damaged file
        raise InputError(f"'{path}' is damaged: {printable(first_line(error))}.") from error


def _open(path, most):
    """Returns the prefix of the checkpoint at `path`, or the `File` there."""
    storage.check_place(path, "weights")
    try:
        return checkpoint_prefix(path) or _file(path, most)
    except (tf.errors.OpError, OSError) as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error


def _file(path, most):
    for name in IN_FOLDERS:
        if storage.exists(os.path.join(path, name)):
            path = os.path.join(path, name)
            break
    if not storage.exists(path) or storage.is_folder(path):
        raise InputError(f"There are no weights at '{path}': no file, checkpoint or run directory.")
    return claims.File(path, storage.read_bytes(path, most), most)


def _format_of(file):
    """Returns the module that reads a file."""
    for each in FORMATS:
        if each.recognises(file):
            return each
    if file.content.startswith(b"\x1f\x8b"):
        raise InputError(f"'{file.path}' is a compressed archive: extract it, and pass the folder.")
    raise InputError(
        f"'{file.path}' is not a weights file that effnet_tf knows: it is neither a checkpoint nor "
        "HDF5, .keras, .safetensors or .pth."
    )
