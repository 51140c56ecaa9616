"""Which pictures does a run leave for people to look at?

matplotlib is optional: without it a sentence says that nothing is drawn. Nor does a picture
that cannot be drawn end a run of hours; a disk that takes no file is an error as everywhere.
"""

import functools
import io
import textwrap
import types
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from effnet_tf import extras, storage
from effnet_tf.errors import first_line, printable
from effnet_tf.messages import log

MOST = 120  # images in one picture; of 1,000 matplotlib makes none
COLUMNS = 6
CAPTION = dict(width=24, max_lines=3, placeholder=" ...")  # characters that fit over an image


@functools.cache
def _say_once(text):
    log.info(text)


def require(purpose: str) -> None:
    """Refuses at the door what is wanted for its picture alone.

    Raises:
        extras.MissingPackage: matplotlib is not installed, or broken.
    """
    extras.load("matplotlib.figure", purpose)


def picture(
    path: str, draw: Callable[[Any, list], None], columns: int, rows: int, size: tuple[float, float]
) -> bool:
    """Draws a picture and writes it as a PNG; says why if it cannot be drawn.

    Args:
        path: of the PNG file.
        draw: function of (canvas, axes), a figure of matplotlib's and a list of its axes.
        columns: of the axes.
        rows: of the axes.
        size: width and height in inches.

    Returns:
        Whether it was drawn.
    """
    try:
        figure = extras.load("matplotlib.figure", "Drawing pictures")
    except extras.MissingPackage as error:
        _say_once(f"{error}. Everything else continues without them.")
        return False
    content = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # one for each character that the font has not
            canvas = figure.Figure(figsize=size, layout="constrained")
            draw(canvas, list(canvas.subplots(rows, columns, squeeze=False).flat))
            canvas.savefig(content, format="png", dpi=110)
    except Exception as error:  # of fonts, layouts and sizes, of any kind
        log.info(f"'{path}' could not be drawn ({first_line(error)}). Everything else continues.")
        return False
    storage.write_bytes(path, content.getvalue())
    return True


def _wrapped(text):
    """Returns somebody's text as lines that fit; nothing in it is read as a command."""
    return "\n".join(textwrap.wrap(printable(text), **CAPTION))


# Of a text: "$\frac{$" is no formula, and goes to no LaTeX, whatever matplotlibrc says.
_PLAIN = dict(parse_math=False, usetex=False)


def learning_curve(
    history: list, path: str, marks: Mapping[float, str] = types.MappingProxyType({})
) -> bool:
    """Draws loss and accuracy over epochs.

    Args:
        history: list of dicts, the rows of metrics.jsonl.
        path: of the PNG file.
        marks: {epochs made: what changed there}, each a vertical line.

    Returns:
        Whether it was drawn.
    """
    return picture(path, functools.partial(_learning_curve, history, marks), 2, 1, (9, 3.6))


def _learning_curve(history, marks, canvas, axes):
    loss, accuracy = axes
    measure, title = "accuracy", "{:.2f} % of {:,} held-out images right"
    if "eval_map" in history[-1]:  # an image may have several names
        measure, title = "map", "mAP {:.2f} % of {:,} held-out images"
    for name, label, colour in (
        ("train_{}", "training images", "C7"),
        ("eval_{}_raw", "held-out, raw weights", "C1"),
        ("eval_{}_ema", "held-out, averaged weights", "C0"),
    ):
        _plot(loss, history, name.format("loss"), 1, label, colour)
        _plot(accuracy, history, name.format(measure), 100, label, colour)
    loss.set(xlabel="epoch", ylabel="cross-entropy (training: smoothed labels)", yscale="log")
    accuracy.set(
        xlabel="epoch",
        ylabel=f"{measure.replace('map', 'mAP')} (%)",
        ylim=(None, 101),
        title=title.format(100 * history[-1][f"eval_{measure}"], history[-1]["eval_images"]),
    )
    for side in axes:
        side.grid(alpha=0.3)
        side.legend(frameon=False)
        for epochs, text in marks.items():
            _mark(side, epochs, text)


def _mark(side, epochs, text):
    """Draws a vertical line, with what changed there beside its foot."""
    side.axvline(epochs, color="C3", linestyle=":")
    side.text(
        epochs,
        0.02,
        f" {_wrapped(text)}",
        transform=side.get_xaxis_transform(),
        fontsize=7,
        color="C3",
        **_PLAIN,
    )


