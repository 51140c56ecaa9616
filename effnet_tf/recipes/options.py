"""How does a command line describe a recipe, and the devices that it is trained on?

Each field of `Recipe` is an option of the same name; `--help` shows them by section.
"""

import argparse
import dataclasses
import os
import types
import typing
from collections.abc import Callable
from typing import Any

from effnet_tf import programs, variants
from effnet_tf.messages import log
from effnet_tf.recipes.recipe import SECTIONS, Recipe
from effnet_tf.recipes.shipped import ABOUT, RECIPES

# The choices of --strategy; train/strategy.py makes them, and needs TensorFlow.
STRATEGIES = ("auto", "tpu", "mirrored", "multiworker", "cpu")


def default_recipe_name(dataset: str | None) -> str:
    """Returns the name of the recipe that suits a data set, for a user who named none."""
    return {"digits": "digits", "folder": "small", "table": "small"}.get(dataset or "", "imagenet")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds `--recipe` and one option per field of `Recipe` to an argparse parser."""
    parser.add_argument(
        "--recipe",
        choices=sorted(RECIPES),
        default=None,
        help="the recipe that the other options change; by default the one that suits "
        "--dataset (printed)",
    )
    # What other programs call it means something else there.
    parser.add_argument(
        "--lr",
        "--learning_rate",
        action=_PerImages,
        help=argparse.SUPPRESS,
        default=argparse.SUPPRESS,
    )
    for section in SECTIONS:
        title, _, line = (section.__doc__ or section.__name__).partition(": ")
        group = parser.add_argument_group(title, line[:1].upper() + line[1:])
        hints = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            if not field.metadata["option"]:
                continue
            _add_option(group, field, hints[field.name])


class _PerImages(argparse.Action):
    """Says of other programs' --lr what to give here."""

    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(
            f"instead of {option_string} give --base_learning_rate, the rate per 256 images of a "
            f"batch: for {values} at --batch_size B it is {values} x 256 / B"
        )


def _add_option(group, field, annotation):
    flag, choices = f"--{field.name}", field.metadata["choices"]
    # A default would hide whether the user gave the option: leave it out.
    common = dict(default=argparse.SUPPRESS, help=field.metadata["help"].replace("%", "%%"))
    if annotation is bool:
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    elif choices:
        group.add_argument(flag, choices=choices, **common)
    else:
        kind = _option_type(annotation)
        group.add_argument(flag, type=kind, metavar=field.name.upper(), **common)


def _option_type(annotation) -> Callable[[str], object]:
    """Returns a parser for an annotation such as `int` or `float | None`."""
    if not isinstance(annotation, types.UnionType):
        return annotation
    inner = next(kind for kind in typing.get_args(annotation) if kind is not type(None))

    def optional(text):
        if text.lower() == "none":
            return None
        return inner(text)

    optional.__name__ = inner.__name__  # argparse names it in its messages
    return optional


def given(options: argparse.Namespace) -> dict[str, Any]:
    """Returns {field of `Recipe`: value} of the options that were given."""
    return {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(Recipe)
        if hasattr(options, field.name)
    }


def from_options(options: argparse.Namespace, begun: Recipe | None = None) -> Recipe:
    """Returns the `Recipe` that parsed options describe, and says which was chosen.

    Args:
        options: the namespace of a parser that `add_options` filled.
        begun: the recipe of a run that is to go on: what no option says is as there. A
            --recipe says all of it.

    Raises:
        InputError: a value outside its legal range.
    """
    if begun is not None and options.recipe is None:
        return dataclasses.replace(begun, **given(options))
    changes, name = given(options), options.recipe
    if name is None and "dataset" not in changes:
        changes |= _dataset_at(changes.get("data_dir"))
    if name is None:
        name = default_recipe_name(changes.get("dataset"))
        log.info(f"Recipe '{name}' (chosen for the data set; --recipe takes another one).")
    log.info(programs.as_called(f"{name}: {ABOUT[name]}"))
    given_up = _sizes_given_up(RECIPES[name], changes) | _train_size_given_up(
        RECIPES[name], changes
    )
    return dataclasses.replace(RECIPES[name], **given_up, **changes)


def _sizes_given_up(recipe, changes):
    """Returns {field: None} of a recipe's sizes, where --variant is a file: it has its own.

    What was planned for a budget, or found by a search, would else be another network.
    """
    path = changes.get("variant") or ""
    if not path.endswith(variants.SUFFIX):
        return {}
    names = [name for name in ("phi", "image_size") if name not in changes]
    names = [name for name in names if getattr(recipe, name) is not None]
    if names:
        values = ", ".join(f"--{name} {getattr(recipe, name):g}" for name in names)
        log.info(f"{path} says how large the network is; not used of the recipe: {values}.")
    return dict.fromkeys(names)


def _train_size_given_up(recipe, changes):
    """Returns {field: None} of a recipe's training size, where the user gave another image_size.

    It is meant for the recipe's own size; what the user gave may be smaller.
    """
    size = recipe.train_image_size
    if size is None or "image_size" not in changes or "train_image_size" in changes:
        return {}
    log.info(
        f"Training images get --image_size, too: not used of the recipe: --train_image_size {size}."
    )
    return {"train_image_size": None}


def _dataset_at(place):
    """Returns {"dataset": what kind there is at a place} where nobody said it; {} if unknown.

    A folder that holds the default's data set is that of TFDS, and so may be anything remote.
    """
    if place is None or "://" in place:
        return {}
    if place.endswith((".csv", ".jsonl")):
        kind = "table"
    elif os.path.isdir(os.path.join(place, Recipe.dataset)):
        return {}
    else:
        kind = "folder"
    log.info(f"Data set '{kind}' (chosen for --data_dir; --dataset takes another one).")
    return {"dataset": kind}
