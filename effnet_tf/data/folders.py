"""How is a folder of image files opened: one folder per class, or such folders in parts?

A folder called train, Valid, testing and so on is never taken for a class in silence.
"""

import collections
import os

import tensorflow as tf

from effnet_tf import local_files, storage
from effnet_tf.data import splits
from effnet_tf.data.records import Listed
from effnet_tf.data.source import Source
from effnet_tf.errors import InputError, first_line
from effnet_tf.messages import log
from effnet_tf.recipes import Recipe


def open_folder(recipe: Recipe) -> Source:
    """Opens the folder `data_dir` of a `Recipe`: see `_parts` for what may be in it."""
    root = recipe.data_dir
    if not root or not storage.is_folder(root):
        raise InputError(
            f"--dataset folder needs --data_dir, a folder with one folder of images "
            f"per class; '{root}' is not a folder."
        )
    tree = _tree(root)
    tree.enter(root)
    train_name, eval_name = _parts(root, tree.folders(root), recipe)
    parts = [os.path.join(root, train_name or "")]
    if eval_name is not None:
        parts.append(os.path.join(root, eval_name))
    try:
        class_names, train, *held_out = _read_parts(tree, root, parts)
    finally:
        for line in tree.report():
            log.info(line)
    how = f"folders {train_name}/ and {eval_name}/"
    if eval_name is not None:
        (held_out,) = held_out
    else:
        train, held_out = _divided(root, train, recipe.holdout)
        how = _said(train_name, recipe.holdout)
    return Source(
        f"Folder '{root}' ({how})",
        tuple(class_names),
        Listed(train, paths=True),
        Listed(held_out, paths=True),
    )


def _tree(root):
    """What walks the folders of a data set."""
    if storage.is_remote(root):
        return _Remote()
    return local_files.Walk()


def _said(train_name, fraction):
    """Says how a part to evaluate on was drawn."""
    how = f"{100 * fraction:g}% of each class held out by a hash of the file name"
    if train_name:
        return f"folder {train_name}/, {how}"
    return how


def _divided(root, rows, fraction):
    keys = [os.path.relpath(path, root).replace(os.sep, "/") for path, _ in rows]
    return splits.divide(rows, keys, [label for _, label in rows], fraction)


# --- classes or parts? ------------------------------------------------------------------------


def _parts(root, names, recipe):
    """Returns the names of the folders to train and to evaluate on; None, None: all are classes.

    Parts are folders with names of parts that hold folders of classes. The one to evaluate on
    may be missing: it is then drawn. Whatever else has the name of a part is refused, unless
    --num_classes says that each folder is a class.
    """
    where = f"Folder '{root}'"
    if recipe.train_split or recipe.eval_split:
        return _asked_for(root, names, recipe)
    # Of many classes only those with the name of a part: others are not parts.
    looked_at = [name for name in names if _is_part(name) or len(names) <= 3]
    with_classes = [name for name in looked_at if _holds_classes(os.path.join(root, name))]
    train, held_out = splits.choose(with_classes, recipe, where)
    flat = [name for name in names if _is_part(name) and name not in with_classes]
    others = [name for name in names if name not in with_classes and name not in flat]
    others += [name for name in with_classes if not _is_part(name)]
    if train and (held_out or not others):
        if flat or others:
            log.info(f"{where}: training on {train}/; not used: {_listed(sorted(flat + others))}")
        return train, held_out
    if recipe.num_classes == len(names):
        return None, None
    if with_classes == names and len(names) == 1:
        raise InputError(
            f"{where} holds nothing but the folder {names[0]}/, which holds folders: "
            f"is --data_dir {os.path.join(root, names[0])} meant?"
        )
    _check_no_parts(where, names)
    _check_not_repeated(root, names, with_classes)
    return None, None


def _check_no_parts(where, names):
    """Refuses names of parts among the classes."""
    suspicious = [name for name in names if _is_part(name)]
    if suspicious:
        raise InputError(
            f"{where} holds {_listed(names)}: {_listed(suspicious)} looks like a part of a data "
            "set, not like a class. Put the folders of the classes into train/ and val/; or name "
            "the folder to train on with --train_split; or, if each folder is a class, confirm it "
            f"with --num_classes {len(names)}."
        )


def _is_part(name):
    return splits.is_train(name) or splits.is_eval(name)


def _listed(names):
    shown = ", ".join(f"{name}/" for name in names[:10])
    if len(names) > 10:
        return f"{shown} and {len(names) - 10:,} more"
    return shown


