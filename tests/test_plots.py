"""plots.py: pictures are drawn whole, or a sentence says that they are not."""

import os
import sys

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import plots

ROWS = [{"epoch": epoch, "train_loss": 2 / epoch, "train_accuracy": 0.1 * epoch,
         "eval_loss_raw": 3 / epoch, "eval_accuracy_raw": 0.08 * epoch,
         "eval_accuracy": 0.08 * epoch, "eval_images": 100} for epoch in (1, 2, 3)]


def colours(path):
    """The distinct colours of a PNG file."""
    image = tf.io.decode_png(tf.io.read_file(str(path)), channels=3).numpy()
    return {tuple(colour) for colour in image.reshape(-1, 3)}


@pytest.mark.parametrize("count", [1, 3])
def test_learning_curve_without_averages(tmp_path, count):
    plots.learning_curve(ROWS[:count], str(tmp_path / "curve.png"))
    assert os.listdir(tmp_path) == ["curve.png"]
    assert (255, 127, 14) in colours(tmp_path / "curve.png")  # C1: the raw weights' line


def test_wrong_predictions_are_red(tmp_path):
    images = [np.full((4, 4, 3), 255, "uint8")] * 7
    plots.predictions(images, ["cat"] * 7, [True] * 7, str(tmp_path / "right.png"))
    plots.predictions(images, ["cat"] * 7, [False] * 7, str(tmp_path / "wrong.png"))
    red = (214, 39, 40)
    assert red not in colours(tmp_path / "right.png")
    assert red in colours(tmp_path / "wrong.png")


def test_without_matplotlib_it_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for _ in range(3):
        plots.learning_curve(ROWS, str(tmp_path / "curve.png"))
    assert capsys.readouterr().out.count("matplotlib is not installed") == 1
    assert os.listdir(tmp_path) == []
