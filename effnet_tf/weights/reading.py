"""What do the weights files of this world hold?

`read` looks at a file, never at its name, and returns its variables under the
canonical names of `names.py`, in Keras' layouts.

The formats: Google's TF1 checkpoints (tensorflow/tpu models/official/efficientnet),
files of keras.applications (Keras 2 and 3), state dicts of timm's `tf_efficientnet_*`,
and this package's own checkpoints and files. timm's models without `tf_` look alike but
compute something else (other padding and epsilon): their weights are not for this network.
"""

import dataclasses
import io
import json
import math
import os
import re

import h5py
import numpy as np
import tensorflow as tf

from effnet_tf import extras, storage
from effnet_tf.errors import InputError, first_line
from effnet_tf.runs.locate import checkpoint_prefix
from effnet_tf.variants import IMAGENET_MEAN, IMAGENET_STD, VARIANTS
from effnet_tf.weights import claims, names


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a weights file holds.

    Attributes:
        kind: its format, for people.
        values: canonical name -> (name in the file, array).
        ema: whether these are averaged weights; None where the file has one set only.
        normalization: (mean, std) per channel, on pixels in [0, 255], of the model the
            file was written for; () if its caller normalised; None if it does not say.
    """

    kind: str
    values: dict
    ema: bool | None = None
    normalization: tuple | None = None


@dataclasses.dataclass(frozen=True)
class Target:
    """The model that a file is read for, as far as formats need it.

    Attributes:
        layers: canonical names of its layers, in order.
        numbers: (stage, index) -> number of the block, see `names.canonical`.
        parameters: how many numbers it has, which limits what a file may claim.
    """

    layers: list
    numbers: dict
    parameters: int = 0


def read(path, ema, target):
    """Reads whatever weights lie at `path`.

    Args:
        path: a file, a checkpoint prefix, a run directory, or an extracted archive.
        ema: whether to take averaged weights where there are raw ones too.
        target: `Target`.

    Returns:
        `Contents`.

    Raises:
        InputError: nothing readable.
    """
    storage.check_place(path, "weights")
    most = claims.most_bytes(target.parameters)
    try:
        prefix = checkpoint_prefix(path)
        if prefix:
            return _read_checkpoint(prefix, ema, target)
        if not storage.exists(path) or storage.is_folder(path):
            raise InputError(
                f"There are no weights at '{path}': no file, checkpoint or run directory."
            )
        content = storage.read_bytes(path, most)
    except (tf.errors.OpError, OSError) as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
    try:
        return _read_bytes(claims.File(path, content, most), ema, target)
    except InputError:
        raise
    except Exception as error:  # h5py and others raise anything for a damaged file
        raise InputError(f"'{path}' is damaged: {first_line(error)}.") from error


def _read_bytes(file, ema, target):
    content, path = file.content, file.path
    if content.startswith(claims.HDF5):
        return _read_h5(file.h5(), target)
    if content.startswith(claims.ZIP):
        archive = file.archive()
        if "model.weights.h5" in archive.namelist():
            # Only data is read: nothing of the file is deserialised, so nothing of it runs.
            return _read_h5(
                file.h5(archive.read("model.weights.h5")),
                target,
                json.loads(archive.read("config.json")),
                ".keras file",
            )
        if any(name.endswith("/data.pkl") for name in archive.namelist()):
            return _read_torch(file, ema, target)
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") < 100_000_000:
        return _read_safetensors(content, path, target)
    if content.startswith(b"\x80\x02"):  # a pickle: torch before 1.6
        return _read_torch(file, ema, target)
    if content.startswith(b"\x1f\x8b"):
        raise InputError(f"'{path}' is an archive: extract it, and give the directory.")
    raise InputError(
        f"'{path}' is not a weights file that effnet_tf knows: neither a checkpoint, "
        "nor HDF5, .keras, .safetensors or .pth."
    )


def _named(values, split, target):
    """Returns the `values` of `Contents`, from {name: array} and the names' split."""
    for name, value in values.items():
        if value.dtype.kind not in "fiu":
            raise ValueError(f"'{name}' holds no numbers but {value.dtype}")

    def named(canonical):
        found = {}
        for name, value in values.items():
            other = found.setdefault(canonical[name], (name, value))[0]
            if other != name:
                raise InputError(
                    f"The file holds several networks: '{other}' and '{name}' are "
                    "both the same variable of an EfficientNet."
                )
        return found

    counted = named(names.canonical(split))
    if names.identify({name: value.shape for name, (_, value) in counted.items()}):
        return counted
    # A network of one's own, or a block is missing: the model knows how many there are.
    return named(names.canonical(split, target.numbers))