def _asked_for(root, names, recipe):
    """The parts that --train_split and --eval_split name."""
    train, held_out = splits.choose(names, recipe, f"Folder '{root}'")
    train = train or "train"
    if train not in names or held_out not in (None, *names):
        wanted = " and ".join(f"{name}/" for name in (train, held_out) if name)
        raise InputError(f"'{root}' has no folders {wanted}; it has {_listed(names) or 'none'}.")
    return train, held_out


def _names(folder):
    """The names of what is in a folder, without what systems put there."""
    try:
        return [name for name in storage.names(folder) if not local_files.is_litter(name)]
    except (OSError, tf.errors.OpError) as error:
        raise InputError(f"'{folder}' cannot be read: {first_line(error)}.") from error


def _holds_classes(folder):
    """Whether a folder holds folders: several, or one and no images of its own."""
    found = _names(folder)
    others = [name for name in found if not local_files.is_image(name)]
    folders = [name for name in others if storage.is_folder(os.path.join(folder, name))]
    return len(folders) >= 2 or (len(folders) == 1 and len(others) == len(found))


def _check_not_repeated(root, names, with_classes):
    """Refuses parts whose names nobody knows: two or three folders that hold the same folders."""
    if not 2 <= len(names) <= 3 or names != with_classes:
        return
    inside = [_names(os.path.join(root, part)) for part in names]
    if len(inside[0]) >= 2 and all(found == inside[0] for found in inside):
        raise InputError(
            f"Folder '{root}' holds {_listed(names)}, and each of them {_listed(inside[0])}: they "
            "look like parts of a data set, not like classes. Name the part to train on with "
            "--train_split, and the one to evaluate on with --eval_split; or, if each folder is a "
            f"class, confirm it with --num_classes {len(names)}."
        )


# --- files ------------------------------------------------------------------------------------


def _read_parts(tree, root, parts):
    """Returns (class names, rows of the part to train on, if there is another, its rows)."""
    for part in parts:
        _enter(tree, root, part)
    classes = [tree.folders(part) for part in parts]
    # All before any is read: a link from one to another must not take what is the other's.
    for part, names in zip(parts, classes):
        if not names:
            what = "is empty"
            if _names(part):
                what = "has files but no folders"
            raise InputError(f"'{part}' {what}: it must hold one folder of images per class.")
        for name in names:
            _enter(tree, root, os.path.join(part, name))
    if classes[0] != classes[-1]:
        odd = ", ".join(sorted(set(classes[0]) ^ set(classes[-1])))
        names = " and ".join(f"{os.path.basename(part)}/" for part in parts)
        raise InputError(f"{names} of '{root}' hold different classes: {odd} only in one of them.")
    return classes[0], *(_rows(tree, part, classes[0]) for part in parts)


def _enter(tree, root, folder):
    if folder == root or folder == os.path.join(root, ""):
        return
    before = tree.enter(folder)
    if before:
        raise InputError(f"'{before}' and '{folder}' are the same folder: remove the link.")


def _rows(tree, root, class_names):
    """Returns the (path, label) of the images in the folders of the classes."""
    rows = []
    for label, name in enumerate(class_names):
        folder = os.path.join(root, name)
        images = tree.images(folder)
        if not images:
            raise InputError(
                f"Folder '{folder}' holds no images of its own "
                f"({', '.join(local_files.IMAGE_SUFFIXES)}); every class needs some."
            )
        rows += [(path, label) for path in images]
    return rows


class _Remote:
    """As `local_files.Walk`, of an object store: it has neither links nor pipes."""

    def __init__(self):
        self._ignored = collections.Counter()

    def enter(self, folder):
        """No folder is there twice."""

    def folders(self, root):
        """Returns the sorted names of the folders in a folder, without litter."""
        return [name for name in _names(root) if storage.is_folder(os.path.join(root, name))]

    def images(self, root):
        """Returns the image files below a folder, sorted."""
        found = []
        for folder, _, names in tf.io.gfile.walk(root):
            below = folder[len(root) :].strip("/").split("/")
            if any(part and local_files.is_litter(part) for part in below):
                continue
            names = [name for name in names if not local_files.is_litter(name)]
            found += [os.path.join(folder, name) for name in names if local_files.is_image(name)]
            self._ignored.update(
                os.path.splitext(name)[1] for name in names if not local_files.is_image(name)
            )
        return sorted(found)

    def report(self):
        """Returns what was left out, as lines."""
        return [
            f"Left out {count:,} file(s) that are not images: *{suffix}"
            for suffix, count in sorted(self._ignored.items())
        ]
