"""Which blocks of a network lose most by their 8-bit numbers?

Told by simulation: with one block at a time restored to float, how much less noise is left in the
logits? That is what `keep_float` with this block gains.
"""

import numpy as np

from effnet_tf import isolated, progress
from effnet_tf.export.report import FLOAT_DB
from effnet_tf.export.tflite import integers, measuring, simulating
from effnet_tf.export.tflite.options import TARGET_SQNR

RUNS = 256  # of a network, for all blocks together: about half of what calibration takes
LEAST, MOST = 4, 16  # images


def gains(
    floats: bytes,
    file: bytes,
    images: np.ndarray,
    *,
    enough: float = TARGET_SQNR,
    shown: bool = True,
) -> dict[str, float]:
    """Returns {block: dB that the logits gain when it is in float}, the most costly first.

    Empty where the logits have enough, so that no block is to be blamed.

    Args:
        floats: the bytes of the float32 .tflite file that the other was made of.
        file: the bytes of a "weights8", "int8" or "int16x8" one.
        images: (N, H, W, C), some of which are used.
        enough: SQNR of the logits in dB.
        shown: whether a person is told how far it is.
    """
    blocks = integers.blocks(floats)
    images = images[: min(max(RUNS // len(blocks), LEAST), MOST)]
    exact = measuring.logits_of(floats, images)

    def left(restored=()):
        simulation = simulating.simulated(floats, file, restored)
        return min(float(measuring.sqnr(exact, measuring.logits_of(simulation, images))), FLOAT_DB)

    whole = left()
    if not whole < enough:
        return {}
    found = {}
    terminal = isolated.progress.terminal
    with progress.bar("Costs of blocks", len(blocks), file=terminal, shown=shown) as bar:
        for block, names in blocks.items():
            found[block] = round(left(names) - whole, 2)
            bar.update(1)
    return dict(sorted(found.items(), key=lambda each: -each[1]))
