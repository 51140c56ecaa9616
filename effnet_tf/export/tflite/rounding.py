"""To which multiples of its channel's step is each 8-bit weight rounded?

To the nearest, as every converter does; or so that the errors of a kernel's taps cancel on what
the taps really see: neighbouring pixels, say, which are nearly equal. Tap after tap takes up the
error that those before it have left (GPTQ: Frantar et al., arXiv 2210.17323; as written here, the
nearest-plane walk through a lattice, which gives the same integers).

Either way, the largest weight of a channel is 127 of its steps. So whoever rounds such a kernel
again, as TensorFlow's converter will, finds the same steps and changes nothing.
"""

import numpy as np

from effnet_tf.export.tflite import flatbuffer

LARGEST = 127  # steps, of the 8-bit weights in TFLite's specification: symmetric
DAMPING = 0.01  # of the mean variance, added to each; what GPTQ's authors use
_BLOCK = 64  # taps whose errors are handed on by one product of matrices


def nearest(weights: np.ndarray) -> np.ndarray:
    """Returns weights (..., T) rounded as TFLite's converter does: float32, the same shape.

    Args:
        weights: one row of T taps for each output channel.
    """
    scale, values = flatbuffer.quantize_weights(weights.reshape(-1, weights.shape[-1]), axis=0)
    return (values * scale[:, np.newaxis]).astype("float32").reshape(weights.shape)


def compensated(weights: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Returns weights rounded so that little of the errors is left in the outputs.

    Args:
        weights: (G, F, T), G groups of F output channels that see the same T taps.
        covariance: (G, T, T) of what these taps see, or its second moments, where no bias can
            take up a mean error. It may be singular, or all zeros: that rounds to the nearest.

    Returns:
        float32 (G, F, T), multiples of the steps that `nearest` would use.
    """
    scale = flatbuffer.quantize_weights(weights.reshape(-1, weights.shape[-1]), axis=0)[0]
    scale = scale.reshape(*weights.shape[:2], 1)
    order = np.argsort(np.diagonal(covariance, axis1=1, axis2=2), axis=1, kind="stable")
    rows = order[:, np.newaxis, :]
    factor = np.linalg.cholesky(_damped(_reordered(covariance, order)))
    walked = _walk(np.take_along_axis(weights / scale, rows, 2), factor)
    found = np.empty_like(walked)
    np.put_along_axis(found, np.broadcast_to(rows, walked.shape), walked, 2)
    return (found * scale).astype("float32")


def _reordered(matrices, order):
    """Returns (G, T, T) matrices with rows and columns in an order, (G, T)."""
    rows = np.take_along_axis(matrices, order[:, :, np.newaxis], 1)
    return np.take_along_axis(rows, order[:, np.newaxis, :], 2)


def _damped(covariance):
    """Returns covariances that have a Cholesky factor; those of what is constant become 1."""
    taps = covariance.shape[-1]
    variance = np.trace(covariance, axis1=1, axis2=2) / taps
    added = np.where(variance > 0, DAMPING * variance, 1)
    return covariance + added[:, np.newaxis, np.newaxis] * np.eye(taps)


def _walk(weights, factor):
    """Returns integers for weights (G, F, T) in steps, from the last tap to the first.

    With errors e and covariance L L', the outputs' error is the square of e L. Column t of it
    has the errors of tap t and of those after it, which are known when t is chosen.

    Args:
        weights: in steps.
        factor: (G, T, T), the lower Cholesky factor L of the covariance.
    """
    taps = weights.shape[-1]
    is_largest = np.abs(weights) > LARGEST - 1e-3
    integers, errors, left = np.rint(weights), np.zeros_like(weights), np.zeros_like(weights)
    for end in range(taps, 0, -_BLOCK):
        begin = max(end - _BLOCK, 0)
        for tap in range(end - 1, begin - 1, -1):
            column = factor[:, tap + 1 : end, tap, np.newaxis]
            known = left[:, :, tap] + (errors[:, :, tap + 1 : end] @ column)[:, :, 0]
            target = weights[:, :, tap] + known / factor[:, tap, tap, np.newaxis]
            rounded = np.clip(np.rint(target), -LARGEST, LARGEST)
            integers[:, :, tap] = np.where(is_largest[:, :, tap], integers[:, :, tap], rounded)
            errors[:, :, tap] = weights[:, :, tap] - integers[:, :, tap]
        left[:, :, :begin] += errors[:, :, begin:end] @ factor[:, begin:end, :begin]
    return integers
