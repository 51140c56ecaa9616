"""Runs whose images and augmentation grow: their stages, resumed exactly and extended."""

import dataclasses
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data, dry_run, train
from effnet_tf.layers import stochastic
from effnet_tf.recipes import stages
from effnet_tf.runs import checkpoints, texts
from effnet_tf.train import diagnosis, rate_finder
from effnet_tf.train.trainer import Trainer
from tests.helpers import processes, tiny_net
from tests.helpers.same_runs import assert_equal_runs
from tests.helpers.toy_trainer import Stop, ToyTrainer, stop_at

CPU = tf.distribute.OneDeviceStrategy("/cpu:0")
# 10 steps in 5 epochs; the second of three stages begins at step 3, within the second epoch.
RECIPE = tiny_net.recipe(
    variant="tinier",
    epochs=5,
    checkpoint_every=1,
    background_saves=False,
    progressive=True,
    size_stages=3,
    size_multiple=8,
    image_size=40,
    start_image_size=32,
    train_image_size=48,
    augment="randaugment",
    mixup_alpha=0.4,
    cutmix_alpha=0.4,
    start_dropout_rate=0.0,
    dropout_rate=0.4,
)
pytestmark = pytest.mark.usefixtures("tiny_variants")


@pytest.fixture
def whole(tmp_path, toy_trainer):
    """The directory of a run of `RECIPE` that nothing disturbed."""
    train.run(RECIPE, str(tmp_path / "whole"), CPU)
    return tmp_path / "whole"


class TestARun:
    def test_says_where_a_stage_begins_and_writes_it_down(self, capsys, whole):
        said = capsys.readouterr().out
        assert said.count("Stage ") == 3
        assert "Stage 2 of 3, steps 4 to 7: training images of 40 pixels, RandAugment 7.5" in said
        assert "epoch 2/5  stage 2/3  step 4/10" in said
        rows = texts.read_metrics(f"{whole}/metrics.jsonl")
        assert [(row["stage"], row["train_image_size"]) for row in rows] == [
            (1, 32),
            (2, 40),
            (2, 40),
            (3, 48),
            (3, 48),
        ]

    @pytest.mark.parametrize(
        "owner, name, numbers",
        [
            (ToyTrainer, "train_steps", [1, 3, 4, 7, 8]),
            (ToyTrainer, "begin_stage", [2, 3]),
            (ToyTrainer, "evaluate", [2, 4]),
            (checkpoints.Store, "save", [4, 5, 9]),
        ],
    )
    def test_stopped_anywhere_it_ends_the_same(self, whole, tmp_path, owner, name, numbers):
        for number in numbers:
            workdir = tmp_path / str(number)
            with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
                stop_at(patch, owner, name, number)
                train.run(RECIPE, str(workdir), CPU)
            train.run(RECIPE, str(workdir), CPU)
            assert_equal_runs(workdir, whole)

    def test_an_extension_has_stages_of_its_own(self, whole, tmp_path, capsys):
        longer = dataclasses.replace(RECIPE, epochs=8)
        shutil.copytree(whole, tmp_path / "stopped")
        train.run(longer, str(whole), CPU, extend=True)
        assert "Stage 2 of 3, steps 13 to 14" in capsys.readouterr().out
        rows = texts.read_metrics(f"{whole}/metrics.jsonl")
        assert [row["stage"] for row in rows] == [1, 2, 2, 3, 3, 1, 2, 3]
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
            stop_at(patch, ToyTrainer, "train_steps", 3)
            train.run(longer, str(tmp_path / "stopped"), CPU, extend=True)
        train.run(longer, str(tmp_path / "stopped"), CPU)
        assert_equal_runs(tmp_path / "stopped", whole)

    def test_can_be_extended_at_its_full_size(self, whole):
        train.run(
            dataclasses.replace(
                RECIPE, epochs=6, progressive=False, start_image_size=None, start_dropout_rate=None
            ),
            str(whole),
            CPU,
            extend=True,
        )
        rows = texts.read_metrics(f"{whole}/metrics.jsonl")
        assert "stage" in rows[4] and "stage" not in rows[5]


@pytest.fixture(scope="module")
def trainer():
    recipe = dataclasses.replace(RECIPE, augment="none")  # which takes long to compile
    return Trainer(recipe, data.open_source(recipe), CPU)


