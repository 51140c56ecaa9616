"""With which recipe does a run go on, and what may an extension of it change?

An extension begins at the newest checkpoint: from there on the recipe is another one, and its
schedule counts anew. recipe.json then holds the new recipe, the step (`extended_at`), and in its
`history` what was changed. It is written whole before the first step, so that a process that is
killed before or after has either the old run or the extended one.
"""

import dataclasses
import os
from collections.abc import Mapping

from effnet_tf import programs, storage
from effnet_tf.errors import InputError
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe, differences, fixed_differences
from effnet_tf.runs import checkpoints, locate, texts

# The fields that say which network it is.
NETWORK = ("variant", "family", "phi", "alpha", "beta", "gamma")


def recipe_of(workdir: str) -> Recipe | None:
    """Returns the recipe of the run in a directory; None if there is none.

    Raises:
        InputError: its recipe.json is damaged.
    """
    path = os.path.join(workdir, "recipe.json")
    if not storage.exists(path):
        return None
    return texts.read_recipe(path)


def as_in_run(recipe: Recipe, given: Mapping[str, object]) -> Recipe:
    """Returns a recipe with the network and size of the run that its init_weights name.

    Args:
        recipe: a `Recipe`.
        given: {field: value} of what the user said: it is not touched.

    Raises:
        InputError: the run's recipe.json is damaged.
    """
    run = recipe.init_weights and locate.run_of(recipe.init_weights)
    if not run:
        return recipe
    theirs = texts.read_recipe(os.path.join(run, "recipe.json"))
    taken = {}
    if not set(given) & set(NETWORK):
        taken = {name: getattr(theirs, name) for name in NETWORK}
    # A recipe that has a size for training, such as that from ImageNet-21k on, means its own.
    if "image_size" not in given and recipe.train_image_size is None:
        taken["image_size"] = theirs.resolved_variant().resolution
    found = dataclasses.replace(recipe, **taken)
    if found != recipe:
        variant = found.resolved_variant()
        log.info(
            f"Network {variant.name} at {variant.resolution} pixels, as in the run '{run}' "
            "(--variant and --image_size take others)."
        )
    return found


def settled(recipe: Recipe, workdir: str, extend: bool, steps_per_epoch: float) -> Recipe:
    """Returns a recipe with the step at which the run in a directory was, or is now, extended.

    Args:
        recipe: what the run is to go on with.
        workdir: the directory of the run.
        extend: whether it may be another recipe than the run has.
        steps_per_epoch: not rounded.

    Raises:
        InputError: nothing can be extended there, or not by this.
    """
    old = recipe_of(workdir)
    if old is None:
        if extend:
            raise InputError(f"There is no run in '{workdir}' to extend: begin one without it.")
        return recipe
    recipe = dataclasses.replace(recipe, extended_at=old.extended_at)
    changed = differences(old, recipe)
    if not extend:
        return recipe  # same_run.py compares
    if not changed:
        log.info("Nothing to extend: the run has these options already, and goes on with them.")
        return recipe
    _check_fixed(workdir, old, recipe)
    step = _newest_step(workdir)
    _check_epochs(workdir, recipe, step, steps_per_epoch)
    log.info(
        f"Extends the run from step {step:,}, the newest checkpoint ({'; '.join(changed)}): a new "
        f"schedule over the {recipe.epochs - step / steps_per_epoch:g} epochs that are left, with "
        f"{recipe.warmup_epochs:g} of warm-up and a rate of up to {recipe.learning_rate():.4g}"
    )
    return dataclasses.replace(recipe, extended_at=step)


def _check_fixed(workdir, old, recipe):
    fixed = fixed_differences(old, recipe)
    if fixed:
        raise InputError(
            f"No extension of the run in '{workdir}' can change what its checkpoints depend on "
            f"({'; '.join(fixed)}): {_new_run(workdir)}."
        )


def _newest_step(workdir):
    prefix = checkpoints.newest(os.path.join(workdir, "checkpoints"))
    if prefix is None:
        return 0
    return checkpoints.step_of(prefix)


def _check_epochs(workdir, recipe, step, steps_per_epoch):
    if step >= round(recipe.epochs * steps_per_epoch):
        raise InputError(
            f"The run in '{workdir}' has made {step / steps_per_epoch:g} epochs already, and is to "
            f"have {recipe.epochs}: give more {_option('--epochs')} for all of it together."
        )


def ways(workdir: str, old: Recipe, new: Recipe) -> str:
    """Returns what to do where a run of one recipe is to go on with another one.

    Args:
        workdir: the directory of the run.
        old: its recipe.
        new: the other one.
    """
    same = "Without these changes the run goes on as it began"
    if fixed_differences(old, new):
        return f"{same}; {_new_run(workdir)}."
    extend = _option("--extend")
    return (
        f"{same}; with {extend} it goes on from its newest checkpoint with them, by a new "
        f"schedule; or {_new_run(workdir)}."
    )


def _new_run(workdir):
    return (
        f"for a new run from its weights give {_option('--init_weights')} '{workdir}' and "
        f"another {_option('--workdir')}"
    )


def _option(flag):
    """Returns how an option is called: as on the command line, or in Python."""
    if programs.is_running():
        return flag
    return {"--extend": "extend=True"}.get(flag, flag.removeprefix("--"))


def history(workdir: str, recipe: Recipe) -> list[dict]:
    """Returns the history for recipe.json: what it has, and this extension if it is one.

    Each entry is {"step": of the checkpoint it began with, "changed": ["epochs: 30 -> 40"]}.
    """
    path = os.path.join(workdir, "recipe.json")
    if not storage.exists(path):
        return []
    entries = texts.read_history(path)
    changed = [
        change
        for change in differences(texts.read_recipe(path), recipe)
        if not change.startswith("extended_at:")
    ]
    if changed:
        entries = [*entries, {"step": recipe.extended_at, "changed": changed}]
    return entries
