"""What do the weights formats call the variables of an EfficientNet?

Canonical names are `stem_conv/kernel`, `blocks_3/expand_conv/kernel` (blocks counted
from 0 over all stages), `top_bn/gamma`, `predictions/bias`; shapes are those of Keras.
What is no part of an EfficientNet keeps its own name. Standard library only.

The names of others: tensorflow/tpu models/official/efficientnet (TF1), keras.applications,
and timm's `tf_efficientnet_*`.
"""

import re

from effnet_tf import variants

BATCH_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def canonical(split, numbers=None):
    """Turns the split names of a format into canonical ones.

    Args:
        split: name -> (block, name inside it); block is None, the number of the block
            over all stages, or (stage, index in it), from 1 and 0.
        numbers: (stage, index) -> number; by default they are counted, which is wrong for
            a file that lacks a block.

    Returns:
        name -> canonical name; a block without a number leaves the name as it is.
    """
    keys = {key for key, _ in split.values() if isinstance(key, tuple)}
    numbers = (
        {key: number for number, key in enumerate(sorted(keys))} if numbers is None else numbers
    )
    found = {}
    for name, (key, local) in split.items():
        number = numbers.get(key) if isinstance(key, tuple) else key
        found[name] = (
            local if key is None else name if number is None else f"blocks_{number}/{local}"
        )
    return found


def _batch_norms(expands, depthwise):
    """The names of a block's batch norms, in order."""
    return ["expand_bn"] * expands + ["bn"] * depthwise + ["project_bn"]


# --- Keras, and this package -------------------------------------------------------------------

_LAYER = re.compile(
    r"(?:.*?/)??(?:block(\d+)([a-z]+)[/_]((?:expand|project)_(?:conv|bn)|dwconv|"
    r"bn|se[/_](?:reduce|expand))|((?:stem|top)_(?:conv|bn)|predictions))$"
)


def split_keras(paths):
    """Splits paths such as `block2a/se/reduce/kernel` or `block2a_bn/block2a_bn/gamma:0`."""
    return {path: _split_keras(path) for path in paths}


def _split_keras(path):
    layer, _, leaf = path.rpartition("/")
    found = _LAYER.match(layer)
    if not found:
        return None, path
    stage, letters, inside, outside = found.groups()
    leaf = leaf.split(":")[0].replace("depthwise_kernel", "kernel")
    if outside:
        return None, f"{outside}/{leaf}"
    index = 0
    for letter in letters:  # a, ..., z, aa: the inverse of config.block_letter
        index = 26 * index + ord(letter) - ord("a") + 1
    return (int(stage), index - 1), f"{inside.replace('se_', 'se/')}/{leaf}"


class Nameless:
    """Finds layers by number where a file has no names (tf_keras, early Keras 3).

    There the layers of each class are numbered in their order, which is the model's.

    Args:
        layers: canonical names of the model's layers, in order.

    Attributes:
        asked: whether anything was looked up.
    """

    def __init__(self, layers):
        self.layers, self.asked = {}, False
        for layer in layers:
            name = layer.rpartition("/")[2]
            kind = (
                "batch_normalization"
                if name.endswith("bn")
                else {"dwconv": "depthwise_conv2d", "predictions": "dense"}.get(name, "conv2d")
            )
            self.layers.setdefault(kind, []).append(layer)

    def find(self, name):
        """Returns the Keras path of the layer called, for example, `conv2d_3`."""
        self.asked = True
        kind, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name).groups()
        known, number = self.layers.get(kind, []), int(number or 0)
        if number >= len(known):
            return name
        # As a Keras path, of whose blocks each is a stage.
        return re.sub(r"blocks_(\d+)", lambda block: f"block{int(block[1]) + 1}a", known[number])


# --- Google's TF1 code -------------------------------------------------------------------------

_TF1 = re.compile(
    r"(?:^|/)(stem|head|blocks_(\d+))/(.+)/(kernel|depthwise_kernel|bias|"
    r"gamma|beta|moving_mean|moving_variance)$"
)


def is_tf1(name):
    """Whether this is a variable of Google's EfficientNet code."""
    return bool(_TF1.search(name))


def split_tf1(names):
    """Splits names such as `efficientnet-b0/blocks_1/conv2d_1/kernel`."""
    found = {name: _TF1.search(name) for name in names}
    layers = {}  # of each part: a name's number counts the layers of its class there
    for match in filter(None, found.values()):
        layers.setdefault(match[1], set()).add(match[3])
    return {
        name: (int(match[2]) if match[2] else None, _tf1_local(match, layers[match[1]]))
        if match
        else (None, name)
        for name, match in found.items()
    }


