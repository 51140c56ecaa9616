"""How are weights read from PyTorch's files, with the names of timm's `tf_efficientnet_*`?

timm's models without `tf_` look alike but compute something else (other padding and epsilon):
their weights are not for this network.
"""

import dataclasses
import io
import re
from collections.abc import Collection

import numpy as np

from effnet_tf import extras
from effnet_tf.errors import InputError
from effnet_tf.weights import claims, names
from effnet_tf.weights.contents import Contents, Target, name_values

PACKAGES = {".safetensors": "safetensors", ".pth": "torch", ".pt": "torch"}  # by its ending
_PICKLE = b"\x80\x02"  # a .pth of PyTorch before 1.6
_LONGEST_HEADER = 100_000_000  # of .safetensors, in bytes: the format's own limit


def recognises(file: claims.File) -> bool:
    """Whether this is a .safetensors or .pth file, by its first bytes and what it lists."""
    if file.content.startswith(claims.ZIP):
        return any(name.endswith("/data.pkl") for name in file.archive().namelist())
    return _is_safetensors(file) or file.content.startswith(_PICKLE)


def read(file: claims.File, ema: bool, target: Target) -> Contents:
    """Reads a file that `recognises` knows.

    Raises:
        MissingPackage: safetensors or PyTorch is not installed.
        InputError: it holds more than tensors, or tensors of an unknown type.
        ValueError: it is damaged.
    """
    if _is_safetensors(file):
        return _contents(_safetensors(file), ".safetensors of timm", target)
    state, averaged = _unpickled(file, ema)
    contents = _contents(state, ".pth of timm", target)
    if averaged:
        contents = dataclasses.replace(contents, ema=ema)
    return contents


def _is_safetensors(file):
    content = file.content
    return content[8:9] == b"{" and int.from_bytes(content[:8], "little") < _LONGEST_HEADER


def _safetensors(file):
    library = extras.load("safetensors.numpy", f"Reading '{file.path}'")
    from safetensors import SafetensorError

    try:
        return library.load(file.content)
    except SafetensorError as error:
        raise ValueError(error) from error
    except KeyError as error:
        raise InputError(
            f"'{file.path}' holds tensors of type {error.args[0]}: save them as float32 or float16."
        ) from error


def _unpickled(file, ema):
    """Reads a .pth file with PyTorch: (name -> float32 array, whether it has averages, too)."""
    torch = extras.load("torch", f"Reading '{file.path}', which PyTorch wrote,")
    state = _load(torch, file)
    averaged = isinstance(state, dict) and "state_dict_ema" in state
    wanted = ("state_dict", "model")
    if averaged and ema:
        wanted = ("state_dict_ema",)
    for key in wanted:
        if isinstance(state, dict):
            state = state.get(key, state)
    if not isinstance(state, dict):
        raise ValueError("it holds no state dict")
    tensors = {
        name: value
        for name, value in state.items()
        if isinstance(name, str) and torch.is_tensor(value)
    }
    # A tensor with steps of 0 can claim any shape over a single number.
    claimed = sum(4 * value.numel() for value in tensors.values())
    claims.check(file.path, claimed, len(file.content), file.most)
    return {name: value.float().numpy() for name, value in tensors.items()}, averaged


def _load(torch, file):
    """What a .pth file holds; weights_only runs no code of it."""
    import pickle

    try:
        return torch.load(io.BytesIO(file.content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"'{file.path}' is damaged, or holds more than tensors, which is not read "
            "for safety: save model.state_dict() alone."
        ) from error


def _contents(state, kind, target):
    """Turns a state dict into `Contents`."""
    kept = split([name for name in state if not name.endswith("num_batches_tracked")])
    values = {name: _keras_layout(state[name], inside) for name, (_, inside) in kept.items()}
    return Contents(kind, name_values(values, kept, target))


def _keras_layout(value: np.ndarray, inside: str) -> np.ndarray:
    """Kernels (O, I, H, W) -> (H, W, I, O), depthwise (C, 1, H, W) -> (H, W, C, 1)."""
    if inside == "dwconv/kernel" and value.ndim == 4:
        return value.transpose(2, 3, 0, 1)
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if value.ndim == 2:
        return value.T
    return value


# --- names ------------------------------------------------------------------------------------

_NAME = re.compile(r"(?:module\.)?(?:blocks\.(\d+)\.(\d+)\.)?(.+)\.(\w+)$")
_OUTSIDE = {
    "conv_stem": "stem_conv",
    "bn1": "stem_bn",
    "conv_head": "top_conv",
    "bn2": "top_bn",
    "classifier": "predictions",
}
_BATCH_NORM = dict(zip(("weight", "bias", "running_mean", "running_var"), names.BATCH_NORM))


def split(keys: Collection[str]) -> names.Split:
    """Splits names such as `blocks.1.0.conv_pwl.weight`."""
    others: dict[tuple, set[str]] = {}  # of each block: what a layer is depends on them
    for match in filter(None, map(_NAME.match, keys)):
        others.setdefault(match.group(1, 2), set()).add(match[3])
    return {key: _split(key, others) for key in keys}


def _split(key, others):
    match = _NAME.match(key)
    if match is None:
        return None, key
    stage, index, layer, leaf = match.groups()
    if stage is None:
        layer = _OUTSIDE.get(layer, layer)
        return None, f"{layer}/{_leaf(layer, leaf)}"
    layer = _block_layer(layer, others[stage, index])
    return (int(stage) + 1, int(index)), f"{layer}/{_leaf(layer, leaf)}"


def _block_layer(layer, others):
    """Our name of a layer in a block that has these layers."""
    expands = "conv_pwl" in others
    if re.fullmatch(r"bn\d", layer):
        found = names.batch_norms(expands, "conv_dw" in others)
        number = int(layer[2:]) - 1
        return found[number] if number < len(found) else layer
    if layer == "conv_pw" and not expands:
        return "project_conv"
    return {
        "conv_dw": "dwconv",
        "conv_exp": "expand_conv",
        "conv_pwl": "project_conv",
        "conv_pw": "expand_conv",
        "se.conv_reduce": "se/reduce",
        "se.conv_expand": "se/expand",
    }.get(layer, layer)


def _leaf(layer, leaf):
    """Our name of a layer's variable."""
    if layer.endswith("bn"):
        return _BATCH_NORM.get(leaf, leaf)
    return {"weight": "kernel"}.get(leaf, leaf)
