"""examples/: run as a newcomer would, on real data."""

import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from sklearn import datasets

import effnet_tf

ROOT = pathlib.Path(__file__).parents[1]


def write_digits(root, classes, count):
    """Writes scans of handwritten digits as PNG files, a folder per class."""
    digits = datasets.load_digits()
    grey = np.round(digits.images * 255 / 16).astype("uint8")[..., None]
    for name in classes:
        (root / str(name)).mkdir(parents=True)
        for number in np.flatnonzero(digits.target == name)[:count]:
            (root / str(name) / f"{number}.png").write_bytes(tf.io.encode_png(grey[number]).numpy())


@pytest.mark.slow
def test_finetune(tmp_path):
    write_digits(tmp_path / "digits", (0, 1), 60)
    # Of other classes, as a published file is.
    effnet_tf.model_fn("lite0", 10).save_weights(tmp_path / "start.weights.h5")

    finished = subprocess.run(
        [
            sys.executable,
            "examples/finetune.py",
            "--data_dir",
            str(tmp_path / "digits"),
            "--out",
            str(tmp_path / "run"),
            "--weights",
            str(tmp_path / "start.weights.h5"),
            "--variant",
            "lite0",
            "--image_size",
            "32",
            "--epochs",
            "1",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    out = finished.stdout
    assert "predictions/kernel (1280, 10) -> (1280, 2): starts at zero" in out
    assert "parameters train, from classifier on; batch norm: frozen" in out
    assert "parameters train, from stage_5 on; batch norm: frozen" in out
    assert len(re.findall(r"\(\d+%\), really [01]", out)) == 5
    assert re.search(r"Done: [\d.]+% of the held-out images right", out)
    saved = effnet_tf.load_model(tmp_path / "run" / "model.keras")
    assert saved.output_shape == (None, 2)
    assert list((tmp_path / "run" / "logs" / "train").glob("events.*"))
