"""Which images calibrate and check an exported file?

The run's own, a folder of image files, or a split of a TFDS data set: a deterministic
subset, spread evenly, made as evaluation makes its images.
"""

import os
from typing import TYPE_CHECKING

import numpy as np

from effnet_tf import extras
from effnet_tf.errors import InputError, first_line

from .opened import KerasFile, Run, spread

if TYPE_CHECKING:
    from effnet_tf.export import About


SOURCES = (
    "run (held-out images of the run), run:train (its training images), a folder of image "
    "files (its subfolders may be classes), or NAME:SPLIT of a TFDS data set in --data_dir"
)


def read(
    where: str, source: "Run | KerasFile", about: "About", most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns ((N, H, W, 3) uint8 images, (N,) labels, -1 where unknown), N <= most.

    Args:
        where: one of `SOURCES`.
        source: the `Run` or `KerasFile` that is exported.
        about: its `About`: how images are cut.
        most: how many images at most.
    """
    if where in ("run", "run:train"):
        return source.images(most, training=where == "run:train")
    if about.image_size is None:
        raise InputError(
            "This model does not take square RGB images of one fixed size, so images cannot "
            "be cropped for it here. Call effnet_tf.export from a program instead."
        )
    if os.path.isdir(where):
        found = _folder(where, about.class_names, most)
    elif ":" in where:
        found = _tfds(where, source.data_dir, about.class_names, most)
    else:
        raise InputError(f"There are no images at '{where}'. Give {SOURCES}.")
    return _prepared(found, about, where)


def _folder(folder, class_names, most):
    """Yields (path, bytes, label) of image files below a folder, in the order of their names."""
    from effnet_tf import local_files

    walk = local_files.Walk()
    walk.enter(folder)
    paths = walk.images(folder)
    for line in walk.report():
        print(line)
    if not paths:
        return
    for number in spread(len(paths), most):
        try:
            encoded = local_files.read(paths[number], local_files.MAX_IMAGE_BYTES)
        except (OSError, InputError) as error:  # since it was listed
            print(f"Left out {paths[number]}: {first_line(error)}")
            continue
        yield paths[number], encoded, _label(paths[number], class_names)


def _label(path, class_names):
    """Returns the number of the class that the folder of an image file is named after, or -1."""
    name = os.path.basename(os.path.dirname(path))
    if name not in class_names:
        return -1
    return class_names.index(name)


def _tfds(where, data_dir, class_names, most):
    """Yields (place, bytes, label) of images of a split that is prepared on disk."""
    tfds = extras.load("tensorflow_datasets", f"Reading '{where}'")
    name, split = where.split(":", 1)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        features = builder.info.features
        count = builder.info.splits[split].num_examples
        image, label_key = (
            _key_of(kind, features) for kind in (tfds.features.Image, tfds.features.ClassLabel)
        )
        rows = builder.as_dataset(split=split, decoders={image: tfds.decode.SkipDecoding()})
    except Exception as error:  # builders, features and readers have kinds of their own
        raise InputError(
            f"The TFDS split '{where}' cannot be read from data_dir {data_dir!r}: "
            f"{first_line(error)}."
        ) from error
    wanted = set(spread(count, most).tolist())
    known = tuple(features[label_key].names) == tuple(class_names)
    for number, row in enumerate(rows.as_numpy_iterator()):
        if number in wanted:
            label = -1
            if known:
                label = int(row[label_key])
            yield f"{where}[{number}]", row[image], label


def _key_of(kind, features):
    return next(key for key, value in features.items() if isinstance(value, kind))


def _prepared(found, about, where):
    """Decodes and cuts images; names those that cannot be used."""
    from effnet_tf import local_files, progress
    from effnet_tf.data import bad_images

    crop = about.evaluation_crop(about.image_size)
    images, labels = [], []
    for place, encoded, label in progress.bar(f"Reading {where}", iterable=found, leave=False):
        fault = bad_images.fault(encoded)
        if fault:
            print(f"Left out {place}: {fault}")
            continue
        images.append(crop.rounded(encoded).numpy())
        labels.append(label)
    if not images:
        raise InputError(
            f"'{where}' has no image that can be used ({', '.join(local_files.IMAGE_SUFFIXES)})."
        )
    return np.stack(images), np.array(labels)
