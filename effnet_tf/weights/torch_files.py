"""How are weights read from PyTorch's files, .safetensors and .pth?

Whose names they have is told by the names themselves; what is PyTorch's own (the layout of
kernels, the variables of a layer) is the same for all of them.
"""

import dataclasses
from collections.abc import Collection, Sequence
from types import ModuleType

import numpy as np

from effnet_tf.errors import InputError, shown
from effnet_tf.messages import log
from effnet_tf.weights import (
    claims,
    hugging_face_names,
    lukemelas_names,
    names,
    pickle_stack,
    resnet_names,
    safetensors,
    timm_config,
    timm_names,
    torch_archives,
    torchvision_names,
)
from effnet_tf.weights.contents import Contents, Target, name_values
from effnet_tf.weights.torch_tensors import Tensor

# Whose names a file may have. Names of somebody else are one new file, and its name here.
NAMINGS = (timm_names, lukemelas_names, hugging_face_names, torchvision_names, resnet_names)
_OF_TIMM = (timm_names, resnet_names)  # what lies beside these files may say more of them
_STATES = ("state_dict", "model")  # what programs that train call it in their files
_AVERAGES = ("state_dict_ema", "model_ema")

# The batch norm after each convolution that can have experts.
_NORMS = {
    "expand_conv/kernel": "expand_bn/gamma",
    "dwconv/kernel": "bn/gamma",
    "project_conv/kernel": "project_bn/gamma",
}
_BATCH_NORM = dict(zip(("weight", "bias", "running_mean", "running_var"), names.BATCH_NORM))


def recognises(file: claims.File) -> bool:
    """Whether this is a .safetensors or .pth file, by its first bytes and what it lists."""
    return safetensors.recognises(file.content) or torch_archives.recognises(file)


def read(file: claims.File, ema: bool, target: Target) -> Contents:
    """Reads a file that `recognises` knows.

    Raises:
        InputError: it holds no tensors, some of an unknown type, or no network that is
            known; or it was made to attack whoever opens it.
        ValueError: it is damaged.
    """
    if safetensors.recognises(file.content):
        return _contents(safetensors.tensors(file), file.path, ".safetensors", target)
    opened = torch_archives.open_file(file)
    tensors, averaged = _tensors(file.path, opened.value, ema)
    _say_unknown(file.path, opened.unknown)
    arrays = torch_archives.arrays(file, opened, tensors)
    contents = _contents(arrays, file.path, ".pth", target, _architecture(opened.value))
    if averaged:
        contents = dataclasses.replace(contents, ema=ema)
    return contents


def families(file: claims.File) -> tuple[str, ...]:
    """Returns the families that a file that `recognises` knows can be of; reads no numbers.

    Raises:
        InputError: as `read`.
        ValueError: it is damaged.
    """
    if safetensors.recognises(file.content):
        state, architecture = safetensors.tensors(file), ""
    else:
        saved = torch_archives.open_file(file).value
        state, architecture = _tensors(file.path, saved, True)[0], _architecture(saved)
    naming, _ = find_naming(file.path, _variables(state))
    return _families(naming, file.path, architecture)


def _say_unknown(path, unknown):
    names_of_some = shown(", ".join(unknown[:3]))
    if len(unknown) > 3:
        names_of_some += f" and {len(unknown) - 3} more"
    if unknown:
        log.info(f"{path}: only its tensors are read, not its objects of {names_of_some}.")


def _tensors(path, saved, ema):
    """Finds the tensors among what was saved: ({name: Tensor}, whether it has averages, too)."""
    state, averaged = _state_dict(path, saved, ema)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"'{path}' holds no tensors: save model.state_dict().")
    return tensors, averaged


def _state_dict(path, saved, ema):
    """Finds the state dict in what was saved: ({name: value}, whether it has averages, too)."""
    found, averages = saved, []
    if isinstance(saved, dict):
        averages = [key for key in _AVERAGES if isinstance(saved.get(key), dict)]
    if averages and ema:
        found = saved[averages[0]]
    for key in _STATES:
        if isinstance(found, dict):
            found = found.get(key, found)
    if isinstance(found, pickle_stack.Inert):
        raise InputError(
            f"'{path}' holds more than tensors, a whole object of {shown(found.name)}: save "
            "model.state_dict() alone."
        )
    if not isinstance(found, dict):
        raise InputError(f"'{path}' holds no tensors by name: save model.state_dict().")
    return found, bool(averages)


