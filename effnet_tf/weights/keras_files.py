"""How does Keras store weights, and what does it call the variables of an EfficientNet?

Legacy .h5, .weights.h5 and .keras files of Keras 2 and 3: of keras.applications, of tf_keras,
and of this package. Only data is read: nothing in a file is deserialised, so nothing of it runs.
"""

import json
import re
from collections.abc import Iterable, Iterator

import h5py
import numpy as np

from effnet_tf import variants
from effnet_tf.weights import claims, keras_application_names, keras_families, keras_pixels, names
from effnet_tf.weights.contents import Contents, Target, name_values

_STEM = "stem_conv/kernel"  # canonically
WEIGHTS = "model.weights.h5"  # of a .keras archive


def recognises(file: claims.File) -> bool:
    """Whether this is a file of Keras', by its first bytes and what it lists."""
    if file.content.startswith(claims.ZIP):
        return WEIGHTS in file.archive().namelist()
    return file.content.startswith(claims.HDF5)


def read(file: claims.File, ema: bool, target: Target) -> Contents:
    """Reads a file that `recognises` knows; it holds one set of weights, whatever `ema` says."""
    if file.content.startswith(claims.HDF5):
        return _read(file.h5(), target)
    archive = file.archive()
    config = json.loads(archive.read("config.json"))
    return _read(file.h5(archive.read(WEIGHTS)), target, config, ".keras file")


def families(file: claims.File) -> tuple[str, ...]:
    """Returns the families that a file can be of; () if it does not say it."""
    if file.content.startswith(claims.HDF5):
        with file.h5() as root:
            return keras_families.families(_config_of(root))
    return keras_families.families(json.loads(file.archive().read("config.json")))


def _config_of(root):
    """Returns the configuration that a legacy file holds, if it does."""
    if "model_config" in root.attrs:
        return json.loads(root.attrs["model_config"])
    return None


def _read(root, target, config=None, kind="Keras .weights.h5"):
    with root:
        if "layers" in root:
            values = find_names(root["layers"], target)
        else:
            kind = "legacy Keras .h5"
            values = _legacy_variables(root.get("model_weights", root))
            config = _config_of(root)
    divided = keras_application_names.split(list(values))
    if divided is None:
        divided = _with_classifier(split(values, target.network))
    else:
        values = keras_application_names.ours(divided, values)
    stem = next((path for path, (_, name) in divided.items() if name == _STEM), "")
    scaling, network = {}, keras_pixels.scaling_layers(config, _layer(stem))
    for path, (layer, leaf) in _scaling(values, stem).items():
        scaling.setdefault(layer, {})[leaf] = values[path]
        if network is None or layer in network:  # else the user's, for a table
            del values[path]
    return Contents(
        kind,
        name_values(values, divided, target),
        normalization=keras_pixels.normalization(scaling, config, _layer(stem)),
        families=keras_families.families(config),
    )


def _layer(stem):
    """The name of the layer of the first convolution, by the path of its kernel."""
    return stem.rpartition("/")[0].rpartition("/")[2] or "stem_conv"


# --- names ------------------------------------------------------------------------------------


def split(paths: Iterable[str], network: tuple[str, str] | None = None) -> names.Split:
    """Splits paths such as `block2a/se/reduce/kernel` or `block2a_bn/block2a_bn/gamma:0`.

    Args:
        paths: of the variables of a file, or of a model.
        network: what stands before and behind the names of the network that is wanted if
            there are several; the others' variables are left as they are called then.
    """
    layers = {path: path.rpartition("/")[0] for path in paths}
    places = variants.places_of(layers.values())
    several = any(place.network == network for place in places.values())
    found = {}
    for path, layer in layers.items():
        place = places.get(layer)
        if place is not None and several and place.network != network:
            found[path] = None, f"other/{path}"
        else:
            found[path] = _split(path, place)
    return found


def _split(path, place):
    if place is None:
        return None, path
    leaf = path.rpartition("/")[2].split(":")[0].replace("depthwise_kernel", "kernel")
    block = None
    if place.stage is not None:
        block = place.stage, place.index
    return block, f"{place.layer}/{leaf}"


def _with_classifier(divided):
    """Understands the classifier of qubvel/efficientnet, which is called "probs" there."""
    if any(inside.startswith("predictions/") for _, inside in divided.values()):
        return divided
    found = {}
    for path, (block, inside) in divided.items():
        match = re.search(r"(?:^|/)probs/(kernel|bias)(?::0)?$", path)
        if match:
            inside = f"predictions/{match[1]}"
        found[path] = block, inside
    return found


