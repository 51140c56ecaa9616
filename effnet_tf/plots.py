"""Which pictures does a run leave for people to look at?

matplotlib is optional (`pip install effnet_tf[demo]`); without it a sentence says
what was not drawn.
"""

import functools

import tensorflow as tf


@functools.cache
def _say_once(text):
    print(text)


def _figure(path, columns, rows, size):
    """Returns (figure, flat list of axes), or None without matplotlib."""
    try:
        from matplotlib import figure
    except ImportError:
        _say_once(f"{path} is not drawn: matplotlib is not installed (pip install matplotlib).")
        return None
    canvas = figure.Figure(figsize=size, layout="constrained")
    return canvas, list(canvas.subplots(rows, columns, squeeze=False).flat)


def _save(canvas, path):
    """Writes a PNG whole or not at all, local or gs://."""
    temporary = f"{path}.tmp"
    with tf.io.gfile.GFile(temporary, "wb") as file:
        canvas.savefig(file, format="png", dpi=110)
    tf.io.gfile.rename(temporary, path, overwrite=True)


def learning_curve(history, path):
    """Draws loss and accuracy over epochs.

    Args:
        history: list of dicts, the rows of metrics.jsonl.
        path: of the PNG file.
    """
    drawn = _figure(path, 2, 1, (9, 3.6))
    if drawn is None:
        return
    canvas, (loss, accuracy) = drawn
    epochs = [row["epoch"] for row in history]
    marker = "o" if len(epochs) == 1 else None
    series = (("train", "training images", "C7"), ("raw", "held-out, raw weights", "C1"),
              ("ema", "held-out, averaged weights", "C0"))
    for key, label, colour in series:
        for axes, what in ((loss, "loss"), (accuracy, "accuracy")):
            name = f"train_{what}" if key == "train" else f"eval_{what}_{key}"
            if name in history[-1]:
                scale = 100 if what == "accuracy" else 1
                axes.plot(epochs, [scale * row[name] for row in history], colour, label=label,
                          marker=marker)
    loss.set(xlabel="epoch", ylabel="cross-entropy (training: smoothed labels)",
             yscale="log")
    accuracy.set(xlabel="epoch", ylabel="accuracy (%)", ylim=(None, 101),
                 title=f"{100 * history[-1]['eval_accuracy']:.2f} % of "
                       f"{history[-1]['eval_images']:,} held-out images right")
    for axes in (loss, accuracy):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    _save(canvas, path)


def predictions(images, captions, right, path):
    """Draws images with what was predicted, wrong ones in red.

    Args:
        images: list of (H, W, 3) uint8 arrays.
        captions: list of strings, one per image.
        right: list of True, False, or None where the truth is not known.
        path: of the PNG file.
    """
    columns = min(len(images), 6)
    rows = -(-len(images) // columns)
    drawn = _figure(path, columns, rows, (1.7 * columns, 2.0 * rows))
    if drawn is None:
        return
    canvas, axes = drawn
    for axis in axes:
        axis.set_axis_off()
    for axis, image, caption, is_right in zip(axes, images, captions, right):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(caption, fontsize=9, color="C3" if is_right is False else "black")
    _save(canvas, path)


def layer_errors(layers, before, path):
    """Draws the SQNR of every operator of an int8 file, from input to output.

    Args:
        layers: {operator, such as "block2a_dwconv/BiasAdd": SQNR of its result in dB}.
        before: the same without equalisation, or empty.
        path: of the PNG file.

    Returns:
        Whether it was drawn: matplotlib is optional.
    """
    drawn = _figure(path, 1, 1, (11, 4.8))
    if drawn is None:
        return False
    canvas, (axes,) = drawn
    names, values = list(layers), list(layers.values())
    if before:
        axes.plot([before.get(name) for name in names], "C1", label="without equalisation", lw=1)
    axes.plot(values, "C0", label="as written", lw=1.4)
    worst = sorted(range(len(names)), key=values.__getitem__)[:10]
    axes.plot(worst, [values[number] for number in worst], "C3o", ms=4, label="ten worst")
    blocks = [name.split("/")[0].split("_")[0] for name in names]
    starts = [number for number, block in enumerate(blocks) if block not in blocks[:number]]
    axes.set_xticks(starts, [blocks[number] for number in starts], rotation=60, ha="right",
                    fontsize=8)
    axes.set(ylabel="SQNR of an operator's result (dB)",
             title="int8 against float32, from the pixels to the logits: higher is better")
    axes.margins(x=0.01)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    _save(canvas, path)
    return True
