"""step.py: three published steps written out again, bad steps, masks, parts of a batch."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data, layers, optim
from effnet_tf.train.step import CORRECT, GOOD, IMAGES, LOSS, NOT_FINITE
from effnet_tf.train.trainer import Trainer
from tests.helpers import tiny_net

CPU = tf.distribute.OneDeviceStrategy("/cpu:0")
pytestmark = [pytest.mark.usefixtures("tiny_variants"), pytest.mark.processor]
STILL = dict(dropout_rate=0.0, drop_connect_rate=0.0)


def trainer_of(strategy=CPU, **changes):
    recipe = tiny_net.recipe(**changes)
    trainer = Trainer(recipe, data.open_source(recipe), strategy)
    trainer.start()
    return trainer


def advance(trainer, count, start=0):
    trainer.train_steps(trainer.train_iterator(start), tf.constant(count))
    return trainer.rows_since(start)


class Original:
    """The published step once more: TF1's own RMSProp and average, on a copy of a network."""

    def __init__(self, trainer):
        self.recipe, self.spe = trainer.recipe, trainer.steps_per_epoch
        self.model = trainer.build()
        self.model.set_weights(trainer.models["raw"].get_weights())
        self.trainable = [v.value for v in self.model.trainable_weights]
        self.slots = [
            (tf.Variable(tf.ones_like(v)), tf.Variable(tf.zeros_like(v))) for v in self.trainable
        ]
        self.step = tf.Variable(0, dtype=tf.int64)
        self.average = tf.train.ExponentialMovingAverage(
            self.recipe.ema_decay, num_updates=self.step
        )
        self.average.apply([v.value for v in self.model.weights])
        for variable in self.model.weights:
            self.average.average(variable.value).assign(variable.value)

    def rate(self):
        """utils.py: build_learning_rate."""
        peak, step = 0.016 * self.recipe.batch_size / 256, int(self.step.numpy())
        warmup = int(self.recipe.warmup_epochs * self.spe)
        if step < warmup:
            return peak * step / warmup
        return peak * self.recipe.decay_rate ** (step // (self.recipe.decay_epochs * self.spe))

    def advance(self, batch):
        classes = self.model.output_shape[-1]
        with tf.GradientTape() as tape:
            logits = self.model(batch["images"], training=True)
            loss = tf.reduce_mean(
                keras.losses.categorical_crossentropy(
                    tf.one_hot(batch["labels"], classes),
                    logits,
                    from_logits=True,
                    label_smoothing=0.1,
                )
            )
            total = loss + 1e-5 * tf.add_n(
                [
                    tf.nn.l2_loss(v.value)
                    for v in self.model.trainable_weights
                    if "_bn/" not in v.path and "/bn/" not in v.path
                ]
            )
        gradients = tape.gradient(total, self.trainable)
        for variable, slots, gradient in zip(self.trainable, self.slots, gradients):
            tf.raw_ops.ResourceApplyRMSProp(
                var=variable.handle,
                ms=slots[0].handle,
                mom=slots[1].handle,
                lr=self.rate(),
                rho=0.9,
                momentum=0.9,
                epsilon=1e-3,
                grad=gradient,
            )
        self.step.assign_add(1)
        self.average.apply([v.value for v in self.model.weights])
        return float(loss)


def test_three_steps_equal_the_original():
    trainer = trainer_of(warmup_epochs=1.0, decay_epochs=0.5, ema_decay=0.9999, **STILL)
    original = Original(trainer)
    losses = [original.advance(batch) for batch in itertools.islice(trainer.train_iterator(0), 3)]
    assert 0 < original.rate() < 0.001
    rows = advance(trainer, 3)
    np.testing.assert_allclose(rows[:, LOSS] / rows[:, IMAGES], losses, rtol=1e-5)
    for mine, theirs in zip(trainer.models["raw"].weights, original.model.weights):
        np.testing.assert_allclose(
            mine.numpy(), theirs.numpy(), rtol=1e-4, atol=2e-6, err_msg=mine.path
        )
    for mine, theirs in zip(trainer.models["ema"].weights, original.model.weights):
        np.testing.assert_allclose(
            mine.numpy(),
            original.average.average(theirs.value).numpy(),
            rtol=1e-4,
            atol=2e-6,
            err_msg=mine.path,
        )


@pytest.fixture(scope="module")
def patched(tiny_variants):
    """(a trainer whose losses a variable multiplies, that variable, the state at the start)."""
    factor = tf.Variable(1.0)
    trainer = trainer_of(variant="tinier")
    start, losses = trainer.snapshot(), trainer.train_step._losses

    def wrong(images, labels, targets):
        values, row = losses(images, labels, targets)
        return values * factor, row * tf.stack([factor, 1.0, 1.0])

    trainer.train_step._losses = wrong
    advance(trainer, 2)
    return trainer, factor, start


class TestBadSteps:
    """What is not finite, or a spike, consumes its batch and changes nothing else."""

    @pytest.mark.parametrize(
        "value",
        [
            np.nan,
            1e30,
            100.0,
            pytest.param(np.inf, marks=pytest.mark.slow),
            pytest.param(-np.inf, marks=pytest.mark.slow),
        ],
    )
    def test_changes_nothing_but_the_position(self, patched, value):
        trainer, factor, _ = patched
        before, position = trainer.snapshot(), trainer.position
        factor.assign(value)
        row = advance(trainer, 1, position)[-1]
        factor.assign(1.0)
        after = trainer.snapshot()
        assert not row[GOOD] and bool(row[NOT_FINITE]) == (value != 100.0)
        assert after.pop("position") == before.pop("position") + 1
        for name, array in before.items():
            np.testing.assert_array_equal(after[name], array, err_msg=name)

    def test_good_ones_go_on(self, patched):
        trainer, _, _ = patched
        step = trainer.step
        assert advance(trainer, 1, trainer.position)[-1][GOOD] and trainer.step == step + 1

    def test_the_log_is_a_ring(self, patched):
        trainer, _, _ = patched
        trainer.train_step.position.assign(2047)
        rows = advance(trainer, 3, 2047)
        assert rows.shape == (3, 5) and (rows[:, IMAGES] == 16).all() and rows[:, GOOD].all()


def test_a_run_with_bad_batches_equals_one_without_them(patched):
    trainer, factor, start = patched
    bad, good = (1, 2, 4), []
    trainer.restore(start)
    iterator = trainer.train_iterator(0)
    for number in range(7):
        factor.assign(np.nan if number in bad else 1.0)
        trainer.train_steps(iterator, tf.constant(1))
        good.append(bool(trainer.rows_since(number)[0, GOOD]))
    assert [number for number in range(7) if not good[number]] == list(bad)
    found = trainer.snapshot()
    factor.assign(1.0)
    trainer.restore(start)
    iterator = trainer.train_iterator(0)
    for number in range(7):
        if number in bad:
            next(iterator)
        else:
            trainer.train_steps(iterator, tf.constant(1))
    expected = trainer.snapshot()
    assert found.pop("position") == 7 and expected.pop("position") == 4
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_parts_of_a_batch_add_up_to_it():
    frozen = dict(STILL, variant="tinier", batch_norm_momentum=0.9, bn_sync="none")
    one, parts = (trainer_of(gradient_accumulation=count, **frozen) for count in (1, 4))
    for trainer in (one, parts):  # batch statistics of a part differ: leave them out
        for layer in trainer.models["raw"]._flatten_layers():
            if isinstance(layer, layers.BatchNorm):
                layer.mode = "inference"
    rows = [advance(trainer, 2) for trainer in (one, parts)]
    np.testing.assert_allclose(*rows, rtol=1e-5)
    for a, b in zip(one.models["raw"].weights, parts.models["raw"].weights):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6, err_msg=a.path)


