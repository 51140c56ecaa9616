"""trainer.py, state.py: the registry of the state is complete, and each group of it needed."""

import gc
import weakref

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data
from effnet_tf.errors import InputError
from effnet_tf.train import evaluation
from effnet_tf.train.trainer import Trainer
from effnet_tf.weights import pixels
from tests.helpers import tiny_net

CPU = tf.distribute.OneDeviceStrategy("/cpu:0")
pytestmark = [pytest.mark.usefixtures("tiny_variants"), pytest.mark.processor]


@pytest.fixture(scope="module")
def made():
    """(trainer, every tf.Variable that came to be with it)."""
    created = []

    def remember(next_creator, **options):
        created.append(next_creator(**options))
        return created[-1]

    recipe = tiny_net.recipe(drop_connect_rate=0.5, dropout_rate=0.5, ema_decay=0.9)
    with tf.variable_creator_scope(remember):
        trainer = Trainer(recipe, data.open_source(recipe), CPU)
    trainer.start()
    trainer.state.constants["mean"].assign([1.0, 2.0, 3.0])  # as initial weights could bring them
    trainer.state.hand_on_constants()
    return trainer, created


def test_every_variable_is_registered(made):
    trainer, created = made
    known = {id(variable) for variable in trainer.state.variables.values()}
    step = trainer.train_step
    # No state: logs and sums that are read before anything is saved, the flag that ends a loop,
    # Keras' seed generators, which no step uses (see masks_from), and the layers' copies of
    # the pixel constants.
    excused = [step.log, trainer.stop, *trainer.evaluation.sums.values()]
    excused += [
        v.value
        for model in trainer.models.values()
        for v in model.non_trainable_variables
        if "seed_generator" in v.path or v.name in ("mean", "std")
    ]
    known |= {id(variable) for variable in excused}
    missing = [variable.name for variable in created if id(variable) not in known]
    assert missing == []
    assert len(known) == len(trainer.state.variables) + len(excused)


def test_seed_generators_are_left_alone_by_steps(made):
    trainer, _ = made
    seeds = [v for v in trainer.models["raw"].non_trainable_variables if "seed_gen" in v.path]
    before = [v.numpy() for v in seeds]
    trainer.train_steps(trainer.train_iterator(0), tf.constant(1))
    assert len(seeds) >= 2
    for old, variable in zip(before, seeds):
        np.testing.assert_array_equal(old, variable.numpy())


def test_pixel_constants_are_neither_trained_nor_averaged(made):
    trainer, _ = made
    trainer.train_steps(trainer.train_iterator(0), tf.constant(1))
    for model in trainer.models.values():
        assert pixels.constants_of(model)[0] == [1.0, 2.0, 3.0]
    for weight in trainer.models["raw"].trainable_weights:
        assert weight.name not in ("mean", "std")


def test_the_held_out_pipeline_is_made_once(made, monkeypatch):
    trainer, calls, real = made[0], [], data.evaluation

    def counted(*arguments, **options):
        calls.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(data, "evaluation", counted)
    assert trainer.evaluate() == trainer.evaluate() and len(calls) == 1


def test_images_outlive_who_opened_them(made, monkeypatch):
    """TensorFlow crashes if an iterator is deleted while its thread prepares a batch."""
    trainer, found, opened = made[0], [], evaluation.opened

    def remembered(*arguments):
        iterator = opened(*arguments)
        found.append(weakref.ref(iterator))
        return iterator

    monkeypatch.setattr(evaluation, "opened", remembered)
    trainer.evaluate()
    found.append(weakref.ref(trainer.train_iterator(0)))
    gc.collect()
    assert len(found) == 2 and None not in [each() for each in found]


def advance(trainer, count):
    """Trains, and adds to the totals as guard.py does."""
    position = trainer.position
    trainer.train_steps(trainer.train_iterator(position), tf.constant(count))
    trainer.state.totals["loss"].assign_add(trainer.rows_since(position)[:, 0].sum())


class TestDroppedGroups:
    """A resume that forgets one group of the state ends elsewhere."""

    @pytest.fixture(scope="class")
    def runs(self, made):
        """(trainer, fresh state, state in the middle, state at the end)."""
        trainer, _ = made
        fresh = {
            name: np.zeros_like(value) if name.partition("/")[0] != "slots" else value
            for name, value in trainer.snapshot().items()
        }
        trainer.state.totals["loss"].assign(0.0)
        trainer.train_step.seed.assign(77)
        advance(trainer, 4)
        middle = trainer.snapshot()
        advance(trainer, 3)
        return trainer, fresh, middle, trainer.snapshot()

    def end(self, trainer, start):
        trainer.restore(start)
        advance(trainer, 3)
        return trainer.snapshot()

    def test_with_all_of_them_it_ends_the_same(self, runs):
        trainer, _, middle, expected = runs
        for name, value in self.end(trainer, middle).items():
            np.testing.assert_array_equal(value, expected[name], err_msg=name)

    @pytest.mark.parametrize(
        "group",
        [
            "weights",
            "batch_norm",
            "ema",
            "slots",
            "step",
            "position",
            "seed",
            "totals",
            "guard/smoothed_loss",
            "normalization",
        ],
    )
    def test_without_one_it_does_not(self, runs, group):
        trainer, fresh, middle, expected = runs
        start = {
            name: fresh[name] if name == group or name.startswith(f"{group}/") else value
            for name, value in middle.items()
        }
        if group == "normalization":
            start["normalization/std"] = middle["normalization/std"] * 2
        found = self.end(trainer, start)
        assert any((found[name] != expected[name]).any() for name in expected)

    def test_a_state_of_something_else_is_refused(self, runs):
        trainer, _, middle, _ = runs
        for changed in (
            {**middle, "extra": 1},
            {k: v for k, v in middle.items() if k != "step"},
            {**middle, "weights/stem_conv/kernel": np.zeros(3)},
        ):
            with pytest.raises(InputError, match="1 entries differ"):
                trainer.restore(changed)


@pytest.mark.slow
def test_progressive_sizes_share_one_state():
    recipe = tiny_net.recipe(image_size=48, start_image_size=32, size_stages=2, epochs=4)
    trainer = Trainer(recipe, data.open_source(recipe), CPU)
    trainer.start()
    for stage, size in zip(trainer.stages, (32, 48)):
        trainer.begin_stage(stage)
        iterator = trainer.train_iterator(trainer.position, stage)
        assert iterator.element_spec["images"].shape == (16, size, size, 3)
        trainer.train_steps(iterator, tf.constant(1))
    assert trainer.step == 2 and trainer.evaluate()["eval_images"] == 40
