"""Runs in directories whose names are patterns: trained, resumed, loaded, as any other."""

import dataclasses
import json
import os

import numpy as np
import pytest

import effnet_tf
from effnet_tf import train
from effnet_tf.errors import InputError
from effnet_tf.runs import texts
from effnet_tf.train.strategy import choose_strategy
from tests.helpers import hostile, tiny_net


def test_a_run_is_resumed_and_loaded_from_any_directory(tmp_path):
    """One run in all hostile names at once, moved on from one to the other."""
    recipe = tiny_net.recipe(variant="tinier", epochs=2)
    workdir = tmp_path / "[0-9] a*b?c\\d {x} 100% $\\frac{$" / "run[1]"
    with tiny_net.registered():
        strategy = choose_strategy("cpu")
        for _ in range(2):  # trains, and finds that it is complete
            metrics = train.run(recipe, str(workdir), strategy)
        assert sorted(os.listdir(workdir.parent)) == ["run[1]"]
        model = effnet_tf.model_fn("tinier", 3)
        before = model.get_weights()
        assert effnet_tf.load_weights(model, workdir).exact
        assert any((one != other).any() for one, other in zip(before, model.get_weights()))
        first = model.get_weights()
        for name in hostile.NAMES:
            moved = workdir.parent / name
            os.rename(workdir, moved)
            workdir = moved
            model.set_weights(before)
            effnet_tf.load_weights(model, workdir)
            for one, other in zip(first, model.get_weights()):
                np.testing.assert_array_equal(one, other)
        (workdir / "result.json").unlink()
        assert train.run(recipe, str(workdir), strategy) == metrics
        assert json.loads((workdir / "result.json").read_text()) == metrics
        damaged = dataclasses.replace(recipe, seed=7)
        with pytest.raises(InputError, match="another recipe .seed: 0 -> 7"):
            train.run(damaged, str(workdir), strategy)


@pytest.mark.parametrize(
    "workdir, sentence",
    [
        (f"/tmp/{hostile.NOT_UTF8}/run", "its name is not UTF-8"),
        ("s3://bucket/run", "knows no s3://"),
        ("https://host/run", "knows no https://"),
    ],
)
def test_places_that_cannot_be_are_refused_before_the_data_are_opened(workdir, sentence):
    recipe = dataclasses.replace(tiny_net.recipe(), variant="b0", dataset="no such thing")
    for refused in (lambda: train.run(recipe, workdir), lambda: texts.read_run(workdir)):
        with pytest.raises(InputError, match=f"^--workdir '.*{sentence}"):
            refused()


def test_weights_from_a_place_that_cannot_be(tmp_path):
    recipe = dataclasses.replace(tiny_net.recipe(variant="b0"), init_weights="s3://bucket/b0")
    with pytest.raises(InputError, match="^--init_weights 's3://bucket/b0' .*knows no s3://"):
        train.run(recipe, str(tmp_path / "run"), choose_strategy("cpu"))
    assert not (tmp_path / "run").exists()
