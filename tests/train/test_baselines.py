"""Steps of training of each other network that the paper scales."""

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data, variants
from effnet_tf.train.trainer import Trainer
from tests.export.test_baselines import STAGES, small
from tests.helpers import tiny_net


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