def test_parts_must_divide_the_batch():
    with pytest.raises(Exception, match="has 16 images of a batch, which cannot be cut into 3"):
        trainer_of(gradient_accumulation=3)


def test_mixed_images_train():
    trainer = trainer_of(variant="tinier", mixup_alpha=0.2, cutmix_alpha=1.0)
    iterator = trainer.train_iterator(0)
    assert iterator.element_spec["mixing"].shape == (16, 6)
    trainer.train_steps(iterator, tf.constant(2))
    rows = trainer.rows_since(0)
    assert rows[:, GOOD].all() and (rows[:, CORRECT] <= 16).all()


def masks(seed=1, step=2, count=2):
    """The masks that `count` layers draw in a replica."""
    with layers.masks_from(tf.constant([seed, step])):
        return tf.stack(
            [tf.random.stateless_uniform((64,), layers.mask_seed(None)) for _ in range(count)]
        )


class TestMasks:
    def test_are_a_function_of_seed_and_step(self):
        np.testing.assert_array_equal(masks(), masks())
        for other in (masks(seed=2), masks(step=3), masks()[::-1]):
            assert (masks() != other).numpy().all(axis=1).all()

    def test_differ_between_replicas(self, mirrored):
        drawn = mirrored.run(tf.function(masks)).values
        assert not np.isclose(*drawn).any()
        np.testing.assert_array_equal(drawn[0], masks())  # the first as if it were alone

    def test_outside_a_step_keras_generators_count(self):
        generator = keras.random.SeedGenerator(0)
        first, second = (layers.mask_seed(generator).numpy() for _ in range(2))
        assert (first != second).any()

    @pytest.mark.parametrize("layer", [layers.Dropout(0.5), layers.DropConnect(0.5)])
    def test_of_the_layers_differ_between_replicas(self, layer, mirrored):
        with mirrored.scope():
            layer.build((None, 8))

        @tf.function
        def drop():
            with layers.masks_from(tf.constant([0, 0])):
                return layer(tf.ones((64, 8)), training=True)

        one, two = (value.numpy() for value in mirrored.run(drop).values)
        assert {*np.unique(one), *np.unique(two)} == {0.0, 2.0}
        assert (one != two).any()


def test_clipping_sees_the_sum_of_all_replicas(mirrored):
    gradients = [tf.constant([3.0]), tf.constant([4.0])]

    @tf.function
    def clipped():
        return optim.clip(gradients, 1.0, 2)

    for replica in zip(*(value.values for value in mirrored.run(clipped))):
        np.testing.assert_allclose(np.concatenate(replica) * 2, [0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(np.concatenate(optim.clip(gradients, 99.0, 1)), [3, 4], rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(dict(optimizer="sgd"), marks=pytest.mark.slow),
        pytest.param(dict(optimizer="adamw", base_learning_rate=0.1), marks=pytest.mark.slow),
        dict(optimizer="lars", schedule="polynomial", clip_norm=1.0, base_learning_rate=10.0),
    ],
)
def test_other_optimisers_learn_the_colours(changes):
    trainer = trainer_of(warmup_epochs=0.0, batch_norm_momentum=0.5, **changes)
    rows = advance(trainer, 24)
    assert rows[:, GOOD].all()
    assert rows[-3:, LOSS].mean() < 0.8 * rows[0, LOSS]
    assert len(trainer.state.variables) == len(trainer.snapshot())
