"""rate_finder.py: a sweep of the learning rate, its picture, and what it suggests."""

import numpy as np
import pytest
import tensorflow as tf

import train_tpu
from effnet_tf import train
from effnet_tf.train import rate_finder
from effnet_tf.train.step import GOOD, IMAGES, LOG_LENGTH, LOSS
from tests.helpers import tiny_net
from tests.helpers.toy_trainer import ToyTrainer

CPU = tf.distribute.OneDeviceStrategy("/cpu:0")
RECIPE = tiny_net.recipe(variant="tinier", base_learning_rate=0.016)
pytestmark = pytest.mark.usefixtures("tiny_variants")


class Valley(ToyTrainer):
    """Its loss is lowest at ten times the recipe's rate, and not finite far above."""

    def train_steps(self, iterator, count):
        for _ in range(int(count)):
            factor = float(self.optimizer.learning_rate(self.step)) / self.recipe.learning_rate()
            loss = 0.5 + (np.log10(factor) - 1) ** 2
            row = np.zeros(5)
            row[[LOSS, IMAGES, GOOD]] = 16 * loss, 16, factor < 90
            self.train_step.log[self.position % LOG_LENGTH].assign(row)
            self.train_step.position.assign_add(1)
            self.optimizer.iterations.assign_add(1)
        return 0.0


class Flat(Valley):
    """Its loss falls to the end."""

    def train_steps(self, iterator, count):
        super().train_steps(iterator, count)
        for each in range(int(count)):
            place = (self.position - 1 - each) % LOG_LENGTH
            self.train_step.log[place].assign([160.0 - self.position, 0, 16, 0, 1])
        return 0.0


def test_where_the_loss_is_lowest(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rate_finder, "Trainer", Valley)
    path = tmp_path / "new" / "rates.png"
    found = train.find_learning_rate(RECIPE, str(path), CPU)
    assert found == pytest.approx(0.16, rel=0.15)
    out = capsys.readouterr().out
    assert (
        f"Suggested: --base_learning_rate {found:g} (per 256 images; the recipe has 0.016)" in out
    )
    assert f"Drew loss over learning rate: {path}" in out
    image = tf.io.decode_png(path.read_bytes())
    assert image.shape[0] > 300 and (214, 39, 40) in set(
        map(tuple, image.numpy().reshape(-1, 4)[:, :3])
    )


def test_where_the_loss_only_falls_nothing_is_suggested(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(rate_finder, "Trainer", Flat)
    assert train.find_learning_rate(RECIPE, str(tmp_path / "rates.png"), CPU) is None
    out = capsys.readouterr().out
    assert "No rate is suggested: in this sweep, from 1.6e-05 to 1.6," in out
    assert "Suggested" not in out


def test_it_ends_where_the_loss_grows():
    losses = np.concatenate([np.full(30, 2.0), np.full(9, 20.0)])
    assert rate_finder._has_diverged(losses) and not rate_finder._has_diverged(losses[:30])
    assert rate_finder._has_diverged(np.array([2.0, np.nan]))


def test_every_decade_has_as_many_steps():
    sweep = rate_finder.Sweep(1e-3, 10.0, 5)
    assert [float(sweep(step)) for step in range(5)] == pytest.approx([1e-3, 1e-2, 0.1, 1, 10])


def test_it_does_not_begin_a_run(tmp_path, monkeypatch):
    """What the program trains afterwards in that folder is a new run."""
    monkeypatch.setattr(rate_finder, "Trainer", Valley)
    arguments = ["--recipe", "smoke", "--variant", "tinier", "--phi", "none", "--strategy", "cpu"]
    arguments += ["--dataset", "synthetic", "--workdir", str(tmp_path)]
    train_tpu.main(train_tpu.parse(["train_tpu.py", *arguments, "--find_learning_rate"]))
    assert [path.name for path in tmp_path.iterdir()] == ["learning_rates.png"]


@pytest.mark.slow
def test_a_real_network(tmp_path):
    recipe = tiny_net.recipe(variant="tinier", batch_size=32)
    found = train.find_learning_rate(recipe, str(tmp_path / "rates.png"), CPU)
    assert found is None or 1e-5 < found < 10
