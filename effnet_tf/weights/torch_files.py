"""How are weights read from PyTorch's files, .safetensors and .pth?

Whose names they have is told by the names themselves; what is PyTorch's own (the layout of
kernels, the variables of a layer) is the same for all of them.
"""

import dataclasses
import io
import re
from collections.abc import Collection, Sequence
from types import ModuleType

import numpy as np

from effnet_tf import extras
from effnet_tf.errors import InputError
from effnet_tf.messages import log
from effnet_tf.weights import (
    claims,
    hugging_face_names,
    lukemelas_names,
    names,
    safetensors,
    timm_config,
    timm_names,
)
from effnet_tf.weights.contents import Contents, Target, name_values

# Whose names a file may have. Names of somebody else are one new file, and its name here.
NAMINGS = (timm_names, lukemelas_names, hugging_face_names)
PACKAGES = {".pth": "torch", ".pt": "torch"}  # by its ending

_TORCHVISION = re.compile(r"(?:.*\.)?features\.\d+\.\d+\.block\.\d+\.")
_PICKLE = b"\x80\x02"  # a .pth of PyTorch before 1.6
_BATCH_NORM = dict(zip(("weight", "bias", "running_mean", "running_var"), names.BATCH_NORM))


def recognises(file: claims.File) -> bool:
    """Whether this is a .safetensors or .pth file, by its first bytes and what it lists."""
    if file.content.startswith(claims.ZIP):
        return any(name.endswith("/data.pkl") for name in file.archive().namelist())
    return safetensors.recognises(file.content) or file.content.startswith(_PICKLE)


def read(file: claims.File, ema: bool, target: Target) -> Contents:
    """Reads a file that `recognises` knows.

    Raises:
        MissingPackage: PyTorch is not installed, and it is a .pth file.
        InputError: it holds more than tensors, tensors of an unknown type, or no EfficientNet
            that is known.
        ValueError: it is damaged.
    """
    if safetensors.recognises(file.content):
        return _contents(safetensors.tensors(file), file.path, ".safetensors", target)
    state, averaged = _unpickled(file, ema)
    contents = _contents(state, file.path, ".pth", target)
    if averaged:
        contents = dataclasses.replace(contents, ema=ema)
    return contents


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


# --- state dicts ------------------------------------------------------------------------------


def _contents(state, path, ending, target):
    """Turns a state dict into `Contents`."""
    kept = [key for key in state if not key.endswith("num_batches_tracked")]
    naming, prefix = find_naming(path, kept)
    kind = f"{ending} of {naming.OWNER}"
    if prefix:
        kind += f", names without '{prefix}'"
        log.info(f"{path}: variables are read without the prefix '{prefix}' of their names.")
    normalization = timm_config.normalization(path) if naming is timm_names else None
    divided = split(kept, naming, prefix)
    values = {key: _keras_layout(state[key], inside) for key, (_, inside) in divided.items()}
    return Contents(kind, name_values(values, divided, target), normalization=normalization)


def find_naming(path: str, keys: Sequence[str]) -> tuple[ModuleType, str]:
    """Returns whose names the variables of a file have, and what stands before all of them.

    Programs that train wrap a network in modules of their own, as `model.` or `_orig_mod.`.

    Args:
        path: of the file.
        keys: the names.

    Returns:
        (one of `NAMINGS`, "" or a prefix that ends with a dot).

    Raises:
        InputError: there is no EfficientNet of a known kind, or more than one.
    """
    for naming in NAMINGS:
        prefixes = sorted({match[1] for match in map(naming.ANCHOR.match, keys) if match})
        if len(prefixes) > 1:
            raise InputError(
                f"'{path}' holds several networks, below '{prefixes[0]}' and '{prefixes[1]}': save "
                "one of them alone."
            )
        if prefixes:
            return naming, prefixes[0]
    if any(map(_TORCHVISION.match, keys)):
        raise InputError(
            f"'{path}' holds a network of torchvision, which pads images differently: weights "
            "trained that way do not fit here."
        )
    raise InputError(
        f"'{path}' holds no EfficientNet whose names effnet_tf knows (those of "
        f"{', '.join(naming.OWNER for naming in NAMINGS)}). "
        f"It holds {', '.join(list(keys)[:3])} ..."
    )


def split(keys: Collection[str], naming: ModuleType, prefix: str = "") -> names.Split:
    """Splits names of variables such as `model.blocks.1.0.conv_pwl.weight`.

    Args:
        keys: the names.
        naming: whose names they are, one of `NAMINGS`.
        prefix: what stands before them; what is not below it is not part of the network.
    """
    inner = {
        key: key.removeprefix(prefix).rpartition(".") for key in keys if _is_below(key, prefix)
    }
    layers = naming.split({layer for layer, _, _ in inner.values()})
    found: dict = {}
    for key in keys:
        found[key] = (None, key)
        if key in inner:
            layer, _, leaf = inner[key]
            block, ours = layers[layer]
            found[key] = (block, f"{ours}/{_leaf(ours, leaf)}")
    return found


def _is_below(key, prefix):
    return key.startswith(prefix) and "." in key.removeprefix(prefix)


def _leaf(layer, leaf):
    """Our name of a layer's variable."""
    if layer.endswith("bn"):
        return _BATCH_NORM.get(leaf, leaf)
    return {"weight": "kernel"}.get(leaf, leaf)


def _keras_layout(value: np.ndarray, inside: str) -> np.ndarray:
    """Kernels (O, I, H, W) -> (H, W, I, O), depthwise (C, 1, H, W) -> (H, W, C, 1)."""
    if inside == "dwconv/kernel" and value.ndim == 4:
        return value.transpose(2, 3, 0, 1)
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if value.ndim == 2:
        return value.T
    return value
