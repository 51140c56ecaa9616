"""recipes/: the paper's numbers, the options, and what is refused."""

import argparse
import dataclasses
import json
import pathlib

import pytest

from effnet_tf import errors, recipes
from effnet_tf.recipes import RECIPES, Recipe
from effnet_tf.recipes.recipe import SECTIONS

REFERENCE = pathlib.Path(__file__).parents[1] / "reference"


def parse(*arguments):
    parser = argparse.ArgumentParser()
    recipes.add_options(parser)
    return recipes.from_options(parser.parse_args(arguments))


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


def test_help_is_grouped_by_section():
    parser = argparse.ArgumentParser()
    recipes.add_options(parser)
    groups = {group.title: group for group in parser._action_groups}
    for title, option in (
        ("The network", "phi"),
        ("Fine-tuning", "body_rate"),
        ("The data", "holdout"),
        ("Augmentation", "mixup_alpha"),
        ("Optimisation", "momentum"),
        ("The loop", "seed"),
    ):
        assert groups[title].description[0].isupper()
        assert option in [action.dest for action in groups[title]._group_actions]


def test_every_field_is_in_one_section():
    names = [field.name for section in SECTIONS for field in dataclasses.fields(section)]
    assert names == [field.name for field in dataclasses.fields(Recipe)]


def test_every_field_is_an_option_with_help():
    for field in dataclasses.fields(Recipe):
        assert field.metadata["help"]
    given = parse(
        "--recipe",
        "imagenet",
        "--variant",
        "b3",
        "--phi",
        "-1.5",
        "--image_size",
        "64",
        "--no-flip",
        "--epochs",
        "3",
        "--dropout_rate",
        "none",
        "--data_dir",
        "/d",
    )
    assert given == dataclasses.replace(
        RECIPES["imagenet"],
        variant="b3",
        phi=-1.5,
        image_size=64,
        flip=False,
        epochs=3,
        data_dir="/d",
    )


@pytest.mark.parametrize(
    "arguments, name",
    [
        ((), "imagenet"),
        (("--dataset", "digits"), "digits"),
        (("--dataset", "folder"), "small"),
        (("--dataset", "cifar10"), "imagenet"),
    ],
)
def test_the_chosen_recipe_is_printed(arguments, name, capsys):
    chosen = parse(*arguments)
    assert dataclasses.replace(chosen, dataset="x") == dataclasses.replace(
        RECIPES[name], dataset="x"
    )
    assert f"Recipe '{name}'" in capsys.readouterr().out


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
        (dict(epochs=0), "epochs is 0; it must be at least 1"),
        (dict(label_smoothing=1.5), "between 0 and 1"),
        (dict(base_learning_rate=float("nan")), "finite"),
        (dict(precision="float16"), "one of auto, float32, mixed_bfloat16"),
        (dict(batch_size=-8), "batch_size"),
        (dict(seed=-1), "seed is -1"),
        (dict(seed=2**32), "seed"),
        (dict(crop_area_min=0.0), "crop_area_min"),
        (dict(decay_epochs=0.0), "decay_epochs"),
    ],
)
def test_values_out_of_range(change, message):
    with pytest.raises(errors.InputError, match=message):
        Recipe(**change)


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


def test_recipes_for_images_need_only_their_place():
    given = parse("--recipe", "small", "--data_dir", "photos")
    assert (given.dataset, given.data_dir) == ("folder", "photos")


def test_finetune_is_gentle_with_the_body():
    recipe = RECIPES["finetune"]
    assert (recipe.schedule, recipe.batch_norm, recipe.init_weights) == (
        "cosine",
        "frozen",
        "imagenet",
    )
    assert recipe.body_rate < 1


def test_freezing_random_weights_is_refused():
    for frozen in (dict(freeze_until="stage_5"), dict(batch_norm="frozen")):
        with pytest.raises(errors.InputError, match="would freeze random weights: give --init"):
            Recipe(**frozen)
    assert Recipe(freeze_until="stem").init_weights is None


def test_the_issues_command_parses():
    given = parse(
        "--recipe",
        "finetune",
        "--init_weights",
        "w.h5",
        "--num_classes",
        "5",
        "--freeze_until",
        "stage_5",
    )
    assert (given.init_weights, given.num_classes, given.freeze_until) == ("w.h5", 5, "stage_5")
    assert Recipe.from_json(given.to_json()) == given
