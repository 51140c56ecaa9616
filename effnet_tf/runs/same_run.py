"""Is a run directory of the same recipe, classes and images as the run that wants to go on?"""

import hashlib
import os
import re

import numpy as np

from effnet_tf import storage
from effnet_tf.data import changes, fingerprint
from effnet_tf.data.source import Source
from effnet_tf.errors import InputError
from effnet_tf.recipes import Recipe, differences
from effnet_tf.runs import going_on, texts

OTHER = "or choose another --workdir."


def describe(source: Source) -> dict:
    """Returns what source.json says of a data set: numbers of images, and a fingerprint."""
    found = {
        "name": source.name,
        "num_train": source.num_train,
        "num_eval": source.num_eval,
        "fingerprint": fingerprint.of(source),
    }
    if source.label_sets is not None:  # what the labels in the fingerprint mean
        content = np.packbits(source.label_sets, -1).tobytes()
        found["label_sets"] = hashlib.sha256(content).hexdigest()[:32]
    return found


def check(
    workdir: str, recipe: Recipe, source: Source, described: dict, extend: bool = False
) -> None:
    """Refuses to resume a run of another recipe, of other classes or other images.

    Args:
        workdir: the directory of the run.
        recipe: what the run is to go on with.
        source: the images that it is to go on with.
        described: what `describe` says of them.
        extend: whether the recipe may be another one: going_on.py has checked it.

    Raises:
        InputError: they are others than those the run began with; says which.
    """
    old = texts.read_recipe(os.path.join(workdir, "recipe.json"))
    options = differences(old, recipe)
    if options and not extend:
        _refuse(workdir, "of another recipe", options, going_on.ways(workdir, old, recipe))
    # They follow recipe.json, and a killed process may have left it alone.
    path = os.path.join(workdir, "classes.json")
    if storage.exists(path):
        changed = _other_classes(texts.read_classes(path), tuple(source.class_names))
        _refuse(
            workdir,
            "on other data",
            changed,
            f"Give the classes it began with to resume it, {OTHER}",
        )
    path = os.path.join(workdir, "source.json")
    if storage.exists(path):
        changed = _other_images(path, source, described, _listed_as_bad(workdir))
        _refuse(
            workdir,
            "on other data",
            changed,
            "Give the images it began with to resume it, "
            f"remove '{path}' to go on with these anyway, {OTHER}",
        )


def _refuse(workdir, what, changed, remedy):
    if changed:
        raise InputError(
            f"The workdir '{workdir}' holds a run {what} ({'; '.join(changed)}). {remedy}"
        )


def _other_classes(old, new):
    """Says how two lists of class names differ, in a list of at most one sentence."""
    if old == new:
        return []
    added = [name for name in new if name not in old]
    removed = [name for name in old if name not in new]
    parts = [*_first_names("added", added), *_first_names("removed", removed)]
    return [f"classes: {' and '.join(parts) or 'another order'}"]


def _first_names(verb, names):
    """Says what has become of some names, in a list of at most one phrase."""
    if not names:
        return []
    listed = ", ".join(names[:5])
    if len(names) > 5:
        listed += ", ..."
    return [f"{verb} {listed}"]


def _other_images(path, source, new, bad):
    """Says how the images of source.json differ from those of now, in a list of phrases."""
    old = texts.read_source(path)
    changed = [
        f"{name}: {old[name]} -> {new[name]}"
        for name in ("num_train", "num_eval")
        if old[name] != new[name]
    ]
    if old.get("label_sets") != new.get("label_sets"):
        return [*changed, "other combinations of names"]
    before = old.get("fingerprint")
    if before is None:  # written before there were any
        return changed
    if not fingerprint.is_one(before):
        raise texts.Damaged(path, "its fingerprint is not one", texts.ANEW)
    names = tuple(map(source.label_name, range(source.num_labels)))
    return changed + changes.differences(before, new["fingerprint"], names, source, bad)


def _listed_as_bad(workdir):
    """Returns the (split, number) of the images that the run has listed as bad, on any worker."""
    return {
        (row.get("split"), row.get("record"))
        for name in storage.names(workdir)
        if re.fullmatch(r"bad_examples(-\d+)?\.jsonl", name)
        for row in texts.read_rows(os.path.join(workdir, name))
    }