class TestAStep:
    def test_has_the_images_and_dropout_of_its_stage(self, trainer, monkeypatch):
        rates, drop = [], tf.nn.experimental.stateless_dropout

        def noted(inputs, rate, *rest, **options):
            rates.append(rate)
            return drop(inputs, rate, *rest, **options)

        monkeypatch.setattr(stochastic.tf.nn.experimental, "stateless_dropout", noted)
        for stage in trainer.stages[::2]:
            trainer.begin_stage(stage)
            iterator = trainer.train_iterator(trainer.position, stage)
            spec = iterator.element_spec
            assert spec["images"].shape == (16, stage.image_size, stage.image_size, 3)
            assert ("mixing" in spec) == (stage.number > 1)
            trainer.train_steps.get_concrete_function(iterator, tf.constant(1))
        assert set(rates) == {0.4}  # stage 1 has none
        assert trainer.models["raw"].input_shape == (None, None, None, 3)
        assert trainer.evaluation._size == 40

    def test_a_batch_that_failed_is_looked_at_as_it_was(self, trainer, monkeypatch):
        asked = []

        def noted(source, recipe, size, *rest, **options):
            asked.append((recipe.randaugment_magnitude, size))
            raise Stop

        monkeypatch.setattr(data, "training", noted)
        with pytest.raises(Stop):
            diagnosis.first_not_finite(trainer, 0, trainer.stages[1])
        assert asked == [(7.5, 40)]


def test_the_sweep_of_rates_has_the_first_stage(tmp_path, toy_trainer, monkeypatch, capsys):
    monkeypatch.setattr(rate_finder, "Trainer", ToyTrainer)
    monkeypatch.setattr(rate_finder.plots, "rate_sweep", lambda *arguments: False)
    train.find_learning_rate(RECIPE, str(tmp_path / "rates.png"), CPU)
    assert "with images of 32 pixels, RandAugment 5, dropout 0 (stage 1)" in capsys.readouterr().out


def test_what_a_run_would_cost_counts_its_stages():
    recipe = dataclasses.replace(RECIPE, batch_size=1000, size_stages=4)
    lines = "\n".join(dry_run.describe(recipe, 8, 10_000))
    assert " at 48 pixels" in lines  # of the last stage: the memory that it takes
    plain = dataclasses.replace(
        recipe,
        progressive=False,
        start_image_size=None,
        train_image_size=None,
        start_dropout_rate=None,
    )
    assert "activations" in lines and "stages" not in "\n".join(dry_run.describe(plain, 8, 10_000))
    share = (32**2 + 40**2 * 2 + 48**2) / 4 / 48**2
    assert f"4 stages, of 32, 40, 40, 48 pixels: {share:.0%} of the multiply-adds" in lines


def test_a_dry_run_crosses_from_stage_to_stage():
    with dry_run._shrunken("b0"):
        first, second = stages.of_run(dry_run._small(RECIPE, 3, 2), 2.0)
        (only,) = stages.of_run(dry_run._small(tiny_net.recipe(), 3, 2), 2.0)
    assert (first.image_size, second.image_size, only.image_size) == (32, 48, 32)
    assert (first.first_step, second.first_step, second.end) == (0, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_runs_in_stages_that_are_killed(tmp_path, seed, undisturbed):
    """Real networks, in real processes: at random places, and where a stage begins."""
    place = processes.random_place(seed)
    if seed < 3:
        place = "stage", seed + 2, seed == 1  # the first is the trainer's own
    code, out = processes.run(tmp_path / "run", *STAGED, place=place)
    assert code in (0, -signal.SIGKILL), out[-3000:]
    code, out = processes.run(tmp_path / "run", *STAGED)
    assert code == 0, out[-3000:]
    assert_equal_runs(tmp_path / "run", undisturbed)


# 8 steps; the second of three stages begins within the second epoch.
STAGED = (
    *("--progressive", "--size_stages", "3", "--start_image_size", "32", "--image_size", "48"),
    *("--mixup_alpha", "0.4", "--cutmix_alpha", "0.4"),
    *("--start_dropout_rate", "0.1", "--dropout_rate", "0.4"),
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The directory of a run in a process."""
    workdir = tmp_path_factory.mktemp("undisturbed") / "run"
    code, out = processes.run(workdir, *STAGED)
    assert code == 0 and "Stage 3 of 3, steps 6 to 8: training images of 48" in out, out[-3000:]
    return workdir


@pytest.mark.slow
def test_several_replicas_go_from_stage_to_stage(mirrored):
    recipe = dataclasses.replace(RECIPE, augment="none", bn_sync="all")
    trainer = Trainer(recipe, data.open_source(recipe), mirrored)
    trainer.start()
    for stage in trainer.stages[1:]:
        trainer.begin_stage(stage)
        iterator = trainer.train_iterator(trainer.position, stage)
        trainer.train_steps(iterator, tf.constant(1))
    assert trainer.step == 2 and np.isfinite(trainer.rows_since(0)).all()
    assert trainer.evaluate()["eval_images"] == 40
