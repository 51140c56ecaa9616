"""plots.py: pictures are drawn whole, or a sentence says that they are not."""

import os
import sys
import warnings
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import plots
from effnet_tf.errors import SaveError
from tests.helpers import hostile

ROWS = [
    {
        "epoch": epoch,
        "train_loss": 2 / epoch,
        "train_accuracy": 0.1 * epoch,
        "eval_loss_raw": 3 / epoch,
        "eval_accuracy_raw": 0.08 * epoch,
        "eval_accuracy": 0.08 * epoch,
        "eval_images": 100,
    }
    for epoch in (1, 2, 3)
]


def colours(path):
    """The distinct colours of a PNG file."""
    image = tf.io.decode_png(tf.io.read_file(str(path)), channels=3).numpy()
    return {tuple(colour) for colour in image.reshape(-1, 3)}


@pytest.mark.parametrize("count", [1, 3])
def test_learning_curve_without_averages(tmp_path, count):
    plots.learning_curve(ROWS[:count], str(tmp_path / "curve.png"))
    assert os.listdir(tmp_path) == ["curve.png"]
    assert (255, 127, 14) in colours(tmp_path / "curve.png")  # C1: the raw weights' line


def test_where_a_run_was_extended_is_a_line(tmp_path):
    for name, marks in (("with", {1.5: "epochs: 2 -> 4"}), ("without", {})):
        plots.learning_curve(ROWS, str(tmp_path / f"{name}.png"), marks)
    red = (214, 39, 40)
    assert red in colours(tmp_path / "with.png") and red not in colours(tmp_path / "without.png")


def test_wrong_predictions_are_red(tmp_path):
    images = [np.full((4, 4, 3), 255, "uint8")] * 7
    plots.predictions(images, ["cat"] * 7, [True] * 7, str(tmp_path / "right.png"))
    plots.predictions(images, ["cat"] * 7, [False] * 7, str(tmp_path / "wrong.png"))
    red = (214, 39, 40)
    assert red not in colours(tmp_path / "right.png")
    assert red in colours(tmp_path / "wrong.png")


def test_hostile_names_are_text(tmp_path, capfd):
    names = [*hostile.NAMES, hostile.NOT_UTF8, "", "$" * 3, "word " * 200, "x" * 5000]
    images = [np.full((4, 4, 3), 255, "uint8")] * len(names)
    layers = {f"{name}/Conv": 10.0 for name in names}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert plots.predictions(images, names, [None] * len(names), str(tmp_path / "p.png"))
        assert plots.layer_errors(layers, layers, str(tmp_path / "l.png"))
    assert not caught and capfd.readouterr() == ("", "")
    assert sorted(os.listdir(tmp_path)) == ["l.png", "p.png"]
    assert (0, 0, 0) in colours(tmp_path / "p.png")  # the captions are there


def test_a_caption_fits_over_its_image():
    assert plots._wrapped("golden retriever (98%), is Labrador").count("\n") == 1
    assert len(plots._wrapped("x" * 5000).splitlines()) == 3
    assert plots._wrapped("a\nb\x1b[31m") == "a\\nb\\x1b[31m"


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_images_of_other_channels(tmp_path, channels):
    image = np.full((4, 4, channels), 200, "uint8")
    assert plots.predictions([image], ["a"], [None], str(tmp_path / "a.png"))
    assert (200, 200, 200) in colours(tmp_path / "a.png")


def test_many_images(tmp_path, capsys):
    images = [np.zeros((4, 4, 3), "uint8")] * 3
    with mock.patch.object(plots, "MOST", 2):
        assert plots.predictions(images, ["a"] * 3, [None] * 3, str(tmp_path / "a.png"))
    assert "shows the first 2 of 3 images" in capsys.readouterr().out
    assert not plots.predictions([], [], [], str(tmp_path / "b.png"))
    assert os.listdir(tmp_path) == ["a.png"]


def test_metrics_of_a_run_that_went_wrong(tmp_path):
    rows = [
        {**row, "train_loss": value, "eval_loss_raw": value}
        for row, value in zip(ROWS, (np.nan, np.inf, 0.0))
    ]
    assert plots.learning_curve(rows, str(tmp_path / "curve.png"))


def test_what_cannot_be_drawn_ends_nothing(tmp_path, capsys):
    images = [np.zeros((4, 4, 3, 3), "uint8")]
    assert not plots.predictions(images, ["a"], [None], str(tmp_path / "a.png"))
    assert "could not be drawn" in capsys.readouterr().out and not os.listdir(tmp_path)


def test_a_full_disk_is_an_error_and_leaves_nothing_half(tmp_path):
    (tmp_path / "curve.png").write_bytes(b"the one before")
    with (
        mock.patch.object(
            tf.io.gfile.GFile,
            "write",
            side_effect=tf.errors.ResourceExhaustedError(None, None, "no space left"),
        ),
        pytest.raises(SaveError, match="curve.png' cannot be written: no space left"),
    ):
        plots.learning_curve(ROWS, str(tmp_path / "curve.png"))
    assert (tmp_path / "curve.png").read_bytes() == b"the one before"
    assert os.listdir(tmp_path) == ["curve.png"]


def test_without_matplotlib_it_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    plots._say_once.cache_clear()
    for _ in range(3):
        plots.learning_curve(ROWS, str(tmp_path / "curve.png"))
    assert capsys.readouterr().out.count("pip install 'effnet_tf[plots]'. Everything else") == 1
    assert os.listdir(tmp_path) == []
