"""recipe.py and its sections: the paper's numbers, the file, and what is refused."""

import dataclasses
import json
import pathlib

import pytest

from effnet_tf import errors, recipes
from effnet_tf.recipes import RECIPES, Recipe
from effnet_tf.recipes.recipe import SECTIONS

REFERENCE = pathlib.Path(__file__).parents[1] / "reference"


def test_defaults_are_the_published_recipe():
    # FACTS.md 3.
    recipe = Recipe()
    assert (recipe.rmsprop_rho, recipe.momentum, recipe.rmsprop_epsilon) == (0.9, 0.9, 1e-3)
    assert (recipe.base_learning_rate, recipe.batch_size) == (0.016, 4096)
    assert recipe.learning_rate() == pytest.approx(0.256)
    assert (recipe.decay_rate, recipe.decay_epochs, recipe.warmup_epochs) == (0.97, 2.4, 5)
    assert (recipe.weight_decay, recipe.label_smoothing, recipe.ema_decay) == (1e-5, 0.1, 0.9999)
    assert (recipe.epochs, recipe.drop_connect_rate) == (350, 0.2)
    assert recipe.batch_norm_momentum == 0.99
    assert (recipe.crop_area_min, recipe.eval_crop_padding) == (0.08, 32)


def test_fields_keep_their_order_in_the_file():
    held = json.loads((REFERENCE / "held/run/recipe.json").read_text())
    names = [field.name for field in dataclasses.fields(Recipe)]
    assert [name for name in names if name in held] == list(held)
    assert list(json.loads(Recipe().to_json())) == names


def test_every_field_is_in_one_section():
    names = [field.name for section in SECTIONS for field in dataclasses.fields(section)]
    assert names == [field.name for field in dataclasses.fields(Recipe)]


@pytest.mark.parametrize("name", RECIPES)
def test_json_round_trip(name):
    assert Recipe.from_json(RECIPES[name].to_json()) == RECIPES[name]


@pytest.mark.parametrize("text", ["", "{", "[1]", "3"])
def test_json_that_is_damaged_is_refused(text):
    with pytest.raises(errors.InputError, match="not a JSON object"):
        Recipe.from_json(text)


def test_json_of_a_later_version_is_refused():
    with pytest.raises(errors.InputError, match="warp_factor"):
        Recipe.from_json('{"variant": "b0", "warp_factor": 9}')


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(variant="b99"), "no variant 'b99'"),
        (dict(image_size=31), "at least 32"),
        (dict(phi=-20.0), "without filters"),
        (dict(phi=1.0, gamma=1.0, image_size=16), "at least 32"),
    ],
)
def test_networks_that_cannot_be(change, message):
    with pytest.raises(errors.InputError, match=message):
        Recipe(**change).resolved_variant()


def test_image_size_overrides_the_resolution():
    assert Recipe(variant="b3").resolved_variant().resolution == 300
    assert Recipe(variant="b3", image_size=64).resolved_variant().resolution == 64
    assert Recipe(phi=1.0).resolved_variant().resolution == 258


def test_differences_name_the_fields():
    assert recipes.differences(Recipe(), Recipe(epochs=3, seed=1)) == [
        "epochs: 350 -> 3",
        "seed: 0 -> 1",
    ]


def test_what_does_not_change_the_result_may_change():
    changed = Recipe(data_dir="/moved", steps_per_loop=7, eval_batch_size=9, keep_checkpoints=1)
    assert recipes.differences(Recipe(), changed) == []


def test_freezing_random_weights_is_refused():
    for frozen in (dict(freeze_until="stage_5"), dict(batch_norm="frozen")):
        with pytest.raises(errors.InputError, match="would freeze random weights: give --init"):
            Recipe(**frozen)
    assert Recipe(freeze_until="stem").init_weights is None
