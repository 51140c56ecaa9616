"""train_tpu.py: which recipe a command line means where a run has begun already."""

import dataclasses

import pytest

import train_tpu
from effnet_tf import recipes
from effnet_tf.errors import InputError
from tests.helpers import tiny_net

BEGUN = dataclasses.replace(recipes.RECIPES["small"], data_dir="/photos", epochs=30, seed=7)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "recipe.json").write_text(BEGUN.to_json([{"step": 3, "changed": ["seed: 1 -> 7"]}]))
    return str(tmp_path)


def recipe_of(*arguments):
    options = train_tpu.parse(["train_tpu.py", *arguments])
    return recipes.from_options(options, train_tpu._begun(options))


def test_the_directory_alone_says_all(run, capsys):
    assert recipe_of("--workdir", run) == BEGUN
    out = capsys.readouterr().out
    assert f"Goes on with the run in '{run}'." in out and "chosen" not in out


def test_options_change_it(run):
    assert recipe_of("--workdir", run, "--epochs", "40", "--extend").epochs == 40
    given = recipe_of("--workdir", run, "--dataset", "folder", "--data_dir", "/elsewhere")
    assert given == dataclasses.replace(BEGUN, data_dir="/elsewhere")


def test_a_recipe_says_all_of_it(run):
    assert recipe_of("--workdir", run, "--recipe", "small") == recipes.RECIPES["small"]


def test_without_a_run_it_asks_what_to_train_on(tmp_path):
    with pytest.raises(InputError, match="There is no run in .*/new' to go on with; .* --data_dir"):
        recipe_of("--workdir", str(tmp_path / "new"))
    assert recipe_of("--workdir", str(tmp_path / "new"), "--recipe", "digits").epochs == 16
    assert recipe_of("--dry_run").variant == "b0"


def test_what_has_no_use_together(capsys):
    for name in ("--extend", "--profile"):
        with pytest.raises(SystemExit):
            train_tpu.parse(["train_tpu.py", "--dry_run", name])
        assert f"{name} has no use with --dry_run" in capsys.readouterr().err


def test_a_recipe_that_is_extended_reads_as_it_was_written():
    recipe = tiny_net.recipe(extended_at=12)
    assert recipes.Recipe.from_json(recipe.to_json([{"step": 12, "changed": []}])) == recipe
