"""What is in the directory of a run, and who may write it?

    recipe.json      every hyper-parameter, written first
    classes.json     the class names, in the order of the labels
    checkpoints/     the newest checkpoints, see checkpoints.py
    metrics.jsonl    one line per epoch
    learning_curve.png, augmented.png, tensorboard/
    goodput.json     where the time went
    result.json      the last line of metrics.jsonl, once training is complete
    .lock, owner.json  which process writes here
"""

import contextlib
import json
import os
import uuid

import tensorflow as tf

from effnet_tf import checkpoints
from effnet_tf.config import InputError
from effnet_tf.recipe import Recipe, differences

RUN_FILES = ("recipe.json", "classes.json", "metrics.jsonl", "checkpoints", "learning_curve.png",
             "augmented.png", "tensorboard", "goodput.json", "result.json", "owner.json", ".lock")


@contextlib.contextmanager
def writing(path):
    """Turns the error of a write inside into a SaveError that names the path."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise checkpoints.SaveError(
            f"'{path}' cannot be written: {checkpoints.reason(error)}. Checkpoints are as they "
            "were; the same command then goes on from the newest.") from error


def write_text(path, text):
    """Writes a text file (local or gs://) whole or not at all.

    Raises:
        checkpoints.SaveError: it cannot be written.
    """
    with writing(path):
        temporary = f"{path}.tmp"
        with tf.io.gfile.GFile(temporary, "w") as file:
            file.write(text)
        tf.io.gfile.rename(temporary, path, overwrite=True)


def read_text(path):
    """Returns the text of a file, local or gs://."""
    with tf.io.gfile.GFile(path, "r") as file:
        return file.read()


def read_run(workdir):
    """Returns the (`Recipe`, class names) of a run directory.

    Raises:
        InputError: `workdir` is no run directory.
    """
    paths = [os.path.join(workdir, name) for name in ("recipe.json", "classes.json")]
    for path in paths:
        if not tf.io.gfile.exists(path):
            raise InputError(f"'{workdir}' is no run directory: it has no "
                             f"{os.path.basename(path)}. Train one: python train_tpu.py "
                             "--workdir ...")
    recipe, classes = map(read_text, paths)
    return Recipe.from_json(recipe), tuple(json.loads(classes))


@contextlib.contextmanager
def claimed(workdir, recipe, class_names):
    """Takes a run directory for this process, and writes the recipe into it.

    A new run that fails with nothing saved takes everything back.

    Yields:
        A function that raises InputError if another process has taken over.

    Raises:
        InputError: it is of another run, in use, or cannot be written.
    """
    is_new_directory = not tf.io.gfile.exists(workdir)
    is_new_run = not tf.io.gfile.exists(os.path.join(workdir, "recipe.json"))
    if is_new_run:
        _check_no_foreign_files(workdir)
    else:
        _check_same_run(workdir, recipe, class_names)
    with contextlib.ExitStack() as stack:
        try:
            tf.io.gfile.makedirs(workdir)
            check = stack.enter_context(_lock(workdir))
            write_text(os.path.join(workdir, "recipe.json"), recipe.to_json())
            write_text(os.path.join(workdir, "classes.json"), json.dumps(class_names) + "\n")
        except (tf.errors.OpError, OSError, checkpoints.SaveError) as error:
            raise InputError(f"The workdir '{workdir}' cannot be written: "
                             f"{checkpoints.reason(error)}.") from error
        try:
            yield check
        except BaseException:
            if is_new_run and not _has_progress(workdir):
                _remove_run(workdir, is_new_directory)
            raise


def _has_progress(workdir):
    newest = checkpoints.newest(os.path.join(workdir, "checkpoints"))
    return newest is not None and checkpoints.step_of(newest) > 0


@contextlib.contextmanager
def _lock(workdir):
    """Keeps other processes out; yields a function that raises InputError if one got in."""
    if "://" in workdir:
        yield _own(workdir)
        return
    import fcntl  # here: the rest works on systems without it
    with open(os.path.join(workdir, ".lock"), "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
        except BlockingIOError:
            raise InputError(f"Another process is training in '{workdir}': wait for it, or "
                             "choose another --workdir.") from None
        yield lambda: None


def _own(workdir):
    """Marks an object store's folder as ours: it has no locks, so the last to come wins."""
    path, mark = os.path.join(workdir, "owner.json"), uuid.uuid4().hex
    write_text(path, json.dumps({"owner": mark}) + "\n")

    def check():
        if json.loads(read_text(path))["owner"] != mark:
            raise InputError(f"Another process has taken over '{workdir}': this one stops, and "
                             "has written nothing since.")
    return check


def _check_no_foreign_files(workdir):
    """Refuses a directory that holds files by our names, which a run would overwrite."""
    for name in RUN_FILES[:-2]:
        if tf.io.gfile.exists(os.path.join(workdir, name)):
            raise InputError(f"The workdir '{workdir}' has '{name}' but no recipe.json: it is no "
                             "run directory of this program. Choose another --workdir.")


def _check_same_run(workdir, recipe, class_names):
    """Refuses to resume a run of another recipe or of other classes."""
    old_recipe, old_classes = read_run(workdir)
    changed = differences(old_recipe, recipe)
    if old_classes != tuple(class_names):
        changed.append(f"classes: {', '.join(old_classes)} -> {', '.join(class_names)}")
    if changed:
        raise InputError(f"The workdir '{workdir}' holds a run of another recipe "
                         f"({'; '.join(changed)}). Give the same options to resume it, or "
                         "another --workdir.")


def _remove_run(workdir, whole):
    """Removes what a new run wrote: `_check_no_foreign_files` says that all of it is ours."""
    for name in RUN_FILES if not whole else ("",):
        path = os.path.join(workdir, name)
        if tf.io.gfile.isdir(path):
            tf.io.gfile.rmtree(path)
        elif tf.io.gfile.exists(path):
            tf.io.gfile.remove(path)
