"""variants/variant_files.py: a variant as a file, which stands for a name."""

import dataclasses
import json

import pytest

from effnet_tf import variants
from effnet_tf.errors import InputError, SaveError
from effnet_tf.recipes import Recipe
from effnet_tf.variants import Stage, variant_files

OWN = dataclasses.replace(
    variants.VARIANTS["lite2"],
    name="a planned one",
    width_coefficient=1.0356964988793371,
    mean=(1.5, 2.0, 3.25),
    stages=(Stage(24, 2, 3, 2, 6, 16), Stage(40, 1, 5, 1, 4, 24, fused=True, skip=False)),
)


def test_every_row_is_what_it_was(tmp_path):
    for variant in (*variants.VARIANTS.values(), OWN):
        path = str(tmp_path / "own.json")
        variants.save_variant(variant, path)
        assert variants.read_variant(path) == variant == variants.find_variant(path)
        assert variants.find_variant(variants.to_json(variant)) == variant
        assert variants.resolve(path) == variants.resolve(variant)


def test_what_is_left_out_has_its_default():
    row = {"name": "mine", "width_coefficient": 1, "depth_coefficient": 1.1}
    row |= {"resolution": 96, "dropout_rate": 0.2}
    assert variant_files.from_json(json.dumps(row)) == variants.Variant("mine", 1, 1.1, 96, 0.2)


def changed(**changes):
    return json.dumps(json.loads(variants.to_json(OWN)) | changes)


STAGE = dataclasses.asdict(OWN.stages[0])


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "Expecting property name"),
        ("[]", "it is no JSON object"),
        ("[" * 100_000, "recursion"),
        (json.dumps({"name": "x"}), "the field 'width_coefficient' is missing"),
        (changed(widht=1), "no field 'widht'. Known: activation"),
        (changed(name=3), "name must be of type str, and is 3"),
        (changed(resolution=224.5), "resolution must be of type int, and is 224.5"),
        (changed(resolution=True), "resolution must be of type int, and is True"),
        (changed(width_coefficient=float("nan")), "width_coefficient must be a finite number"),
        (changed(mean=[1, 2]), "mean must be a list of 3 values"),
        (changed(mean=[1, 2, "3"]), r"mean\[2\] must be of type float"),
        (changed(stages=STAGE), "stages must be a list of values"),
        (changed(stages=[STAGE | {"depth": 1}]), r"stages\[0\]: there is no field 'depth'"),
        (changed(stages=[STAGE | {"skip": 1}]), r"stages\[0\]: skip must be of type bool"),
        (changed(stages=[{"filters": 8}]), r"stages\[0\]: the field 'repeats' is missing"),
    ],
)
def test_refuses(tmp_path, text, message):
    path = tmp_path / "own.json"
    path.write_text(text)
    with pytest.raises(
        InputError, match=f"The variant in '.*own.json' cannot be used: .*{message}"
    ):
        variants.find_variant(str(path))


def test_refuses_places(tmp_path):
    with pytest.raises(InputError, match="cannot be read: .*No such file"):
        variants.find_variant(str(tmp_path / "none.json"))
    with pytest.raises(InputError, match="must end with .json"):
        variants.save_variant(OWN, str(tmp_path / "own.txt"))
    with pytest.raises(SaveError, match="cannot be written"):
        variants.save_variant(OWN, str(tmp_path / "no" / "own.json"))
    assert list(tmp_path.iterdir()) == []


def test_a_recipe_keeps_the_content(tmp_path):
    """The run can be resumed and exported when the file has gone."""
    path = tmp_path / "own.json"
    variants.save_variant(OWN, str(path))
    recipe = Recipe(variant=str(path))
    path.unlink()
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe and again.resolved_variant() == OWN
