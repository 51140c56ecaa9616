"""Steps of training of each other network that the paper scales."""

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data, train, variants
from effnet_tf.train.trainer import Trainer
from tests.export.test_baselines import STAGES, small
from tests.helpers import tiny_net
from tests.train.test_loop import CPU, checkpoint_values, run_until


@pytest.mark.slow  # half a minute each
@pytest.mark.parametrize("name", STAGES)
def test_steps_change_every_weight(name):
    recipe = tiny_net.recipe(variant=variants.to_json(small(name)), drop_connect_rate=0.0)
    trainer = Trainer(recipe, data.open_source(recipe), tf.distribute.OneDeviceStrategy("/cpu:0"))
    trainer.start()
    before = {weight.path: weight.numpy() for weight in trainer.models["raw"].trainable_weights}
    trainer.train_steps(
        trainer.train_iterator(trainer.position), tf.constant(3)
    )  # the first is all warm-up
    assert np.isfinite(trainer.rows_since(0)).all()
    still = [
        weight.path
        for weight in trainer.models["raw"].trainable_weights
        if np.array_equal(weight.numpy(), before[weight.path])
    ]
    # A bias before batch norm changes nothing, and so has a gradient of rounding alone.
    assert [path for path in still if not path.endswith("conv/bias")] == []


@pytest.mark.slow  # half a minute
def test_an_interrupted_run_of_v2_in_stages_resumes_exactly(tmp_path):
    """By a recipe of its own: growing images, and biases that do not decay."""
    changes = {
        "variant": variants.to_json(small("v2-s")),
        "epochs": 4,
        "progressive": True,
        "size_stages": 2,
        "image_size": 48,
        "start_image_size": 32,
        "decay_biases": False,
    }
    recipe = tiny_net.recipe(**changes)
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    train.run(recipe, whole, CPU)
    run_until(2, recipe, parts)  # the end of the first stage
    train.run(recipe, parts, CPU)
    expected, found = checkpoint_values(whole), checkpoint_values(parts)
    assert sorted(expected) == sorted(found)
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
