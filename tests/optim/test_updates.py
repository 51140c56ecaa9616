"""updates.py: averages against TensorFlow's own, and what weight decay covers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import optim
from effnet_tf.recipes import Recipe


@pytest.mark.parametrize("decay", [0.9999, 0.5])
def test_ema_is_tf_trains(decay):
    weights, average = tf.Variable([1.0, -2.0]), tf.Variable([1.0, -2.0])
    step = tf.Variable(0, dtype=tf.int64)
    original = tf.train.ExponentialMovingAverage(decay, num_updates=step)
    original.apply([weights])
    original.average(weights).assign(weights)
    for value in ([3.0, 0.0], [1.0, 5.0], [-4.0, 2.0], [0.0, 0.0]):
        weights.assign(value)
        step.assign_add(1)
        original.apply([weights])
        optim.update_ema([average], [weights], optim.ema_decay(decay, step))
        np.testing.assert_allclose(average.numpy(), original.average(weights).numpy(), rtol=1e-6)


def test_ema_decay_warms_up():
    assert [float(optim.ema_decay(0.9999, step)) for step in (1, 2, 10**9)] == pytest.approx(
        [2 / 11, 3 / 12, 0.9999]
    )


@pytest.mark.parametrize("name, decayed, excluded", [("b0", 115, 98), ("lite0", 51, 98)])
def test_weight_decay_covers_what_the_original_decays(name, decayed, excluded):
    # FACTS.md 3: of b0's 213 trainable tensors 115 are decayed; of lite0's 149, 51.
    import effnet_tf

    variables = effnet_tf.model_fn(name, input_shape=(32, 32, 3)).trainable_variables
    chosen = optim.decayed(variables)
    assert (len(chosen), len(variables) - len(chosen)) == (decayed, excluded)
    names = {variable.path.rsplit("/", 2)[-2] + "/" + variable.name for variable in chosen}
    assert "predictions/bias" in names and "predictions/kernel" in names


def test_l2_penalty_is_half_the_sum_of_squares():
    variables = [keras.Variable([3.0, 4.0], name="kernel"), keras.Variable([9.0], name="gamma")]
    in_loss = 0.1 * 25 / 2  # the others decay in the optimiser
    for name, expected in dict(rmsprop=in_loss, sgd=in_loss, adamw=0, lars=in_loss).items():
        recipe = Recipe(weight_decay=0.1, optimizer=name)
        assert float(optim.l2_penalty(recipe, variables)) == pytest.approx(expected)


def test_the_code_of_efficientnet_v2_spares_biases():
    variables = [keras.Variable([3.0], name="kernel"), keras.Variable([9.0], name="bias")]
    recipe = Recipe(weight_decay=0.1, decay_biases=False)
    assert float(optim.l2_penalty(recipe, variables)) == pytest.approx(0.1 * 9 / 2)
