"""train_tpu.py: which recipe a command line means where a run has begun already."""

import dataclasses

import pytest

import train_tpu
from effnet_tf import data, recipes
from effnet_tf.errors import InputError
from effnet_tf.runs import going_on
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


class TestInitialWeightsOfARun:
    """A new run from the weights of another one needs its network."""

    def recipe(self, folder, *options):
        theirs = recipes.RECIPES["digits"]  # b0, scaled by phi -4, at 32 pixels
        (folder / "recipe.json").write_text(theirs.to_json())
        arguments = ["--workdir", str(folder / "new"), "--recipe", "finetune", *options]
        options = train_tpu.parse(["x", *arguments, "--init_weights", str(folder / "best")])
        found = recipes.from_options(options)
        return going_on.as_in_run(found, recipes.given(options)), theirs

    def test_takes_variant_and_size(self, tmp_path, capsys):
        found, theirs = self.recipe(tmp_path)
        assert found.resolved_variant() == theirs.resolved_variant()
        assert found.epochs == recipes.RECIPES["finetune"].epochs
        assert "Network b0-phi-4 at 32 pixels, as in the run" in capsys.readouterr().out

    def test_leaves_what_the_user_said(self, tmp_path):
        found, _ = self.recipe(tmp_path, "--variant", "b1", "--image_size", "64")
        assert (found.variant, found.phi, found.image_size) == ("b1", None, 64)
        found, _ = self.recipe(tmp_path, "--image_size", "64")
        assert (found.phi, found.image_size) == (-4.0, 64)

    def test_leaves_the_size_of_a_recipe_with_one_for_training(self, tmp_path):
        """ImageNet-21k has smaller images than what follows."""
        theirs = recipes.RECIPES["imagenet-v2-s-21k"]
        (tmp_path / "recipe.json").write_text(theirs.to_json())
        tuned = recipes.RECIPES["imagenet-v2-s-21k-ft1k"]
        recipe = dataclasses.replace(tuned, init_weights=str(tmp_path / "best"))
        found = going_on.as_in_run(recipe, {})
        assert found.resolved_variant().resolution == found.train_size() == 384

    def test_other_weights_say_nothing(self):
        recipe = recipes.RECIPES["finetune"]
        assert going_on.as_in_run(recipe, {}) is recipe


@pytest.mark.parametrize("dataset", ["folder", "table", "tfrecord"])
def test_a_data_set_on_disk_asks_for_its_place(dataset):
    recipe = dataclasses.replace(recipes.RECIPES["small"], dataset=dataset)
    with pytest.raises(InputError, match=f"'{dataset}' needs its place: give --data_dir, the "):
        data.open_source(recipe)