# --- checkpoints ------------------------------------------------------------------------------


def _read_checkpoint(prefix, ema, target):
    try:
        held = _bytes_of(prefix)
        with storage.plain_prefix(prefix) as plain:
            reader = tf.train.load_checkpoint(plain)
            shapes = reader.get_variable_to_shape_map()
            if sum(math.prod(shape) for shape in shapes.values()) > held:  # a byte each, at least
                raise ValueError("it claims more numbers than it has bytes")
            own = any(key.startswith("weights/") for key in shapes)
            contents = (_own_checkpoint if own else _tf1_checkpoint)(
                reader, sorted(shapes), prefix, ema, target
            )
    except InputError:
        raise
    # IndexError: fewer bytes than it says.
    except (tf.errors.OpError, OSError, IndexError, KeyError, ValueError) as error:
        raise InputError(
            f"The checkpoint '{prefix}' is damaged or incomplete: {first_line(error)}."
        ) from error
    if ema and not contents.ema:
        print(f"{prefix} holds no averaged weights: the raw ones are taken.")
    return contents


def _bytes_of(prefix):
    """Returns the bytes of a checkpoint's data; OSError if it is not made of regular files."""
    storage.size(f"{prefix}.index")
    folder, start = os.path.dirname(prefix), os.path.basename(prefix) + ".data-"
    return sum(
        storage.size(os.path.join(folder, name))
        for name in storage.names(folder)
        if name.startswith(start)
    )


def _own_checkpoint(reader, keys, prefix, ema, target):
    """Reads the raw or averaged network of a state that trainer.py saved."""
    groups = {"weights": {}, "batch_norm": {}, "ema": {}, "normalization": {}}
    for key in keys:
        group, _, name = key.partition("/")
        if group in groups:
            groups[group][name] = key
    averaged = bool(ema and groups["ema"])
    chosen = groups["ema"] if averaged else {**groups["weights"], **groups["batch_norm"]}
    constants = {name: reader.get_tensor(key) for name, key in groups["normalization"].items()}
    return Contents(
        "checkpoint of train_tpu.py",
        _named(
            {name: reader.get_tensor(key) for name, key in chosen.items()},
            names.split_keras(chosen),
            target,
        ),
        averaged,
        (constants["mean"], constants["std"]) if constants else None,
    )


_EMA = "/ExponentialMovingAverage"


def _tf1_checkpoint(reader, keys, prefix, ema, target):
    """Reads a checkpoint of Google's original code; optimiser slots are left out."""
    averages = {key.removesuffix(_EMA): key for key in keys if key.endswith(_EMA)}
    raw = {key: key for key in keys if names.is_tf1(key)}
    if not any(map(names.is_tf1, {**averages, **raw})):
        raise InputError(
            f"'{prefix}' is a TensorFlow checkpoint, but neither of train_tpu.py nor "
            f"of Google's EfficientNet code. It holds {', '.join(keys[:3])} ..."
        )
    shapes = reader.get_variable_to_shape_map()  # scalars are counters of the optimiser
    others = {
        key: key
        for key in keys
        if key not in raw
        and shapes[key]
        and key not in averages.values()
        and key.rpartition("/")[0] not in raw
    }
    chosen = {**raw, **others, **(averages if ema else {})}
    kind = "TF1 checkpoint of Google's code"
    if ema and averages and len(averages) < len(raw):
        kind += f"; {len(raw) - len(averages)} variables have no average and are raw"
    return Contents(
        kind,
        _named(
            {name: reader.get_tensor(key) for name, key in chosen.items()},
            names.split_tf1(chosen),
            target,
        ),
        bool(ema and averages),
    )


