"""dry_run.py: what a run would cost is said, its whole path is taken, and nothing stays."""

import dataclasses
import os

import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import dry_run, train
from tests.helpers import tiny_net
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)

CPU = tf.distribute.OneDeviceStrategy("/cpu:0")
pytestmark = pytest.mark.usefixtures("tiny_variants")


class Stop(Exception):
    """Ends a dry run before its long part."""


@pytest.mark.usefixtures("in_this_process")
def test_the_dry_run_takes_the_whole_path(mirrored, monkeypatch, capsys):
    monkeypatch.setattr(dry_run, "PHI", 0.0)
    recipe = dataclasses.replace(
        tiny_net.recipe(),
        dataset="imagenet2012",
        num_classes=None,
        batch_size=4096,
        epochs=350,
        mixup_alpha=0.2,
        holdout=0.7,
    )
    metrics = dry_run.dry_run(recipe, mirrored, replicas=8)
    out = capsys.readouterr().out
    assert metrics["step"] == 2 and metrics["eval_images"] == 40
    for text in (
        "multiply-adds per step: ",
        "device memory per replica, estimated: ",
        "1,281,167 images per epoch, 312.8 steps of 4,096, 109,475 steps in 350 epochs",
        "checkpoints, step 1",
        "TFLite",
        "SavedModel",
        "The dry run is complete",
    ):
        assert text in out, text
    assert dry_run.SHRUNKEN not in effnet_tf.VARIANTS


def test_an_interrupted_dry_run_keeps_nothing():
    """Ctrl-C may end the process from inside TensorFlow: then the last words tidy up."""
    with dry_run._folder() as folder:
        os.makedirs(f"{folder}/run/checkpoints")
        assert dry_run.last_words() == "a dry run keeps nothing"
        assert not os.path.exists(folder)


def test_the_network_of_a_dry_run_has_both_kinds_of_block():
    for variant, fused in (("b0", [False, False]), ("edgetpu-s", [True, False])):
        with dry_run._shrunken(variant) as count:
            blocks = effnet_tf.blocks(dry_run.SHRUNKEN)
        assert count == len(blocks) == 2
        assert [block.fused for block in blocks] == fused


def test_the_dry_run_counts_the_classes_of_the_data_set(photos, monkeypatch, capsys):
    def stop(*_):
        raise Stop

    monkeypatch.setattr(train, "run", stop)
    for dataset, folder, classes in (
        ("folder", str(photos), 2),
        ("digits", None, 10),
        ("imagenet2012", None, 1000),
    ):
        recipe = tiny_net.recipe(dataset=dataset, data_dir=folder, num_classes=None, holdout=0.3)
        with pytest.raises(Stop):
            dry_run.dry_run(recipe, CPU)
        params = effnet_tf.cost(recipe.resolved_variant(), num_classes=classes).params
        assert f", {params:,} parameters (" in capsys.readouterr().out


@pytest.mark.parametrize(
    "optimizer, slots", [("rmsprop", 2), ("sgd", 1), ("adamw", 2), ("lars", 1)]
)
def test_the_memory_of_the_optimiser_is_asked_of_the_optimiser(optimizer, slots):
    """Momentum; the mean of squares, too."""
    assert dry_run._slots(tiny_net.recipe(optimizer=optimizer)) == slots
