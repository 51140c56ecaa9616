"""What does the config.json that timm saves beside its weights say of them?"""

import json
import os

import numpy as np

from effnet_tf import storage
from effnet_tf.errors import InputError, shown

_MOST = 1 << 20  # bytes


def normalization(weights: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the (mean, std), on pixels in [0, 255], of the network that a file belongs to.

    Args:
        weights: path of the file of weights.

    Returns:
        One number per channel; None if nothing beside the file says it.

    Raises:
        InputError: see `refuse_own`.
    """
    config = _read(os.path.join(os.path.dirname(weights), "config.json"))
    refuse_own(weights, config.get("architecture"))
    pixels = config.get("pretrained_cfg", config)
    if not isinstance(pixels, dict) or not {"mean", "std"} <= pixels.keys():
        return None
    mean, std = (np.asarray(pixels[name], float) for name in ("mean", "std"))
    if mean.shape != (3,) or std.shape != (3,):
        return None
    return 255 * mean, 255 * std


def refuse_own(weights: str, architecture: object) -> None:
    """Refuses weights of timm's own networks, without `tf_`.

    They look alike but pad symmetrically, with an epsilon of 1e-5, and would compute something
    else here.

    Args:
        weights: path of their file.
        architecture: what the file, or one beside it, says that they are of, if anything.

    Raises:
        InputError: they are.
    """
    if isinstance(architecture, str) and architecture.startswith("efficientnet_"):
        raise InputError(
            f"'{weights}' holds weights of timm's {shown(architecture)}, which pads images "
            "differently from the tf_efficientnet models: they do not fit here. Use weights of one "
            "of those."
        )


def _read(path):
    """Returns what a configuration holds; nothing if there is none."""
    if not storage.exists(path):
        return {}
    try:
        config = json.loads(storage.read_bytes(path, _MOST))
    except (ValueError, RecursionError):  # of something else
        return {}
    if not isinstance(config, dict):
        return {}
    return config
