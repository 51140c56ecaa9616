"""How are weights read from TensorFlow's checkpoints: Google's TF1 ones, and our own?

Google's names are those of tensorflow/tpu models/official/efficientnet, where layers of a class
are numbered within each block; google/automl efficientnetv2 has the same. CondConv's kernels are
layers of Keras', in a scope of their own and numbered through the network. Ours are the paths of
the variables, as train/state.py saves its state.
"""

import dataclasses
import math
import os
import re
from collections.abc import Collection

import tensorflow as tf

from effnet_tf import storage, variants
from effnet_tf.errors import InputError, first_line
from effnet_tf.messages import log
from effnet_tf.runs import checkpoints, texts
from effnet_tf.weights import keras_files, names
from effnet_tf.weights.contents import Contents, Target, name_values


def read(prefix: str, ema: bool, target: Target) -> Contents:
    """Reads the raw or averaged weights of a checkpoint.

    Args:
        prefix: of the checkpoint's files.
        ema: take averaged weights, if there are any; if not, says so.
        target: the model they are for.

    Raises:
        InputError: it is damaged, or a checkpoint of something else.
    """
    try:
        contents = _read(prefix, ema, target)
    except InputError:
        raise
    # IndexError: fewer bytes than it says.
    except (tf.errors.OpError, OSError, IndexError, KeyError, ValueError) as error:
        raise InputError(
            f"The checkpoint '{prefix}' is damaged or incomplete: {first_line(error)}."
        ) from error
    if ema and not contents.ema:
        log.info(f"{prefix} holds no averaged weights: the raw ones are taken.")
    return contents


def _read(prefix, ema, target):
    held = _bytes_of(prefix)
    with storage.plain_prefix(prefix) as plain:
        reader = tf.train.load_checkpoint(plain)
        shapes = reader.get_variable_to_shape_map()
        if sum(math.prod(shape) for shape in shapes.values()) > held:  # a byte each, at least
            raise ValueError("it claims more numbers than it has bytes")
        if any(key.startswith("weights/") for key in shapes):
            held = _read_ours(reader, sorted(shapes), ema, target)
            return dataclasses.replace(held, families=families(prefix))
        if not any(_TF1.search(key.removesuffix(_AVERAGE)) for key in shapes):
            raise InputError(
                f"'{prefix}' is a TensorFlow checkpoint, but neither train_tpu.py nor Google's "
                f"EfficientNet code wrote it. It holds {', '.join(sorted(shapes)[:3])} ..."
            )
        return _read_tf1(reader, shapes, ema, target)


def families(prefix: str) -> tuple[str, ...]:
    """Returns the family of the run of train_tpu.py that a checkpoint is of.

    () where it is of something else, or of a row of the user's own.

    Args:
        prefix: of the checkpoint's files.

    Raises:
        InputError: the run's recipe is damaged.
    """
    run = os.path.dirname(os.path.dirname(os.path.dirname(prefix)))
    path = os.path.join(run, "recipe.json")
    if os.path.basename(prefix) != checkpoints.PREFIX or not storage.exists(path):
        return ()
    recipe = texts.read_json(path, texts.COPY)
    if not isinstance(recipe, dict):
        return ()
    if recipe.get("family"):
        return (recipe["family"],)
    if recipe.get("variant") in variants.VARIANTS:
        return ("tf",)
    return ()  # a row of the user's own


def _bytes_of(prefix):
    """Returns the bytes of a checkpoint's data; OSError if it is not made of regular files."""
    storage.size(f"{prefix}.index")
    folder, start = os.path.dirname(prefix), os.path.basename(prefix) + ".data-"
    return sum(
        storage.size(os.path.join(folder, name))
        for name in storage.names(folder)
        if name.startswith(start)
    )


def _tensors(reader, chosen):
    return {name: reader.get_tensor(key) for name, key in chosen.items()}


# --- our own ----------------------------------------------------------------------------------


def _read_ours(reader, keys, ema, target):
    """Reads the raw or averaged network of a state that train_tpu.py saved."""
    groups = {"weights": {}, "batch_norm": {}, "ema": {}, "normalization": {}}
    for key in keys:
        group, _, name = key.partition("/")
        if group in groups:
            groups[group][name] = key
    averaged = bool(ema and groups["ema"])
    chosen = groups["ema"]
    if not averaged:
        chosen = {**groups["weights"], **groups["batch_norm"]}
    normalization = None
    if groups["normalization"]:
        constants = _tensors(reader, groups["normalization"])
        normalization = constants["mean"], constants["std"]
    values = name_values(_tensors(reader, chosen), keras_files.split(chosen), target)
    return Contents("checkpoint of train_tpu.py", values, averaged, normalization)


# --- Google's TF1 code ------------------------------------------------------------------------