def _architecture(saved):
    """What timm's program of training says that it trained; "" if nothing does."""
    if not isinstance(saved, dict):
        return ""
    options = saved.get("args")
    if isinstance(options, pickle_stack.Inert):  # an argparse.Namespace
        options = options.entries
    if not isinstance(options, dict):
        options = {}
    said = saved.get("arch") or options.get("model")
    if not isinstance(said, str):
        return ""
    return said


# --- state dicts ------------------------------------------------------------------------------


def _contents(state, path, ending, target, architecture=""):
    """Turns a state dict into `Contents`."""
    kept = _variables(state)
    naming, prefix = find_naming(path, kept)
    kind = f"{ending} of {naming.OWNER}"
    if architecture:
        kind += f", {shown(architecture)}"
    if prefix:
        kind += f", names without '{shown(prefix)}'"
        log.info(f"{path}: variables are read without the prefix '{shown(prefix)}' of their names.")
    normalization = None
    if naming in _OF_TIMM:
        normalization = timm_config.normalization(path)
    divided = split(kept, naming, prefix)
    values = {key: _keras_layout(state[key], inside) for key, (_, inside) in divided.items()}
    values |= _experts(state, divided)
    return Contents(
        kind,
        name_values(values, divided, target),
        normalization=normalization,
        families=_families(naming, path, architecture),
    )


def _variables(state):
    return [key for key in state if not key.endswith("num_batches_tracked")]


def _families(naming, path, architecture):
    """Returns the families that a file can be of, by what it and what is beside it say."""
    if naming not in _OF_TIMM:
        return naming.FAMILIES
    said = timm_names.families(path, architecture or timm_config.architecture(path))
    return said or naming.FAMILIES


def find_naming(path: str, keys: Sequence[str]) -> tuple[ModuleType, str]:
    """Returns whose names the variables of a file have, and what stands before all of them.

    Programs that train wrap a network in modules of their own, as `model.` or `_orig_mod.`.

    Args:
        path: of the file.
        keys: the names.

    Returns:
        (one of `NAMINGS`, "" or a prefix that ends with a dot).

    Raises:
        InputError: there is no network of a known kind, or more than one.
    """
    for naming in NAMINGS:
        prefixes = sorted({match[1] for match in map(naming.ANCHOR.match, keys) if match})
        if len(prefixes) > 1:
            raise InputError(
                f"'{path}' holds several networks, below '{shown(prefixes[0])}' and "
                f"'{shown(prefixes[1])}': save one of them alone."
            )
        if prefixes:
            return naming, prefixes[0]
    if any(map(torchvision_names.OTHERS.match, keys)):
        raise InputError(
            f"'{path}' holds a network of torchvision's that is no EfficientNet-B0 to B7, such as "
            "its EfficientNetV2: effnet_tf reads that of Google, Keras and timm."
        )
    raise InputError(
        f"'{path}' holds no EfficientNet, MobileNet or ResNet-50 whose names effnet_tf knows "
        f"(those of {', '.join(naming.OWNER for naming in NAMINGS[:-1])}). "
        f"It holds {shown(', '.join(list(keys)[:3]))} ..."
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


def _experts(state, divided):
    """Returns the kernels of CondConv, (experts, numbers), in Keras' layout.

    A row is a kernel (O, I, 1, 1) or (C, 1, H, W), whose first side is that of the batch norm.
    """
    keys = {place: key for key, place in divided.items()}
    found = {}
    for (block, inside), key in keys.items():
        kernels, norm = state[key], keys.get((block, _NORMS.get(inside)))
        if norm is not None and kernels.ndim == 2:
            rows = kernels.reshape(len(kernels), len(state[norm]), -1)
            found[key] = rows.transpose(0, 2, 1).reshape(kernels.shape)
    return found


def _keras_layout(value: np.ndarray, inside: str) -> np.ndarray:
    """Kernels (O, I, H, W) -> (H, W, I, O), depthwise (C, 1, H, W) -> (H, W, C, 1), dense.T."""
    if inside == "dwconv/kernel" and value.ndim == 4:
        return value.transpose(2, 3, 0, 1)
    if inside == "top_projection/kernel" and value.shape[2:] == (1, 1):  # timm: on one pixel
        return value[:, :, 0, 0].T
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    if value.ndim == 2:
        return value.T
    return value
