"""What do the weights files of this world hold?

`read` looks at a file, never at its name, and returns its variables under the canonical names of
`names.py`, in Keras' layouts. Each format is a file of its own: names and reader together.
"""

import os

import tensorflow as tf

from effnet_tf import storage
from effnet_tf.errors import InputError, first_line, printable
from effnet_tf.runs.locate import checkpoint_prefix
from effnet_tf.weights import claims, keras_files, tf_checkpoints, torch_files
from effnet_tf.weights.contents import Contents, Target

# Asked in this order whether they recognise a file. A new format is a new file and its name here.
FORMATS = (keras_files, torch_files)
# What Hugging Face's transformers and timm save, now and before.
IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")


def read(path: str, ema: bool, target: Target) -> Contents:
    """Reads whatever weights lie at `path`.

    Args:
        path: a file, a checkpoint prefix, a run directory, or an extracted archive.
        ema: whether to take averaged weights where there are raw ones too.
        target: the model they are for.

    Raises:
        InputError: there is nothing at `path`, or nothing that can be read.
    """
    storage.check_place(path, "weights")
    try:
        prefix = checkpoint_prefix(path)
        if prefix:
            return tf_checkpoints.read(prefix, ema, target)
        file = _open(path, target)
    except (tf.errors.OpError, OSError) as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
    try:
        return _format_of(file).read(file, ema, target)
    except InputError:
        raise
    except Exception as error:  # h5py and others raise anything for a damaged file
        raise InputError(f"'{path}' is damaged: {printable(first_line(error))}.") from error


def _open(path, target):
    for name in IN_FOLDERS:
        if storage.exists(os.path.join(path, name)):
            path = os.path.join(path, name)
            break
    if not storage.exists(path) or storage.is_folder(path):
        raise InputError(f"There are no weights at '{path}': no file, checkpoint or run directory.")
    most = claims.most_bytes(target.parameters)
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
