"""Pictures that have any number of names: coloured stripes, and a table of their colours."""

import numpy as np
import tensorflow as tf

NAMES = ("blue", "green", "red")
_CHANNELS = {"red": 0, "green": 1, "blue": 2}


def write(root, count=24, side=32, separator="|"):
    """Writes pictures and labels.csv below a folder; returns the path of the table.

    Picture n has those of NAMES whose bit is in n: none, each alone, all pairs, all three.
    """
    root.mkdir(parents=True, exist_ok=True)
    random, lines = np.random.default_rng(0), ["path,labels"]
    for number in range(count):
        pixels = random.integers(0, 60, (side, side, 3)).astype("uint8")
        chosen = [name for bit, name in enumerate(NAMES) if number >> bit & 1]
        for name in chosen:
            top = random.integers(0, side - 12)
            pixels[top : top + 12, :, _CHANNELS[name]] = 250
        (root / f"{number}.png").write_bytes(tf.io.encode_png(pixels).numpy())
        lines.append(f"{number}.png,{separator.join(chosen)}")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return str(root / "labels.csv")