# --- HDF5 and .keras --------------------------------------------------------------------------


def _read_h5(root, target, config=None, kind="Keras .weights.h5"):
    with root:
        if "layers" in root:
            values = _find_names(root["layers"], target)
        else:
            kind = "legacy Keras .h5"
            values = _legacy_variables(root.get("model_weights", root))
            if "model_config" in root.attrs:
                config = json.loads(root.attrs["model_config"])
    statistics = {leaf: values.pop(name) for leaf, name in _statistics(values).items()}
    return Contents(
        kind,
        _named(values, names.split_keras(values), target),
        normalization=_normalization(statistics, config),
    )


def _find_names(group, target):
    """Returns {Keras path: array}; without names in the file, by the layers' numbers."""
    nameless = names.Nameless(target.layers)
    values = dict(_h5_variables(group, nameless))
    candidates = iter(VARIANTS if nameless.asked else ())
    while nameless.asked and not names.identify(_shapes(values)):
        variant = next(candidates, None)
        if variant is None:
            return dict(_h5_variables(group, names.Nameless(target.layers)))
        values = dict(_h5_variables(group, names.Nameless(names.layers(variant))))
    return values


def _shapes(values):
    canonical = names.canonical(names.split_keras(values))
    return {canonical[name]: value.shape for name, value in values.items()}


def _statistics(values):
    """Finds {leaf: path} of the Normalization that stands beside stem_conv."""
    stem = next((name for name in values if re.search(r"(^|/)stem_conv/kernel(:0)?$", name)), "")
    beside = re.escape(stem.partition("stem_conv")[0]) + r"(?:normalization(?:_\d+)?/){1,2}"
    found = {
        name: re.fullmatch(beside + r"(mean|variance|std|count)(?::0)?", name) for name in values
    }
    return {match[1]: name for name, match in found.items() if match}


def _h5_variables(group, nameless, path=""):
    """Yields (Keras path, array) of every variable below a group of Keras 3's layout."""
    if "vars" in group:
        variables, own = group["vars"], group.name.rpartition("/")[2]
        path = f"{path}/{variables.attrs.get('name') or nameless.find(own)}".lstrip("/")
        for key, value in variables.items():
            yield f"{path}/{_leaf(path, key)}", value[()]
    for key, child in group.items():
        if key != "vars":
            yield from _h5_variables(child, nameless, path)


def _leaf(layer, key):
    """The name of a layer's variable, which Keras 3 numbers."""
    if not key.isdigit():
        return key
    name = layer.rpartition("/")[2]
    leaves = (
        names.BATCH_NORM
        if name.endswith("bn")
        else ("mean", "variance", "count")
        if name.startswith("normalization")
        else ("kernel", "bias")
    )
    return leaves[int(key)] if int(key) < len(leaves) else key


def _legacy_variables(root):
    """Returns {Keras path: array} of Keras 2's layout: layer/layer/kernel:0, and so on."""
    values = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer_weights/"):
            values[name] = item[()]

    root.visititems(visit)
    return values


def _normalization(statistics, config):
    """Returns the (mean, std), in grey levels, that a file's model applies; or None.

    The published files of keras.applications hold the standard deviation where the
    variance belongs; `weights="imagenet"` adds a Rescaling that makes up for it
    (github.com/tensorflow/tensorflow/issues/49930). A file that holds the whole model
    shows that layer; for one of weights only, these very values give it away (also where
    `weights="<path>"`, which does not make up for it, was fine-tuned: there is no telling).
    """
    if "std" in statistics:
        return tuple(np.asarray(statistics[name]) for name in ("mean", "std"))
    layers = _layers_with_stem(config)
    if layers:
        return _composed(layers, statistics)
    if "variance" not in statistics:
        return None
    mean, variance = np.ravel(statistics["mean"]), np.ravel(statistics["variance"])
    published = np.allclose(255 * mean, IMAGENET_MEAN, atol=0.01) and np.allclose(
        255 * variance, IMAGENET_STD, atol=0.01
    )
    return 255.0 * mean, 255.0 * (variance if published else _root(variance))


