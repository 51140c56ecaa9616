"""What is in the directory of a run, and who may write it?

    recipe.json      every hyper-parameter, written first
    classes.json     the class names, in the order of the labels
    source.json      the data set, and how many images it has
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
import json
import os
import re
import socket
import uuid

import tensorflow as tf

from effnet_tf import checkpoints, programs
from effnet_tf.errors import InputError, first_line
from effnet_tf.recipe import Recipe, differences

RUN_FILES = ("recipe.json", "classes.json", "source.json", "metrics.jsonl", "checkpoints",
             "learning_curve.png", "augmented.png", "tensorboard", "goodput.json", "result.json",
             "bad_examples.jsonl", "owner.json", ".lock")

@contextlib.contextmanager
def writing(path):
    """Turns the error of a write inside into a SaveError that names the path."""
    try:
        yield
    except (tf.errors.OpError, OSError) as error:
        raise checkpoints.SaveError(
            f"'{path}' cannot be written: {first_line(error)}. Checkpoints are as they "
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


def write_rows(path, rows):
    """Writes dicts as a file of JSON lines, whole or not at all; see `write_text`."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def read_rows(path):
    """Returns the dicts of a file of JSON lines; none if there is no such file.

    Raises:
        InputError: it is damaged.
    """
    if not tf.io.gfile.exists(path):
        return []
    try:
        return [dict(json.loads(line)) for line in read_text(path).splitlines()]
    except (ValueError, TypeError) as error:
        raise InputError(f"'{path}' is damaged ({error}): remove it.") from error


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
                             f"{os.path.basename(path)}. Train one: "
                             + programs.as_called("python train_tpu.py --workdir ..."))
    recipe, classes = map(read_text, paths)
    return Recipe.from_json(recipe), tuple(json.loads(classes))


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
    is_new_run = is_new(workdir)
    if is_new_run:
        _check_no_foreign_files(workdir)
    else:
        _check_same_run(workdir, recipe, source)
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
                _write_what_it_is(workdir, recipe, source)
            yield claim
        except BaseException:
            claim.take_back()
            raise


@contextlib.contextmanager
def _as_input_error(workdir):
    try:
        yield
    except (tf.errors.OpError, OSError, checkpoints.SaveError) as error:
        raise InputError(f"The workdir '{workdir}' cannot be written: "
                         f"{first_line(error)}.") from error


def _write_what_it_is(workdir, recipe, source):
    for name, text in (("recipe", recipe.to_json()),
                       ("classes", json.dumps(source.class_names) + "\n"),
                       ("source", json.dumps(_describe(source)) + "\n")):
        write_text(os.path.join(workdir, f"{name}.json"), text)


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
    return {"name": source.name, "num_train": source.num_train, "num_eval": source.num_eval}


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
            raise InputError(f"Another process is training in '{workdir}': wait for it, or "
                             "choose another --workdir.") from None
        yield lambda: None


def _own(workdir):
    """Marks an object store's folder as ours: it has no locks, so the last to come wins."""
    path, mark = os.path.join(workdir, "owner.json"), uuid.uuid4().hex
    write_text(path, json.dumps({"owner": mark}) + "\n")

    def check():
        if json.loads(read_text(path))["owner"] != mark:
            raise InputError(f"Another process has taken over '{workdir}': this one stops.")
    return check


def _check_no_foreign_files(workdir):
    """Refuses a directory that holds files by our names, which a run would overwrite."""
    for name in RUN_FILES[:-2]:
        if tf.io.gfile.exists(os.path.join(workdir, name)):
            raise InputError(f"The workdir '{workdir}' has '{name}' but no recipe.json: it is no "
                             "run directory of this program. Choose another --workdir.")


def _check_same_run(workdir, recipe, source):
    """Refuses to resume a run of another recipe, of other classes or other images."""
    changed = differences(
        Recipe.from_json(read_text(os.path.join(workdir, "recipe.json"))), recipe)
    # They follow recipe.json, and a killed process may have left it alone.
    if tf.io.gfile.exists(os.path.join(workdir, "classes.json")):
        old = read_run(workdir)[1]
        if old != tuple(source.class_names):
            changed.append(f"classes: {', '.join(old)} -> {', '.join(source.class_names)}")
    if tf.io.gfile.exists(os.path.join(workdir, "source.json")):
        old, new = json.loads(read_text(os.path.join(workdir, "source.json"))), _describe(source)
        changed += [f"{name}: {old[name]} -> {new[name]}" for name in ("num_train", "num_eval")
                    if old[name] != new[name]]
    if changed:
        raise InputError(f"The workdir '{workdir}' holds a run of another recipe "
                         f"({'; '.join(changed)}). Give the same options to resume it, or "
                         "another --workdir.")


def _names_in(folder):
    """Returns the names in a folder, without the slash that object stores add to folders."""
    if not tf.io.gfile.isdir(folder):
        return []
    return [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]


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
        (r"tensorboard", rf"events\.out\.tfevents\..*\.{re.escape(socket.gethostname())}"
                         rf"\.{os.getpid()}\..*"),
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
        print(f"'{workdir}' stays, because it holds files that this run did not write: "
              f"{', '.join(sorted(_names_in(workdir)))}.")


def _own_folders(workdir, pattern):
    """Returns the folders of a run that a row of `_own_files` names: the workdir for ""."""
    folders = [workdir]
    for part in filter(None, pattern.split("/")):
        folders = [os.path.join(folder, name) for folder in folders
                   for name in _names_in(folder) if re.fullmatch(part, name)]
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