def _plot(side, history, name, scale, label, colour):
    """Draws a number of every epoch, if the last one has it."""
    if name in history[-1]:
        epochs = [row["epoch"] for row in history]
        marker = None
        if len(epochs) == 1:
            marker = "o"  # a line of one point cannot be seen
        values = [scale * row[name] for row in history]
        side.plot(epochs, values, colour, label=label, marker=marker)


def rate_sweep(
    rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, suggested: float | None, path: str
) -> bool:
    """Draws the loss over the learning rate of a sweep.

    Args:
        rates: (n,), per 256 images.
        losses: (n,), of the step with each rate.
        smoothed: (n,), the same, smoothed.
        suggested: the rate to mark, or None.
        path: of the PNG file.

    Returns:
        Whether it was drawn.
    """
    draw = functools.partial(_rate_sweep, rates, losses, smoothed, suggested)
    return picture(path, draw, 1, 1, (7, 4))


def _rate_sweep(rates, losses, smoothed, suggested, canvas, axes):
    (axis,) = axes
    axis.plot(rates, losses, "C7.", ms=3, label="each step")
    axis.plot(rates, smoothed, "C0", label="mean of nine")
    if suggested is not None:
        axis.axvline(suggested, color="C3", linestyle="--", label=f"suggested: {suggested:g}")
    axis.set(
        xscale="log",
        xlabel="base_learning_rate (per 256 images)",
        ylabel="training loss",
        title="Loss while the rate rises with every step",
    )
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)


def predictions(
    images: list, captions: list, right: list, path: str, columns: int = COLUMNS, width: float = 1.7
) -> bool:
    """Draws images with what was predicted, wrong ones in red; the first 120 of more.

    Args:
        images: list of (H, W, C) uint8 arrays.
        captions: list of strings, one per image; they may hold anything.
        right: list of True, False, or None where the truth is not known.
        path: of the PNG file.
        columns: images in a row.
        width: of each, in inches.

    Returns:
        Whether it was drawn.
    """
    if len(images) > MOST:
        log.info(f"'{path}' shows the first {MOST} of {len(images):,} images.")
    count = min(len(images), MOST)
    columns = min(count, columns)
    if not count:
        return False
    rows = -(-count // columns)
    draw = functools.partial(_predictions, images[:count], captions, right)
    size = (width * columns, (width + 0.3) * rows)  # captions have 0.3 inches
    return picture(path, draw, columns, rows, size)


def _predictions(images, captions, right, canvas, axes):
    for axis in axes:
        axis.set_axis_off()
    for axis, image, caption, is_right in zip(axes, images, captions, right):
        axis.imshow(_rgb(image), interpolation="nearest")
        colour = "C3" if is_right is False else "black"
        axis.set_title(_wrapped(caption), fontsize=9, color=colour, **_PLAIN)


def _rgb(image):
    """Returns what can be shown of an image: (H, W, C) -> (H, W, 3)."""
    if image.shape[-1] < 3:
        return np.repeat(image[..., :1], 3, axis=-1)
    return image[..., :3]


def layer_errors(layers: dict, before: dict, path: str) -> bool:
    """Draws the SQNR of every operator of an int8 file, from input to output.

    Args:
        layers: {operator, such as "block2a_dwconv/BiasAdd": SQNR of its result in dB}.
        before: the same without equalisation, or empty.
        path: of the PNG file.

    Returns:
        Whether it was drawn.
    """
    return picture(path, functools.partial(_layer_errors, layers, before), 1, 1, (11, 4.8))


def _layer_errors(layers, before, canvas, axes):
    (axis,) = axes
    names, values = list(layers), list(layers.values())
    if before:
        axis.plot([before.get(name) for name in names], "C1", label="without equalisation", lw=1)
    axis.plot(values, "C0", label="as written", lw=1.4)
    worst = sorted(range(len(names)), key=values.__getitem__)[:10]
    axis.plot(worst, [values[number] for number in worst], "C3o", ms=4, label="ten worst")
    blocks = [name.split("/")[0].split("_")[0] for name in names]
    starts = [number for number, block in enumerate(blocks) if block not in blocks[:number]]
    axis.set_xticks(
        starts,
        [_wrapped(blocks[number]) for number in starts],
        rotation=60,
        ha="right",
        fontsize=8,
        **_PLAIN,
    )
    axis.set(
        ylabel="SQNR of an operator's result (dB)",
        title="int8 against float32, from the pixels to the logits: higher is better",
    )
    axis.margins(x=0.01)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
