"""Short trainings of small networks: exact functions of their seeds, and they learn."""

import dataclasses

import numpy as np
import pytest

import effnet_tf
from effnet_tf.search import Settings, proxy
from tests.search.few_images import BASE, colours

QUICK = Settings(epochs=12, batch_size=16, learning_rate=0.05, shift=1, dropout_rate=0.2)


@pytest.fixture(scope="module")
def trainer():
    return proxy.Trainer(BASE, colours(), QUICK)


def test_it_learns(trainer):
    assert trainer.accuracy(0) > 0.8


def test_a_seed_gives_the_same_whatever_ran_before(trainer):
    hard = dataclasses.replace(QUICK, epochs=1)
    before = [trainer.accuracy(seed) for seed in (5, 1)]
    assert [trainer.accuracy(seed) for seed in (1, 5)] == before[::-1]
    first = proxy.train(BASE, colours(), [3, 1, 4], hard)
    assert first.shape == (3,) and first.dtype == np.float64
    assert proxy.train(BASE, colours(), [4], hard)[0] == first[2]
    assert len(set(first)) > 1  # seeds count


def test_other_folds_and_lengths_need_no_new_trace(trainer):
    before = trainer.accuracy(0)
    traced = trainer._run
    other = colours(75).fold(0, 4)
    trainer.use(other, 2)
    assert trainer.accuracy(0) == proxy.train(
        BASE, other, [0], dataclasses.replace(QUICK, epochs=2)
    )
    trainer.use(colours())
    assert trainer.accuracy(0) == before
    assert trainer._run is traced  # a concrete function: it cannot be traced again


def test_weights_are_drawn_anew(trainer):
    model = trainer._model
    trainer.accuracy(0)
    moved = [variable.numpy() for variable in model.weights]
    proxy._draw_weights(model, np.random.default_rng(7))
    drawn = [variable.numpy() for variable in model.weights]
    fresh = effnet_tf.model_fn(BASE, 3, classifier_activation=None)
    for variable, old, new, other in zip(model.weights, moved, drawn, fresh.weights):
        if "kernel" in variable.path:
            assert not np.isclose(old, new).all()
            assert 0.5 < np.std(new) / np.std(other) < 2
        elif "normalize" in variable.path:
            assert (new == old).all()
        else:
            assert (new == other.numpy()).all(), variable.path
    kernels = [new for new in drawn if new.ndim == 4 and new.shape[-2:] == (8, 8)]
    assert not any(np.allclose(kernels[0], other) for other in kernels[1:])


def test_the_rate_begins_anew(trainer):
    trainer.accuracy(0)
    steps = trainer._optimizer.iterations.numpy()
    trainer.accuracy(1)
    assert trainer._optimizer.iterations.numpy() == steps == 12 * (63 // 16)


def test_no_image_comes_twice_in_an_epoch(trainer):
    order = trainer._order(np.random.default_rng(0)).reshape(12, -1) % trainer._count
    assert all(len(set(epoch)) == 48 for epoch in order)


def test_shifted_copies_are_all_there():
    pixels = colours().pixels[:2]
    copies = proxy._moved(pixels, 1)
    assert len(copies) == 9 and (copies[4] == pixels).all()
    assert (copies[0][:, 1:, 1:] == pixels[:, :-1, :-1]).all()  # down and right
    assert (copies[0][:, 0, 0] == pixels[:, 0, 0]).all()  # the edge goes on


@pytest.mark.parametrize(
    "values, message",
    [
        (dict(epochs=0), "epochs is 0; it must be a whole number, >= 1"),
        (dict(batch_size=2.5), "batch_size is 2.5"),
        (dict(warmup=1.0), r"warmup is 1.0; it must be in \[0, 1\)"),
        (dict(learning_rate=0.0), "learning_rate is 0.0"),
    ],
)
def test_bad_settings(values, message):
    with pytest.raises(effnet_tf.InputError, match=message):
        Settings(**values)


def test_a_batch_larger_than_the_data_set():
    with pytest.raises(effnet_tf.InputError, match="63 training images, and a batch of 65"):
        proxy.Trainer(BASE, colours(), Settings(batch_size=65))
