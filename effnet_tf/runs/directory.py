"""What is in the directory of a run, and who may write it?

recipe.json      every hyper-parameter, written first
classes.json     the class names, in the order of the labels
source.json      the data set: how many images it has, and its fingerprint
checkpoints/     the newest checkpoints, see checkpoints.py
metrics.jsonl    one line per epoch
bad_examples.jsonl  images that could not be used, and why; with several workers, of the
                 first; bad_examples-N.jsonl is of the others
learning_curve.png, augmented.png, tensorboard/
goodput.json     where the time went
result.json      the last line of metrics.jsonl, once training is complete
.lock, owner.json  which process writes here
"""

import contextlib
import dataclasses
import json
import os
import re
import socket
import uuid

import tensorflow as tf

from effnet_tf import storage
from effnet_tf.data import fingerprint
from effnet_tf.errors import InputError, SaveError, first_line
from effnet_tf.recipes import differences
from effnet_tf.runs import checkpoints, texts

RUN_FILES = (
    "recipe.json",
    "classes.json",
    "source.json",
    "metrics.jsonl",
    "checkpoints",
    "learning_curve.png",
    "augmented.png",
    "tensorboard",
    "goodput.json",
    "result.json",
    "bad_examples.jsonl",
    "owner.json",
    ".lock",
)


def is_new(workdir: str) -> bool:
    """Whether no run has begun in a directory: recipe.json is written first."""
    return not tf.io.gfile.exists(os.path.join(workdir, "recipe.json"))


@contextlib.contextmanager
def claimed(workdir, recipe, source):
    """Takes a run directory for this process, and writes the recipe into it.

    A new run that fails with nothing saved takes back what it wrote, and nothing else.

    Args:
        workdir: a directory, local or gs://.
        recipe: a `Recipe`.
        source: a `data.Source`.

    Yields:
        A `Claim`.

    Raises:
        InputError: it is of another run, in use, or cannot be written.
    """
    storage.check_place(workdir, "--workdir")
    is_new_run = is_new(workdir)
    if is_new_run and recipe.init_weights:
        storage.check_place(recipe.init_weights, "--init_weights")
    described = _describe(source)
    if is_new_run:
        _check_no_foreign_files(workdir)
    else:
        _check_same_run(workdir, recipe, source, described)
    foreign, made = _names_in(workdir), []
    with contextlib.ExitStack() as stack:
        try:
            with _as_input_error(workdir):
                made = _make_folders(workdir)
                check = stack.enter_context(_lock(workdir))
        except BaseException:
            _remove_while_empty(made)
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
        ("recipe", recipe.to_json()),
        ("classes", json.dumps(source.class_names) + "\n"),
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

    def __init__(self, workdir, check, foreign, made, is_new_run):
        self._workdir, self._check = workdir, check
        self._foreign, self._made, self._is_new_run = foreign, made, is_new_run

    def __call__(self):
        self._check()

    def take_back(self):
        """Removes what a new run wrote, unless steps were saved or another process took over."""
        if self._is_new_run and self._is_ours() and not has_progress(self._workdir):
            _remove_run(self._workdir, self._foreign, self._made)

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


def _describe(source):
    return {
        "name": source.name,
        "num_train": source.num_train,
        "num_eval": source.num_eval,
        "fingerprint": fingerprint.of(source),
    }


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


def _check_no_foreign_files(workdir):
    """Refuses a directory that holds files by our names, which a run would overwrite."""
    for name in RUN_FILES[:-2]:
        if tf.io.gfile.exists(os.path.join(workdir, name)):
            raise InputError(
                f"The workdir '{workdir}' has '{name}' but no recipe.json: it is not "
                "a run directory of this program. Choose another --workdir."
            )


def _check_same_run(workdir, recipe, source, described):
    """Refuses to resume a run of another recipe, of other classes or other images."""
    options = differences(texts.read_recipe(os.path.join(workdir, "recipe.json")), recipe)
    _refuse(workdir, "of another recipe", options, "Give the same options to resume it")
    # They follow recipe.json, and a killed process may have left it alone.
    path = os.path.join(workdir, "classes.json")
    if storage.exists(path):
        changed = _other_classes(texts.read_classes(path), tuple(source.class_names))
        _refuse(workdir, "on other data", changed, "Give the classes it began with to resume it")
    path = os.path.join(workdir, "source.json")
    if storage.exists(path):
        changed = _other_images(path, source, described, _listed_as_bad(workdir))
        _refuse(
            workdir,
            "on other data",
            changed,
            "Give the images it began with to resume it, "
            f"remove '{path}' to go on with these in spite of that",
        )


def _refuse(workdir, what, changed, remedy):
    if changed:
        raise InputError(
            f"The workdir '{workdir}' holds a run {what} ({'; '.join(changed)}). "
            f"{remedy}, or choose another --workdir."
        )


