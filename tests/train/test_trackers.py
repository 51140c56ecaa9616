"""The trackers of docs/training.md: its examples, run with the real programs where they are."""

import dataclasses
import pathlib
import re

import pytest

import effnet_tf
from effnet_tf.runs import texts
from tests.helpers import tiny_net

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "training.md"
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("tiny_variants")]


def example(package):
    """The example of the page that imports a package."""
    blocks = re.findall(r"```py\n(.+?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (found,) = (block for block in blocks if block.startswith(f"import {package}\n"))
    return found


def run(package, folder, monkeypatch):
    """Runs an example in a folder; returns what its variables are at the end."""
    monkeypatch.chdir(folder)
    recipe = tiny_net.recipe(variant="tinier", epochs=2)
    names = {"dataclasses": dataclasses, "effnet_tf": effnet_tf, "recipe": recipe}
    exec(example(package), names)
    return names


@pytest.mark.filterwarnings("default")
def test_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    run("mlflow", tmp_path, monkeypatch)
    (tracked,) = mlflow.search_runs(output_format="list")
    last = texts.read_metrics(str(tmp_path / "runs" / "x" / "metrics.jsonl"))[-1]
    assert tracked.data.metrics["eval_accuracy"] == last["eval_accuracy"]
    assert tracked.data.params["batch_size"] == "16"
    client = mlflow.MlflowClient()
    epochs = client.get_metric_history(tracked.info.run_id, "eval_loss")
    assert [each.step for each in epochs] == [last["step"] // 2, last["step"]]


@pytest.mark.filterwarnings("default")
def test_weights_and_biases(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    run("wandb", tmp_path, monkeypatch)
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/*.wandb")
    assert b"eval_accuracy" in kept.read_bytes()
