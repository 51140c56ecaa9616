"""layers/step_form.py: which form a step takes, said and chosen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf.layers import blocks, step_form
from tests.helpers import tiny_net

pytestmark = pytest.mark.usefixtures("tiny_variants")


@pytest.fixture(scope="module")
def model(tiny_variants):
    return effnet_tf.model_fn("tinier", 3, input_shape=(32, 32, 3))


def modes(model):
    return {layer.remat for layer in model.layers if isinstance(layer, blocks.ConvolutionalBlock)}


def test_remat_is_chosen_for_all_blocks_and_by_the_way_back(model):
    for remat in ("expansion", "block", "none"):
        effnet_tf.set_remat(model, remat)
        assert modes(model) == {remat}


def test_what_cannot_be_chosen(model):
    with pytest.raises(effnet_tf.InputError, match="remat is 'all'; it must be one of 'none'"):
        effnet_tf.set_remat(model, "all")
    with pytest.raises(effnet_tf.InputError, match="has no blocks .* build the network with"):
        effnet_tf.set_remat(keras.Sequential([keras.layers.Dense(1)], name="mine"), "block")
    with pytest.raises(effnet_tf.InputError, match="A keras.Model belongs here"):
        effnet_tf.set_remat("b0", "block")


def test_the_line_says_what_is_kept(model):
    assert step_form.described(model) == (
        "step: lean, of blocks only the outputs of convolutions are kept for the gradient"
    )
    effnet_tf.set_remat(model, "block")
    assert "only the inputs are kept" in step_form.described(model)
    effnet_tf.set_remat(model, "none")


def test_the_line_says_why_not(model, monkeypatch):
    monkeypatch.setattr(blocks, "obstacle", lambda dtype: "there is a GPU")
    assert step_form.described(model) == ("step: plain, by Keras' own layers (there is a GPU)")


@pytest.mark.parametrize("remat", ["expansion", "block"])
def test_a_recipe_has_it(remat):
    from effnet_tf import data
    from effnet_tf.train.trainer import Trainer

    recipe = tiny_net.recipe(variant="tinier", remat=remat)
    cpu = tf.distribute.OneDeviceStrategy("/cpu:0")
    trainer = Trainer(recipe, data.open_source(recipe), cpu)
    assert modes(trainer.models["raw"]) == {remat}


@pytest.mark.slow  # two networks are compiled
def test_fit_is_the_same_whatever_is_kept():
    x = np.random.default_rng(0).uniform(0, 255, (8, 32, 32, 3)).astype("float32")
    y, found = np.arange(8) % 3, []
    for remat in ("none", "expansion"):
        keras.utils.set_random_seed(3)
        model = effnet_tf.model_fn("tinier", 3, input_shape=(32, 32, 3), dropout_rate=0.0)
        effnet_tf.set_remat(model, remat)
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.fit(x, y, batch_size=8, verbose=0)
        found.append(model.get_weights())
    for pair in zip(*found, strict=True):
        np.testing.assert_allclose(*pair, rtol=1e-3, atol=1e-4)


def test_memory_is_forecast():
    costs = {
        remat: effnet_tf.cost("b0", batch_size=32, remat=remat)
        for remat in ("none", "expansion", "block")
    }
    assert costs["none"] == effnet_tf.cost("b0") and costs["none"].training_bytes
    none, expansion, block = (cost.training_bytes for cost in costs.values())
    assert block < expansion < none
    assert costs["block"].activation_bytes < costs["expansion"].activation_bytes
    with pytest.raises(effnet_tf.InputError, match="remat is 'half'"):
        effnet_tf.cost("b0", remat="half")


def test_what_a_block_keeps():
    from effnet_tf import variants

    block = variants.describe_mbconv(8, 48, 12)
    side = 4
    parts = {remat: variants.count_part(block, side, False, remat) for remat in variants.REMAT}
    kept = {remat: part.kept / side**2 for remat, part in parts.items()}
    assert kept == {"none": 48 + 48 + 12, "expansion": 8 + 48 + 12, "block": 8}
    # A block that is computed again has the widest pair of maps, and the narrower ones besides:
    # of the expansion there are pieces.
    assert parts["block"].in_flight == (48 + 48 + 48 + 12) * side**2
