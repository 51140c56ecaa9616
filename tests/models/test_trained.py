"""load_run: the trained network of a run, with its class names."""

import json
import shutil

import numpy as np
import pytest

import effnet_tf
from effnet_tf.errors import InputError
from effnet_tf.runs import checkpoints
from tests.reference import make_held
from tests.reference.make_held import FAMILIES, HELD


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run that keeps its best checkpoint, in which one bias of the classifier is 1 higher."""
    for base in FAMILIES.values():
        monkeypatch.setitem(effnet_tf.VARIANTS, f"held-{base}", make_held.variant(base))
    workdir = shutil.copytree(HELD / "run", tmp_path / "run")
    recipe = json.loads((workdir / "recipe.json").read_text())
    (workdir / "recipe.json").write_text(json.dumps({**recipe, "keep": "best"}))
    values = checkpoints.read(checkpoints.newest(f"{workdir}/checkpoints"))
    name = "ema/predictions/bias"
    values[name] = values[name] + np.array([1, 0, 0], "float32")
    checkpoints.Store(f"{workdir}/best").save(1, values)
    return workdir


def biases(model):
    return model.get_layer("predictions").bias.numpy()


def test_one_call_gives_the_network(run, capsys):
    best, last = effnet_tf.load_run(run), effnet_tf.load_run(run, "last")
    names = tuple(json.loads((run / "classes.json").read_text()))
    assert best.class_names == last.class_names == names
    np.testing.assert_allclose(biases(best) - biases(last), [1, 0, 0], atol=1e-6)
    out = capsys.readouterr().out
    assert "of the best evaluation is taken, step 1" in out
    answer = best.predict(np.zeros((1, *best.input_shape[1:]), "float32"), verbose=0)
    assert answer.shape == (1, 3) and abs(answer.sum() - 1) < 1e-5


def test_so_does_load_model(run):
    model = effnet_tf.load_model(run)
    assert len(model.class_names) == 3
    np.testing.assert_array_equal(biases(model), biases(effnet_tf.load_run(run, "best")))


def test_what_is_not_there_is_a_sentence(run, tmp_path):
    shutil.rmtree(run / "best")
    effnet_tf.load_run(run)  # keeps none yet: the last one
    with pytest.raises(InputError, match="has no best checkpoint: it was trained without"):
        effnet_tf.load_run(run, "best")
    with pytest.raises(InputError, match="'first'; it must be 'best', 'last' or None"):
        effnet_tf.load_run(run, "first")
    with pytest.raises(InputError, match="is not a run directory"):
        effnet_tf.load_run(tmp_path)
