"""Who may write the directory of a run, and what stands in it before the first step?

taking_back.py lists what is in it.
"""

import contextlib
import dataclasses
import json
import os
import uuid
from collections.abc import Callable, Iterator

import tensorflow as tf

from effnet_tf import storage
from effnet_tf.data.source import Source
from effnet_tf.errors import InputError, SaveError, first_line
from effnet_tf.recipes import Recipe
from effnet_tf.runs import checkpoints, going_on, same_run, taking_back, texts


def is_new(workdir: str) -> bool:
    """Whether no run has begun in a directory: recipe.json is written first."""
    return not tf.io.gfile.exists(os.path.join(workdir, "recipe.json"))


@contextlib.contextmanager
def claimed(
    workdir: str, recipe: Recipe, source: Source, extend: bool = False
) -> Iterator["Claim"]:
    """Takes a run directory for this process, and writes the recipe into it.

    A new run that fails with nothing saved takes back what it wrote, and nothing else.

    Args:
        workdir: a directory, local or gs://.
        recipe: a `Recipe`.
        source: the images that it trains on.
        extend: whether the recipe may differ from that of the run there, see going_on.py.

    Yields:
        A `Claim`.

    Raises:
        InputError: it is of another run, in use, or cannot be written.
    """
    storage.check_place(workdir, "--workdir")
    is_new_run = is_new(workdir)
    if is_new_run:
        _check_new(workdir, recipe)
    described = same_run.describe(source)
    if not is_new_run:
        same_run.check(workdir, recipe, source, described, extend)
    foreign, made = storage.names(workdir), []
    with contextlib.ExitStack() as stack:
        try:
            with _as_input_error(workdir):
                made = taking_back.make_folders(workdir)
                check = stack.enter_context(_lock(workdir))
        except BaseException:
            taking_back.remove_while_empty(made)
            raise
        claim = Claim(workdir, check, foreign, made, is_new_run)
        try:
            with _as_input_error(workdir):
                _write_what_it_is(workdir, recipe, source, described)
            yield claim
        except BaseException:
            claim.take_back()
            raise


@contextlib.contextmanager
def _as_input_error(workdir):
    try:
        yield
    except (tf.errors.OpError, OSError, SaveError) as error:
        raise InputError(
            f"The workdir '{workdir}' cannot be written: {first_line(error)}."
        ) from error


def _write_what_it_is(workdir, recipe, source, described):
    recipe = dataclasses.replace(recipe, data_dir=_absolute(recipe.data_dir))
    for name, text in (
        ("recipe", recipe.to_json(going_on.history(workdir, recipe))),
        ("classes", texts.classes_text(source)),
        ("source", json.dumps(described) + "\n"),
    ):
        storage.write_text(os.path.join(workdir, f"{name}.json"), text)


def _absolute(path):
    """A data_dir that says the same from every folder: the run may be exported from another."""
    if not path or storage.is_remote(path) or path.startswith("~"):
        return path
    return os.path.abspath(path)


class Claim:
    """A run directory that this process writes; call it to be sure of that.

    Args:
        workdir: the directory.
        check: function that raises InputError if another process has taken over.
        foreign: names that were in it before.
        made: the folders that were made for it, the innermost first.
        is_new_run: whether it was no run directory before.
    """

    def __init__(
        self,
        workdir: str,
        check: Callable[[], None],
        foreign: list[str],
        made: list[str],
        is_new_run: bool,
    ) -> None:
        self._workdir, self._check = workdir, check
        self._foreign, self._made, self._is_new_run = foreign, made, is_new_run

    def __call__(self) -> None:
        self._check()

    def take_back(self) -> None:
        """Removes what a new run wrote, unless steps were saved or another process took over."""
        if self._is_new_run and self._is_ours() and not has_progress(self._workdir):
            taking_back.remove_run(self._workdir, self._foreign, self._made)

    def _is_ours(self):
        try:
            self._check()
            return True
        except InputError:
            return False


def has_progress(workdir: str) -> bool:
    """Whether a run directory has a checkpoint of a step that was made."""
    complete = checkpoints.committed(os.path.join(workdir, "checkpoints"))
    return any(checkpoints.step_of(folder) for folder in complete)


@contextlib.contextmanager
def _lock(workdir):
    """Keeps other processes out; yields a function that raises InputError if one got in."""
    if "://" in workdir:
        yield _own(workdir)
        return
    import fcntl  # here: the rest works on systems without it

    with open(os.path.join(workdir, ".lock"), "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
        except BlockingIOError:
            raise InputError(
                f"Another process is training in '{workdir}': wait for it, or "
                "choose another --workdir."
            ) from None
        yield lambda: None


def _own(workdir):
    """Marks an object store's folder as ours: it has no locks, so the last to come wins."""
    path, mark = os.path.join(workdir, "owner.json"), uuid.uuid4().hex
    storage.write_text(path, json.dumps({"owner": mark}) + "\n")

    def check():
        found = texts.read_json(path, "another process may write here; run the command again")
        if found != {"owner": mark}:
            raise InputError(f"Another process has taken over '{workdir}': this one stops.")

    return check


def _check_new(workdir, recipe):
    """Refuses a directory that holds files by our names, which a run would overwrite."""
    if recipe.init_weights:
        storage.check_place(recipe.init_weights, "--init_weights")
    for name in taking_back.RUN_FILES[:-2]:
        if tf.io.gfile.exists(os.path.join(workdir, name)):
            raise InputError(
                f"The workdir '{workdir}' has '{name}' but no recipe.json, so it is not "
                "a run directory of this program. Choose another --workdir."
            )