class Nameless:
    """Finds layers by number where a file has no names (tf_keras, early Keras 3).

    There the layers of each class are numbered in their order, which is the model's.

    Args:
        layers: canonical names of the model's layers, in order.

    Attributes:
        asked: whether anything was looked up.
    """

    def __init__(self, layers: Iterable[str]) -> None:
        self.layers: dict[str, list[str]] = {}
        self.asked = False
        for layer in layers:
            self.layers.setdefault(_class_of(layer), []).append(layer)

    def find(self, name: str) -> str:
        """Returns the Keras path of the layer called, for example, `conv2d_3`."""
        self.asked = True
        kind, number = name, 0
        beginning, _, digits = name.rpartition("_")
        if digits.isdigit():
            kind, number = beginning, int(digits)
        known = self.layers.get(kind, [])
        if number >= len(known):
            return name
        # As a Keras path, of whose blocks each is a stage.
        return re.sub(r"blocks_(\d+)", lambda block: f"block{int(block[1]) + 1}a", known[number])


def _class_of(layer):
    """What Keras calls a nameless layer, by our name of it."""
    name = layer.rpartition("/")[2]
    if name.endswith("bn"):
        return "batch_normalization"
    if name in ("predictions", "top_projection"):
        return "dense"
    return {"dwconv": "depthwise_conv2d"}.get(name, "conv2d")


# --- variables --------------------------------------------------------------------------------


def find_names(group: h5py.Group, target: Target) -> dict[str, np.ndarray]:
    """Returns {Keras path: array} of what is below a group of Keras 3's layout.

    Args:
        group: the layers of a model.
        target: numbers its layers, where the file has no names.
    """
    nameless = Nameless(target.layers)
    values = dict(_variables(group, nameless))
    if not nameless.asked or _fits_a_variant(values):
        return values
    for variant in variants.VARIANTS:
        others = dict(_variables(group, Nameless(names.layers(variant))))
        if _fits_a_variant(others):
            return others
    return values


def _fits_a_variant(values):
    canonical = names.canonical(split(values))
    return names.identify({canonical[name]: value.shape for name, value in values.items()})


def _variables(group, nameless, path="") -> Iterator[tuple[str, np.ndarray]]:
    """Yields (Keras path, array) of every variable below a group of Keras 3's layout."""
    if "vars" in group:
        variables, own = group["vars"], group.name.rpartition("/")[2]
        path = f"{path}/{variables.attrs.get('name') or nameless.find(own)}".lstrip("/")
        for key, value in variables.items():
            yield f"{path}/{_leaf(path, own, key)}", value[()]
    for key, child in group.items():
        if key != "vars":
            yield from _variables(child, nameless, path)


def _leaf(layer, kind, key):
    """The name of a layer's variable, which Keras 3 numbers."""
    leaves = _leaves(layer.rpartition("/")[2], kind)
    if not key.isdigit() or int(key) >= len(leaves):
        return key
    return leaves[int(key)]


def _leaves(layer, kind):
    """What the variables of a layer are called, by its name and what Keras calls its kind."""
    if layer.endswith("bn") or re.match(r"batch_norm(alization)?(_\d+)?$", kind):
        return names.BATCH_NORM
    if re.search(r"(?<!batch_)(?<!layer_)(?<!group_)normalization", layer):
        return "mean", "variance", "count"
    if re.match(r"normalization(_\d+)?$", kind):
        return "mean", "variance", "count"
    return "kernel", "bias"


def _legacy_variables(root):
    """Returns {Keras path: array} of Keras 2's layout: layer/layer/kernel:0, and so on."""
    values = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer_weights/"):
            values[name] = item[()]

    root.visititems(visit)
    return values


def _scaling(values, stem):
    """Finds {path: (layer, leaf)} of each Normalization, or Normalize, beside stem_conv."""
    beside = re.escape(re.match(r"(.*?)[^/]*stem_conv|", stem)[1] or "")
    pattern = re.compile(rf"{beside}([^/]+)/(?:[^/]+/)?(mean|variance|std|count)(?::0)?")
    found = {path: pattern.fullmatch(path) for path in values}
    return {path: match.groups() for path, match in found.items() if match}
