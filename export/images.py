"""Which images calibrate and check an exported file?

The run's own, a folder of image files, or a split of a TFDS data set: a deterministic
subset, spread evenly, made as evaluation makes its images.
"""

import os

import numpy as np

from effnet_tf import extras
from effnet_tf.errors import InputError, first_line

SOURCES = (
    "run (held-out images of the run), run:train (its training images), a folder of image "
    "files (its subfolders may be classes), or NAME:SPLIT of a TFDS data set in --data_dir"
)


def read(where, opened, about, most):
    """Returns ((N, H, W, 3) uint8 images, (N,) labels, -1 where unknown), N <= most.

    Args:
        where: one of `SOURCES`.
        opened: the `run.Run` or `run.KerasFile` that is exported.
        about: its `About`: how images are cut.
        most: how many images at most.
    """
    if where in ("run", "run:train"):
        return opened.images(most, training=where == "run:train")
    if about.image_size is None:
        raise InputError(
            "This model takes other than square RGB images of one size: images "
            "cannot be cut for it here. Use effnet_tf.export from a program."
        )
    if os.path.isdir(where):
        found = _folder(where, about.class_names, most)
    elif ":" in where:
        found = _tfds(where, opened.data_dir, about.class_names, most)
    else:
        raise InputError(f"There are no images at '{where}'. Give {SOURCES}.")
    return _prepared(found, about, where)


def spread(count, most):
    """Returns at most `most` whole numbers below `count`, evenly spread."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)


def _folder(folder, class_names, most):
    """Yields (path, bytes, label) of image files below a folder, in the order of their names."""
    from effnet_tf import local_files

    walk = local_files.Walk()
    walk.enter(folder)
    paths = walk.images(folder)
    for line in walk.report():
        print(line)
    for number in spread(len(paths), most) if paths else ():
        name = os.path.basename(os.path.dirname(paths[number]))
        label = class_names.index(name) if name in class_names else -1
        try:
            encoded = local_files.read(paths[number], local_files.MAX_IMAGE_BYTES)
        except (OSError, InputError) as error:  # since it was listed
            print(f"Left out {paths[number]}: {first_line(error)}")
            continue
        yield paths[number], encoded, label


def _tfds(where, data_dir, class_names, most):
    """Yields (place, bytes, label) of images of a split that is prepared on disk."""
    tfds = extras.load("tensorflow_datasets", f"Reading '{where}'")
    name, split = where.split(":", 1)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        features = builder.info.features
        count = builder.info.splits[split].num_examples
        keys = [
            next(key for key, value in features.items() if isinstance(value, kind))
            for kind in (tfds.features.Image, tfds.features.ClassLabel)
        ]
        rows = builder.as_dataset(split=split, decoders={keys[0]: tfds.decode.SkipDecoding()})
    except Exception as error:  # builders, features and readers have kinds of their own
        raise InputError(
            f"The TFDS split '{where}' cannot be read from data_dir {data_dir!r}: "
            f"{first_line(error)}."
        ) from error
    wanted = set(spread(count, most).tolist())
    known = tuple(features[keys[1]].names) == tuple(class_names)
    for number, row in enumerate(rows.as_numpy_iterator()):
        if number in wanted:
            yield (f"{where}[{number}]", row[keys[0]], int(row[keys[1]]) if known else -1)


def _prepared(found, about, where):
    """Decodes and cuts images; names those that cannot be used."""
    from tqdm import tqdm

    from effnet_tf import local_files
    from effnet_tf.data import EvaluationCrop, bad_images

    crop = EvaluationCrop(
        about.image_size, about.crop_padding, about.exif_rotation, about.scaled_decode
    )
    images, labels = [], []
    for place, encoded, label in tqdm(found, f"Reading {where}", unit=" images", leave=False):
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