def _other_classes(old, new):
    """Says how two lists of class names differ, in a list of at most one sentence."""
    if old == new:
        return []
    parts = [
        f"{verb} {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for verb, names in (
            ("added", [name for name in new if name not in old]),
            ("removed", [name for name in old if name not in new]),
        )
        if names
    ]
    return [f"classes: {' and '.join(parts) or 'another order'}"]


def _other_images(path, source, new, bad):
    """Says how the images of source.json differ from those of now, in a list of phrases."""
    old = texts.read_source(path)
    changed = [
        f"{name}: {old[name]} -> {new[name]}"
        for name in ("num_train", "num_eval")
        if old[name] != new[name]
    ]
    before = old.get("fingerprint")
    if before is None:  # written before there were any
        return changed
    if not fingerprint.is_one(before):
        raise texts.Damaged(path, "its fingerprint is not one", texts.ANEW)
    return changed + fingerprint.differences(
        before, new["fingerprint"], source.class_names, source, bad
    )


def _listed_as_bad(workdir):
    """Returns the (split, number) of the images that the run has listed as bad, on any worker."""
    return {
        (row.get("split"), row.get("record"))
        for name in storage.names(workdir)
        if re.fullmatch(r"bad_examples(-\d+)?\.jsonl", name)
        for row in texts.read_rows(os.path.join(workdir, name))
    }


def _names_in(folder):
    """Returns the names in a folder, without the slash that object stores add to folders."""
    return storage.names(folder)


def _make_folders(workdir):
    """Makes a folder and those above it; returns the new ones, the innermost first."""
    made, folder = [], workdir.rstrip("/")
    while folder and "://" not in workdir and not os.path.lexists(folder):
        made.append(folder)
        folder = os.path.dirname(folder)
    if "://" in workdir and not tf.io.gfile.exists(workdir):
        made.append(folder)
    tf.io.gfile.makedirs(workdir)
    return made


def _own_files():
    """What this process writes: patterns of folders below the workdir, and of files in them."""
    top = "|".join(re.escape(name) for name in RUN_FILES[1:]) + r"|bad_examples-\d+\.jsonl"
    return (
        # .index, .data-00000-of-00001, and where TensorFlow writes them first.
        (r"checkpoints/\d+(-\d+)?/state.*_temp", r"part-.*"),
        (r"checkpoints/\d+(-\d+)?", rf"{checkpoints.PREFIX}\..*|{checkpoints.MANIFEST}(\.tmp)?"),
        (r"checkpoints", r"(?!)"),  # no file: only those folders
        # Host and process are in the names of TensorBoard's files.
        (r"tensorboard/plugins/profile/[\d_]+", rf"{re.escape(socket.gethostname())}\.xplane\.pb"),
        (r"tensorboard/plugins/profile", r"(?!)"),
        (r"tensorboard/plugins", r"(?!)"),
        (
            r"tensorboard",
            rf"events\.out\.tfevents\..*\.{re.escape(socket.gethostname())}"
            rf"\.{os.getpid()}\..*",
        ),
        ("", rf"({top})(\.tmp)?"),
        ("", r"recipe\.json(\.tmp)?"),  # last: without it the rest looks like somebody else's
    )


def _remove_run(workdir, foreign, made):
    """Removes what a new run wrote, file by file, and the folders that are empty then.

    Args:
        workdir: of the run.
        foreign: names that were in it before.
        made: the folders that the run made for it, the innermost first.
    """
    for folder, files in _own_files():
        for home in _own_folders(workdir, folder):
            for name in _names_in(home):
                path = os.path.join(home, name)
                theirs = home == workdir and name in foreign
                if re.fullmatch(files, name) and not theirs and not tf.io.gfile.isdir(path):
                    tf.io.gfile.remove(path)
            if home != workdir:
                _remove_if_empty(home)
    _remove_while_empty(made)
    if made and tf.io.gfile.exists(workdir):
        print(
            f"'{workdir}' stays, because it holds files that this run did not write: "
            f"{', '.join(sorted(_names_in(workdir)))}."
        )


def _own_folders(workdir, pattern):
    """Returns the folders of a run that a row of `_own_files` names: the workdir for ""."""
    folders = [workdir]
    for part in filter(None, pattern.split("/")):
        folders = [
            os.path.join(folder, name)
            for folder in folders
            for name in _names_in(folder)
            if re.fullmatch(part, name)
        ]
    return [folder for folder in folders if tf.io.gfile.isdir(folder)]


def _remove_while_empty(folders):
    """Removes folders, the innermost first, up to the first that holds something."""
    for folder in folders:
        if not _remove_if_empty(folder):
            return


def _remove_if_empty(folder):
    """Removes a folder that holds nothing; returns whether it did."""
    if _names_in(folder):
        return False
    if "://" in folder:
        tf.io.gfile.rmtree(folder)
        return True
    try:
        os.rmdir(folder)  # refuses by itself what somebody has put there since
    except OSError:
        return False
    return True
