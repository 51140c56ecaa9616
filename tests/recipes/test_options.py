"""options.py: each field is an option, and the chosen recipe is said."""

import argparse
import dataclasses

import pytest

from effnet_tf import recipes, variants
from effnet_tf.recipes import RECIPES, Recipe


def parse(*arguments):
    parser = argparse.ArgumentParser()
    recipes.add_options(parser)
    return recipes.from_options(parser.parse_args(arguments))


def test_help_is_grouped_by_section():
    parser = argparse.ArgumentParser()
    recipes.add_options(parser)
    groups = {group.title: group for group in parser._action_groups}
    for title, option in (
        ("The network", "phi"),
        ("Fine-tuning", "body_rate"),
        ("The data", "holdout"),
        ("Augmentation", "mixup_alpha"),
        ("Progressive learning", "size_stages"),
        ("Optimisation", "momentum"),
        ("The loop", "seed"),
    ):
        assert groups[title].description[0].isupper()
        assert option in [action.dest for action in groups[title]._group_actions]


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


def test_a_file_says_its_own_size(tmp_path, capsys):
    """The recipes for digits have one, too, which would make another network of it."""
    path = str(tmp_path / "found.json")
    row = dataclasses.replace(variants.VARIANTS["mobilenet_v2"], resolution=64)
    variants.save_variant(row, path)
    found = parse("--recipe", "smoke", "--variant", path)
    assert found.resolved_variant() == row
    assert "not used of the recipe: --phi -8, --image_size 32." in capsys.readouterr().out
    asked = parse("--recipe", "smoke", "--variant", path, "--phi", "1", "--image_size", "96")
    assert (asked.phi, asked.resolved_variant().resolution) == (1, 96)
    assert "not used" not in capsys.readouterr().out
    assert parse("--recipe", "smoke", "--variant", "lite0").phi == RECIPES["smoke"].phi


def test_another_size_is_one_of_the_training_images_too(capsys):
    found = parse("--recipe", "imagenet-v2-s", "--image_size", "128")
    assert found.train_size() == found.resolved_variant().resolution == 128
    assert "not used of the recipe: --train_image_size 300." in capsys.readouterr().out
    asked = parse("--recipe", "imagenet-v2-s", "--image_size", "128", "--train_image_size", "96")
    assert asked.train_size() == 96
    assert parse("--recipe", "imagenet-v2-s", "--epochs", "9").train_size() == 300


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


def test_recipes_for_images_need_only_their_place():
    given = parse("--recipe", "small", "--data_dir", "photos")
    assert (given.dataset, given.data_dir) == ("folder", "photos")


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


class TestTheKindOfDataSet:
    def test_a_folder_is_one(self, tmp_path, capsys):
        given = parse("--data_dir", str(tmp_path))
        assert given == dataclasses.replace(RECIPES["small"], data_dir=str(tmp_path))
        assert "Data set 'folder' (chosen for --data_dir;" in capsys.readouterr().out
        assert parse("--data_dir", str(tmp_path / "not there")).dataset == "folder"

    def test_so_are_tables(self):
        for name in ("a.csv", "b.jsonl"):
            assert parse("--data_dir", name).dataset == "table"

    def test_it_is_never_guessed_against_a_word_of_the_user(self, tmp_path):
        (tmp_path / "tfds" / "imagenet2012").mkdir(parents=True)
        for options in (
            ("--data_dir", "gs://bucket/tfds"),
            ("--data_dir", str(tmp_path / "tfds")),
            ("--recipe", "imagenet", "--data_dir", str(tmp_path)),
        ):
            assert parse(*options).dataset == "imagenet2012"
        assert parse("--dataset", "digits", "--data_dir", str(tmp_path)).dataset == "digits"


@pytest.mark.parametrize("name", ["--lr", "--learning_rate"])
def test_the_rate_has_another_name_here(name, capsys):
    with pytest.raises(SystemExit):
        parse(name, "0.1")
    said = capsys.readouterr().err
    assert f"instead of {name} give --base_learning_rate, the rate per 256 images" in said
    assert "it is 0.1 x 256 / B" in said