def _root(variance):
    return np.maximum(np.sqrt(variance), 1e-7)  # as keras.layers.Normalization


def _composed(layers, statistics):
    """The (mean, std) of what the layers before stem_conv do to pixels, () for nothing."""
    scale, offset, found = np.ones(1), np.zeros(1), False
    for layer in layers:
        settings, kind = layer["config"], layer["class_name"].rpartition(">")[2]
        if kind == "Rescaling":
            factor, shift = np.asarray(settings["scale"]), np.asarray(settings["offset"])
        elif kind == "Normalization":
            mean, variance = (
                settings.get(name)
                if settings.get(name) is not None
                else statistics.get(name, value)
                for name, value in (("mean", 0.0), ("variance", 1.0))
            )
            factor = 1 / _root(np.ravel(variance))
            shift = -np.ravel(mean) * factor
        elif kind == "Normalize":  # ours
            factor = 1 / np.asarray(settings["std"])
            shift = -np.asarray(settings["mean"]) * factor
        elif settings.get("name") == "stem_conv":
            return (0.0 - offset / scale, 1 / scale) if found else ()
        else:
            continue
        scale, offset, found = scale * factor, offset * factor + shift, True
    return None


def _layers_with_stem(config):
    """Finds the list of layers that holds stem_conv in a model's configuration."""
    layers = config.get("config", {}).get("layers", []) if isinstance(config, dict) else []
    if any(layer["config"].get("name") == "stem_conv" for layer in layers):
        return layers
    found = (_layers_with_stem(layer) for layer in layers)
    return next((layers for layers in found if layers is not None), None)


# --- timm -------------------------------------------------------------------------------------


def _read_safetensors(content, path, target):
    library = extras.load("safetensors.numpy", f"Reading '{path}'")
    from safetensors import SafetensorError

    try:
        return _timm(library.load(content), ".safetensors of timm", target)
    except SafetensorError as error:
        raise ValueError(error) from error
    except KeyError as error:
        raise InputError(
            f"'{path}' holds tensors of type {error.args[0]}: save them as float32 or float16."
        ) from error


def _read_torch(file, ema, target):
    """Reads tensors with torch, if it is there; weights_only runs no code of the file."""
    torch = extras.load("torch", f"Reading '{file.path}', a file of PyTorch's,")
    import pickle

    try:
        state = torch.load(io.BytesIO(file.content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"'{file.path}' is damaged, or holds more than tensors, which is not read "
            "for safety: save model.state_dict() alone."
        ) from error
    averaged = isinstance(state, dict) and "state_dict_ema" in state
    for key in ("state_dict_ema",) if averaged and ema else ("state_dict", "model"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict):
        raise ValueError("it holds no state dict")
    tensors = {
        name: value
        for name, value in state.items()
        if isinstance(name, str) and torch.is_tensor(value)
    }
    # A tensor with steps of 0 can claim any shape over a single number.
    claims.check(
        file.path,
        sum(4 * value.numel() for value in tensors.values()),
        len(file.content),
        file.most,
    )
    contents = _timm(
        {name: value.float().numpy() for name, value in tensors.items()}, ".pth of timm", target
    )
    return dataclasses.replace(contents, ema=ema if averaged else None)


def _timm(state, kind, target):
    """Turns a state dict into `Contents`: kernels from OIHW to HWIO."""
    split = names.split_timm([name for name in state if not name.endswith("num_batches_tracked")])
    values = {}
    for name, (_, local) in split.items():
        value = state[name]
        if value.ndim == 4:
            value = value.transpose((2, 3, 0, 1) if local == "dwconv/kernel" else (2, 3, 1, 0))
        values[name] = value.T if value.ndim == 2 else value
    return Contents(kind, _named(values, split, target))
