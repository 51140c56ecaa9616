"""How do weights get from a file into a model, with nothing skipped in silence?

The format is found by looking at the file. Variables are matched by name and shape;
what does not match is an error (`strict=True`) or a printed table.
"""

import dataclasses
import io
import zipfile

import h5py
import tensorflow as tf

from effnet_tf.config import InputError

_HDF5_MAGIC, _ZIP_MAGIC = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did; `print(report)` shows it as a short table.

    Attributes:
        source: the file or checkpoint that was read.
        kind: its format, and whether the raw or the averaged (EMA) weights were read.
        matched: names of the variables that were set.
        missing: "name shape" of the model's variables that the file lacks, or has in
            another shape.
        unused: "name shape" of the file's variables that the model did not take.
    """

    source: str
    kind: str
    matched: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def __str__(self):
        lines = [f"weights: {self.source} ({self.kind})", f"  matched  {len(self.matched)}"]
        for what in ("missing", "unused"):
            lines.append(f"  {what:8} {_shorten(getattr(self, what))}")
        return "\n".join(lines)

    def check_complete(self):
        """Raises InputError if a variable of the model did not get its value."""
        if self.missing:
            raise InputError(f"{self.source} ({self.kind}) lacks variables of this model: "
                             f"{_shorten(self.missing)}. It has, unused: "
                             f"{_shorten(self.unused)}. Is it of another variant?")

    def check_exact(self):
        """Raises InputError if anything of the model or of the file is left over."""
        self.check_complete()
        if self.unused:
            raise InputError(f"{self.source} ({self.kind}) has variables this model does not: "
                             f"{_shorten(self.unused)}. Is it of another variant, or of a model "
                             "with a classifier? strict=False loads what fits.")


def _shorten(names, most=6):
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)}: {', '.join(names[:most])}{rest}" if names else "0"


def load_weights(model, path, *, ema=True, strict=True):
    """Loads a file's weights into a model made by effnet_tf.

    Recognised by content: a run directory of `train_tpu.py` or one of its checkpoints,
    a Keras `.weights.h5`, and a `.keras` file.

    Args:
        model: a `keras.Model` of this package; variables are matched by their paths.
        path: a file, a checkpoint prefix or a run directory.
        ema: for a checkpoint that has averaged weights, take these.
        strict: raise unless file and model have the same variables. Otherwise what
            fits is loaded and the report printed.

    Returns:
        A `LoadReport`.

    Raises:
        InputError: nothing readable at `path`, or (strict) a variable is missing, left
            over, or of another shape. The model is unchanged then.
    """
    path = str(path)
    kind, values = _read(model, path, ema)
    report = _match(model, values, path, kind)
    if strict:
        report.check_exact()
    else:
        print(report)
    for variable in model.weights:
        if variable.path in report.matched:
            variable.assign(values[variable.path])
    return report


def _match(model, values, path, kind):
    wanted = {variable.path: tuple(variable.shape) for variable in model.weights}
    matched = tuple(name for name, shape in wanted.items()
                    if name in values and values[name].shape == shape)
    return LoadReport(
        path, kind, matched,
        missing=tuple(f"{name} {shape}" for name, shape in wanted.items()
                      if name not in matched),
        unused=tuple(f"{name} {value.shape}" for name, value in values.items()
                     if name not in matched))


def _read(model, path, ema):
    """Returns (format, dict from variable path to array) of whatever lies at `path`."""
    prefix = checkpoint_prefix(path)
    if prefix:
        return _read_checkpoint(prefix, ema)
    if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
        raise InputError(
            f"There are no weights at '{path}': no file, checkpoint or run directory. "
            "(Published weights by name, such as 'imagenet', are not available yet: pass "
            "weights=None for random weights, or a file.)")
    with tf.io.gfile.GFile(path, "rb") as file:
        content = file.read()
    if content.startswith(_HDF5_MAGIC):
        return "Keras .weights.h5", _read_h5(model, content, path)
    if content.startswith(_ZIP_MAGIC):
        try:
            # Only its weights: nothing of the file is deserialised, so nothing of it runs.
            inside = zipfile.ZipFile(io.BytesIO(content)).read("model.weights.h5")
        except (zipfile.BadZipFile, KeyError) as error:
            raise InputError(f"'{path}' is a zip file, but no whole .keras file: "
                             f"{error}.") from error
        return ".keras file", _read_h5(model, inside, path)
    raise InputError(f"'{path}' is no weights file effnet_tf knows: it is neither a checkpoint "
                     "of train_tpu.py, nor a .weights.h5, nor a .keras file.")


def _read_h5(model, content, path):
    """Reads bytes in Keras 3's HDF5 layout; returns {variable path: array}.

    Keras numbers the variables of a layer; their names come from the layer of the same
    path in `model`.
    """
    leaves = {}
    for variable in model.weights:
        layer, _, leaf = variable.path.rpartition("/")
        leaves.setdefault(layer, []).append(leaf)
    values = {}
    try:
        with h5py.File(io.BytesIO(content)) as root:
            if "layers" not in root:
                raise InputError(f"'{path}' is HDF5, but not of Keras 3's save_weights(). (Legacy "
                                 ".h5 files, as of keras.applications, are not supported yet.)")
            for layer, index, value in _h5_variables(root["layers"]):
                names = leaves.get(layer, [])
                values[f"{layer}/{names[index] if index < len(names) else index}"] = value
    except OSError as error:
        raise InputError(f"'{path}' is damaged: {error}.") from error
    return values


def _h5_variables(group, path=""):
    """Yields (layer's path, index, array) of every variable below an HDF5 group."""
    if "vars" in group:
        variables = group["vars"]
        path = f"{path}/{variables.attrs['name']}".lstrip("/")
        for index in range(len(variables)):
            yield path, index, variables[str(index)][()]
    for key, child in group.items():
        if key != "vars":
            yield from _h5_variables(child, path)


def latest_checkpoint(folder):
    """Returns the prefix of the newest checkpoint in a folder, or None.

    Raises:
        InputError: the folder's `checkpoint` file, which names it, is damaged.
    """
    try:
        return tf.train.latest_checkpoint(folder)
    except ValueError as error:
        raise InputError(f"'{folder}/checkpoint' is damaged ({error}). Remove it, or write into "
                         'it: model_checkpoint_path: "NAME OF THE NEWEST .index, without '
                         'it".') from error


def checkpoint_prefix(path):
    """Returns the checkpoint that `path` names (a prefix, its folder, a run), or None."""
    for folder in (path, f"{path.rstrip('/')}/checkpoints"):
        latest = tf.io.gfile.isdir(folder) and latest_checkpoint(folder)
        if latest:
            return latest
    prefix = path.removesuffix(".index")
    return prefix if tf.io.gfile.exists(f"{prefix}.index") else None


def _read_checkpoint(prefix, ema):
    """Reads the `weights` or `ema` dictionary that train.py checkpoints."""
    reader = tf.train.load_checkpoint(prefix)
    suffix, groups = "/.ATTRIBUTES/VARIABLE_VALUE", {"weights": {}, "ema": {}}
    for key in reader.get_variable_to_shape_map():
        group, _, name = key.removesuffix(suffix).partition("/")
        if group in groups and key.endswith(suffix):
            # tf.train.Checkpoint writes the "/" of a dictionary's key as ".S".
            groups[group][name.replace(".S", "/")] = key
    if not groups["weights"]:
        raise InputError(f"'{prefix}' is a TensorFlow checkpoint, but not one of train_tpu.py.")
    which = "ema" if ema and groups["ema"] else "weights"
    if ema and which != "ema":
        print(f"{prefix} holds no averaged weights: the raw ones are loaded.")
    kind = f"checkpoint, {'averaged' if which == 'ema' else 'raw'} weights"
    return kind, {name: reader.get_tensor(key) for name, key in groups[which].items()}