_AVERAGE = "/ExponentialMovingAverage"
# EfficientNetV2 of ImageNet-21k, whatever pixels its variant takes otherwise (google/automl
# efficientnetv2/preprocessing.py).
_CLASSES_OF_21K = 21_843
# Today's TensorFlow counts scopes that are entered twice: the dense layer is in head_1.
_TF1 = re.compile(
    r"(?:^|/)(stem|head|blocks_(\d+))(?:(?<=head)_\d+)?/(.+)/(kernel|depthwise_kernel|bias|"
    r"gamma|beta|moving_mean|moving_variance|condconv_kernel|depthwise_condconv_kernel)$"
)


def _read_tf1(reader, shapes, ema, target):
    """Reads a checkpoint of Google's original code; optimiser slots are left out."""
    keys = sorted(shapes)
    averages = {key.removesuffix(_AVERAGE): key for key in keys if key.endswith(_AVERAGE)}
    raw = {key: key for key in keys if _TF1.search(key)}
    chosen = {**raw, **_others(keys, raw, averages, shapes)}
    kind = "TF1 checkpoint of Google's code"
    if ema:
        chosen.update(averages)
        if averages and len(averages) < len(raw):
            kind += f"; {len(raw) - len(averages)} variables have no average and are raw"
    values = name_values(_tensors(reader, chosen), split(chosen), target)
    pixels = None
    if "predictions/bias" in values and len(values["predictions/bias"][1]) == _CLASSES_OF_21K:
        pixels = variants.PREPROCESSING["v2"]
    return Contents(kind, values, bool(ema and averages), pixels, families=("tf",))


def _others(keys, raw, averages, shapes):
    """The variables that are not an EfficientNet's, nor an average or slot of one."""
    found = {}
    for key in keys:
        is_counter = not shapes[key]  # scalars are counters of the optimiser
        is_slot = key.rpartition("/")[0] in raw
        if not (key in raw or is_counter or key in averages.values() or is_slot):
            found[key] = key
    return found


def split(keys: Collection[str]) -> names.Split:
    """Splits names such as `efficientnet-b0/blocks_1/conv2d_1/kernel`."""
    layers: dict[str, set[str]] = {}  # of each part, whose layers are numbered by their class
    for match in filter(None, map(_TF1.search, keys)):
        layers.setdefault(match[1], set()).add(match[3])
    return {key: _split(key, layers) for key in keys}


def _split(key, layers):
    match = _TF1.search(key)
    if match is None:
        return None, key
    inside = _inside(match, layers[match[1]])
    if match[2] is None:
        return None, inside
    return int(match[2]), inside


def _inside(match, layers):
    """The name inside its part of a matched name; `layers` are those of the part."""
    part, _, layer, leaf = match.groups()
    if layer.startswith(("cond_conv2d", "depthwise_cond_conv2d")):
        return f"{_mixed_layer(layer, layers)}/kernel"
    kind, number = _numbered(layer)
    if part in ("stem", "head"):
        found = _outside_layers(part, kind)
    else:
        found = _block_layers(kind, layers)
    if number < len(found):
        layer = found[number]
    if kind == "depthwise_conv2d":
        leaf = "kernel"
    return f"{layer}/{leaf}"


def _numbered(layer):
    """Returns (class, number) of a layer: ("conv2d", 1) of conv2d_1."""
    kind, number = re.fullmatch(r"(.*?)(?:_(\d+))?", layer).groups()
    return kind, int(number or 0)


def _mixed_layer(layer, layers):
    """Our name of a CondConv layer; they are numbered through the whole network."""
    kind, number = _numbered(layer)
    if kind == "depthwise_cond_conv2d":
        return "dwconv"
    others = [found for same, found in map(_numbered, layers) if same == kind]
    return "project_conv" if number == max(others) else "expand_conv"


def _outside_layers(part, kind):
    """Our names of the layers of a class in the stem or head."""
    prefix = {"stem": "stem", "head": "top"}[part]
    if kind == "dense":
        return ["predictions"]
    if kind == "conv2d":
        return [f"{prefix}_conv"]
    return [f"{prefix}_bn"]


def _block_layers(kind, layers):
    """Our names of the layers of a class in a block that has these layers, in their order."""
    expands = not layers.isdisjoint(("conv2d_1", "tpu_batch_normalization_2"))
    if kind == "dense":
        return [variants.ROUTING]
    if kind == "se/conv2d":
        return ["se/reduce", "se/expand"]
    if kind == "depthwise_conv2d":
        return ["dwconv"]
    if kind != "conv2d":
        depthwise = any("depthwise" in layer for layer in layers)
        return names.batch_norms(expands, depthwise)
    if expands:
        return ["expand_conv", "project_conv"]
    return ["project_conv"]