def _tf1_local(match, layers):
    """The name inside its part of a matched name; `layers` are those of the part."""
    part, _, layer, leaf = match.groups()
    kind, number = re.fullmatch(r"(.*?)(?:_(\d+))?", layer).groups()
    number = int(number or 0)
    if part in ("stem", "head"):
        prefix = "stem" if part == "stem" else "top"
        names = {"conv2d": [f"{prefix}_conv"], "dense": ["predictions"]}.get(kind, [f"{prefix}_bn"])
    elif kind == "se/conv2d":
        names = ["se/reduce", "se/expand"]
    elif kind == "depthwise_conv2d":
        names, leaf = ["dwconv"], "kernel"
    else:
        expands = not layers.isdisjoint(("conv2d_1", "tpu_batch_normalization_2"))
        names = (
            ["expand_conv"] * expands + ["project_conv"]
            if kind == "conv2d"
            else _batch_norms(expands, "depthwise_conv2d" in layers)
        )
    return f"{names[number] if number < len(names) else layer}/{leaf}"


# --- timm --------------------------------------------------------------------------------------

_TIMM = re.compile(r"(?:module\.)?(?:blocks\.(\d+)\.(\d+)\.)?(.+)\.(\w+)$")
_TIMM_LEAVES = {"running_mean": "moving_mean", "running_var": "moving_variance"}


def split_timm(names):
    """Splits names such as `blocks.1.0.conv_pwl.weight`."""
    found = {name: _TIMM.match(name) for name in names}
    layers = {}
    for match in filter(None, found.values()):
        layers.setdefault(match.group(1, 2), set()).add(match[3])
    split = {}
    for name, match in found.items():
        split[name] = (None, name)
        if match:
            layer = _timm_layer(match[3], match[1] and layers[match.group(1, 2)])
            key = (int(match[1]) + 1, int(match[2])) if match[1] else None
            split[name] = key, f"{layer}/{_timm_leaf(layer, match[4])}"
    return split


def _timm_leaf(layer, leaf):
    if leaf in ("weight", "bias") and layer.endswith("bn"):
        return {"weight": "gamma", "bias": "beta"}[leaf]
    return _TIMM_LEAVES.get(leaf, "kernel" if leaf == "weight" else leaf)


def _timm_layer(layer, block):
    """Our name of a timm layer; `block` are the layers of its block, None outside."""
    if not block:
        return {
            "conv_stem": "stem_conv",
            "bn1": "stem_bn",
            "conv_head": "top_conv",
            "bn2": "top_bn",
            "classifier": "predictions",
        }.get(layer, layer)
    expands = "conv_pwl" in block
    if re.fullmatch(r"bn\d", layer):
        names = _batch_norms(expands, "conv_dw" in block)
        return names[int(layer[2:]) - 1] if int(layer[2:]) <= len(names) else layer
    return {
        "conv_dw": "dwconv",
        "conv_exp": "expand_conv",
        "conv_pwl": "project_conv",
        "conv_pw": "expand_conv" if expands else "project_conv",
        "se.conv_reduce": "se/reduce",
        "se.conv_expand": "se/expand",
    }.get(layer, layer)


# --- whose are they? ----------------------------------------------------------------------------


def layers(variant):
    """Returns the canonical names of a classifier's layers, in order."""
    inside = [
        "expand_conv",
        "expand_bn",
        "dwconv",
        "bn",
        "se/reduce",
        "se/expand",
        "project_conv",
        "project_bn",
    ]
    kernels, found = block_kernels(variant), ["stem_conv", "stem_bn"]
    for number in range(len(variants.blocks(variant))):
        for layer in inside:
            conv = {"expand_bn": "expand_conv", "bn": "dwconv", "project_bn": "project_conv"}.get(
                layer, layer
            )
            if f"blocks_{number}/{conv}/kernel" in kernels:
                found.append(f"blocks_{number}/{layer}")
    return [*found, "top_conv", "top_bn", "predictions"]


def block_kernels(variant):
    """Returns {canonical name: shape} of every kernel in the blocks of a variant."""
    kernels = {}
    for number, block in enumerate(variants.blocks(variant)):
        side, hidden = block.kernel_size, block.expanded_filters
        shapes = {"project_conv": (1, 1, hidden, block.filters)}
        if block.fused:
            shapes["expand_conv"] = (side, side, block.input_filters, hidden)
        else:
            shapes["dwconv"] = (side, side, hidden, 1)
            if hidden != block.input_filters:
                shapes["expand_conv"] = (1, 1, block.input_filters, hidden)
        if block.se_filters:
            shapes["se/reduce"] = (1, 1, hidden, block.se_filters)
            shapes["se/expand"] = (1, 1, block.se_filters, hidden)
        kernels.update(
            {f"blocks_{number}/{layer}/kernel": shape for layer, shape in shapes.items()}
        )
    return kernels


def identify(shapes):
    """Returns the names of the released variants that variables are of.

    Args:
        shapes: canonical name -> shape, of a whole network or of its first blocks.

    Returns:
        A list; several where the first blocks do not tell, none for another network.
    """
    ours = {
        name: tuple(shape)
        for name, shape in shapes.items()
        if name.startswith("blocks_") and name.endswith("/kernel")
    }
    count = len({name.split("/")[0] for name in ours})
    whole, partly = [], []
    for variant in variants.VARIANTS if ours else ():
        kernels = block_kernels(variant)
        first = {
            name: shape
            for name, shape in kernels.items()
            if int(name.split("/")[0].removeprefix("blocks_")) < count
        }
        if first == ours:
            (whole if len(first) == len(kernels) else partly).append(variant)
    return whole or partly
