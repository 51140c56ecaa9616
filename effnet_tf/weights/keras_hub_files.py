"""How are weights of keras_hub read: the folder of a preset, a .keras or a .weights.h5 file?

They are Keras' formats, with names of keras_hub's own. A preset keeps the network, its classifier
and what it does to pixels in files of their own (keras_hub/src/utils/preset_utils.py).
"""

import json
import os
import re
from collections.abc import Iterator

import h5py
import numpy as np

from effnet_tf import storage
from effnet_tf.errors import InputError
from effnet_tf.weights import claims, keras_files
from effnet_tf.weights.contents import Contents, Target, name_values

_CLASSIFIER, _PIXELS = "task.weights.h5", "preprocessor.json"  # of a preset
_MOST = 1 << 24  # bytes of a configuration
_OURS = {"dwconv_bn": "bn", "project": "project_conv"}
_LAYER = re.compile(rf"(block\d+[a-z]+_)({'|'.join(_OURS)})(?=/)")
_BLOCK = re.compile(r"block\d+[a-z]+_(dwconv_bn)?$")  # a layer, or a block of other networks


def recognises(file: claims.File) -> bool:
    """Whether this is a file of Keras' with a network of keras_hub, by what it says and lists."""
    if not keras_files.recognises(file):
        return False
    if "keras_hub>" in json.dumps(_config(file)):
        return True
    with _weights(file) as root:
        return any(map(_BLOCK.match, _layer_names(root)))


def families(file: claims.File) -> tuple[str, ...]:
    """Returns the family of a file that `recognises` knows."""
    return ("keras_hub",)


def read(file: claims.File, ema: bool, target: Target) -> Contents:
    """Reads a file that `recognises` knows; it holds one set of weights, whatever `ema` says.

    Raises:
        InputError: it is of another network than EfficientNet-B0 to B5 and Lite0.
    """
    config = _config(file)
    _check(file.path, config)
    with _weights(file) as root:
        if any(name.endswith("_") for name in filter(_BLOCK.match, _layer_names(root))):
            _refuse(file.path)
        values = keras_files.find_names(root["layers"], target)
    values |= _classifier(file, target)
    ours = {path: _LAYER.sub(_renamed, path) for path in values}
    split = keras_files.split(ours.values(), target.network)
    divided = {path: split[name] for path, name in ours.items()}
    return Contents(
        "weights of keras_hub",
        name_values(values, divided, target),
        normalization=_normalization(_converter(config) or _converter(_beside(file, _PIXELS))),
        families=families(file),
    )


def _renamed(match):
    return match[1] + _OURS[match[2]]


def _weights(file):
    """Opens the variables of a file."""
    if file.content.startswith(claims.HDF5):
        return file.h5()
    return file.h5(file.archive().read(keras_files.WEIGHTS))


def _layer_names(root) -> Iterator[str]:
    """Yields the names of the layers in a file, as far as it has them."""
    names: list[str] = []

    def visit(path, item):
        if isinstance(item, h5py.Group):
            names.append(str(item.attrs.get("name", "")))

    root.visititems(visit)
    yield from names


def _classifier(file, target):
    """Returns {Keras path: array} of what a preset has beside its network."""
    path = os.path.join(os.path.dirname(file.path), _CLASSIFIER)
    if os.path.basename(file.path) != keras_files.WEIGHTS or not storage.exists(path):
        return {}
    beside = claims.File(path, storage.read_bytes(path, file.most), file.most)
    with beside.h5() as root:
        return keras_files.find_names(root["layers"], target)


# --- configurations ---------------------------------------------------------------------------


def _config(file):
    """Returns the configuration of a file's model: in its archive, or beside a preset's weights."""
    if not file.content.startswith(claims.HDF5):
        return json.loads(file.archive().read("config.json"))
    if os.path.basename(file.path) == keras_files.WEIGHTS:
        return _beside(file, "config.json")
    return None


def _beside(file, name):
    path = os.path.join(os.path.dirname(file.path), name)
    if not storage.exists(path):
        return None
    return json.loads(storage.read_bytes(path, _MOST))


def _settings(config, kind) -> dict | None:
    """Returns the settings of the first object of a class whose name ends so."""
    if isinstance(config, list):
        config = dict(enumerate(config))
    if not isinstance(config, dict):
        return None
    if str(config.get("class_name")).endswith(kind):
        return config["config"]
    found = (_settings(each, kind) for each in config.values())
    return next((each for each in found if each is not None), None)


def _check(path, config):
    """Refuses a network that a row of the family does not describe."""
    backbone = _settings(config, "EfficientNetBackbone")
    if backbone is None:
        return
    kinds = set(backbone["stackwise_block_types"])
    padding = backbone["include_stem_padding"], backbone["stem_conv_padding"]
    if kinds != {"v1"} or padding != (True, "valid") or backbone["batch_norm_epsilon"] != 1e-5:
        _refuse(path)


def _refuse(path):
    raise InputError(
        f"'{path}' holds a network of keras_hub's that is no EfficientNet-B0 to B5 or Lite0 of its "
        "presets, but EfficientNetV2, EdgeTPU, or one of other padding: effnet_tf does not read it."
    )


def _converter(config):
    return _settings(config, "EfficientNetImageConverter")


def _normalization(converter):
    """Returns (mean, std) of what a converter does, x * scale + offset; None if nothing says it."""
    if converter is None or converter.get("scale") is None:
        return None
    std = 1 / np.atleast_1d(np.asarray(converter["scale"], float))
    offset = converter.get("offset")
    if offset is None:
        offset = 0.0
    return -np.atleast_1d(np.asarray(offset, float)) * std, std
