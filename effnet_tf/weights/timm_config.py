"""What does the config.json that timm saves beside its weights say of them?"""

import json
import os

import numpy as np

from effnet_tf import storage

_MOST = 1 << 20  # bytes


def normalization(weights: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the (mean, std), on pixels in [0, 255], of the network that a file belongs to.

    Args:
        weights: path of the file of weights.

    Returns:
        One number per channel; None if nothing beside the file says it.
    """
    config = _beside(weights)
    pixels = config.get("pretrained_cfg", config)
    if not isinstance(pixels, dict) or not {"mean", "std"} <= pixels.keys():
        return None
    mean, std = (np.asarray(pixels[name], float) for name in ("mean", "std"))
    if mean.shape != (3,) or std.shape != (3,):
        return None
    return 255 * mean, 255 * std


def architecture(weights: str) -> object:
    """Returns what says of a file, beside it, which network its weights are of, if anything."""
    return _beside(weights).get("architecture")


def _beside(weights):
    """Returns what a configuration beside a file holds; nothing if there is none."""
    path = os.path.join(os.path.dirname(weights), "config.json")
    if not storage.exists(path):
        return {}
    try:
        config = json.loads(storage.read_bytes(path, _MOST))
    except (ValueError, RecursionError):  # of something else
        return {}
    if not isinstance(config, dict):
        return {}
    return config
