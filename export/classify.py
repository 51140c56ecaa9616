"""The program `classify`: what an exported file sees in images."""

import os

import numpy as np

from effnet_tf.errors import InputError

from . import run


def add_program(programs):
    """Adds the program to the parser's subcommands."""
    text = "classify images with an exported file"
    parser = programs.add_parser("classify", help=text, description=text)
    parser.add_argument("file", help="a .tflite or .onnx file or SavedModel, of this program or "
                        "of others")
    parser.add_argument("images", nargs="*", help="image files")
    run.add_options(parser, required=False)
    parser.add_argument("--count", type=run.count, default=12, metavar="N", help="with --workdir: "
                        "how many of the run's held-out images to classify (default 12)")
    parser.add_argument("--picture", help="PNG file to draw the images and answers to")
    parser.set_defaults(run=classify)


def classify(options):
    """Prints the five best classes of every image."""
    from effnet_tf import plots
    from effnet_tf.export import artefact, runtimes
    if bool(options.images) == bool(options.workdir):
        raise InputError("Give either image files, or --workdir for held-out images of a run.")
    if options.picture:
        plots.require(f"The picture '{options.picture}'")
    if options.picture and not os.path.isdir(os.path.dirname(options.picture) or "."):
        raise InputError(f"There is no folder for the picture '{options.picture}'.")
    classifier = runtimes.load(options.file)
    names = artefact.class_names(options.file)
    if options.images:
        images = from_files(options.images, options.file, classifier.input_shape)
        titles, labels = options.images, [None] * len(images)
    else:
        opened = run.open_run(options)
        images, labels = opened.images(options.count)
        names = names or opened.class_names
        titles = [f"held-out {number}, really {opened.class_names[label]}"
                  for number, label in enumerate(labels, start=1)]
    scores = classifier(images)
    names = _named(names, scores.shape[-1], options.file)
    for title, row in zip(titles, scores):
        print(f"{title}: {_top5(row, names)}")
    right = [None if label is None else bool(label == row.argmax())
             for label, row in zip(labels, scores)]
    if options.workdir:
        print(f"{sum(right)} of {len(right)} right")
    if options.picture:
        _draw(options.picture, images, scores, labels, names)


def from_files(paths, file, input_shape):
    """Returns (N, H, W, C) uint8 of image files, made as an exported file wants them.

    Args:
        paths: image files.
        file: the exported file; what it does not say about its images is assumed, and printed.
        input_shape: (N, H, W, C) that it takes, with None where it takes any.
    """
    import tensorflow as tf

    from effnet_tf.data import bad
    from effnet_tf.export import artefact
    about = artefact.about(file)
    prepare = _preparation(file, about, *_size(file, about, input_shape))
    images = []
    for path in paths:
        if not os.path.isfile(path):
            raise InputError(f"There is no image file '{path}'.")
        encoded = tf.io.read_file(path)
        fault = bad.fault(encoded.numpy())
        if fault:
            raise InputError(f"'{path}' cannot be used: {fault}.")
        images.append(prepare(encoded))
    return np.stack(images)


def _size(file, about, input_shape):
    """Returns the height and width of the images that a file takes."""
    known = about and about.image_size
    height, width = (side or known for side in input_shape[1:3])
    if not height or not width:
        raise InputError(f"'{file}' takes images of any size, and does not say which it was "
                         "trained with: it cannot be tried on files.")
    return height, width


def _preparation(file, about, height, width):
    """Returns a function from the bytes of an image file to (height, width, C) uint8."""
    import tensorflow as tf

    from effnet_tf import augment
    if height == width:
        padding = about.crop_padding if about else 0
        options = dict(exif_rotation=about.exif_rotation,
                       scaled_decode=about.scaled_decode) if about else {}
        if not about:
            _say_assumption(file, "the central square of every image")
        return lambda encoded: augment.to_bytes(augment.evaluation_image(
            encoded, height, padding, **options)).numpy()
    _say_assumption(file, "all of every image")
    return lambda encoded: augment.to_bytes(tf.image.resize(
        augment.whole_image(encoded), (height, width), "bicubic")).numpy()


def _say_assumption(file, part):
    from effnet_tf.export import artefact
    normalization = artefact.normalization(file)
    range_ = ("pixels in [0, 255]" if normalization is None
              else "pixels normalised as its metadata say")
    print(f"'{file}' does not say how its images are cut: took {part}, scaled to its size, "
          f"{range_}.")


def _named(names, count, file):
    """Returns a name for each of `count` classes."""
    if len(names) == count:
        return [" ".join(name.splitlines()) for name in names]
    print(f"'{file}' has {f'{len(names)} names' if names else 'no names'} for its {count} "
          "classes: these are their numbers.")
    return [f"class {number}" for number in range(count)]


def _top5(row, names):
    return ", ".join(f"{names[index]} {_score(row, index)}" for index in np.argsort(-row)[:5])


def _score(row, index, digits=1):
    """Returns a probability as text; a logit as it is."""
    is_probability = row.min() >= 0 and row.sum() < 1.5  # quantised ones may pass 1 a little
    return f"{row[index]:.{digits}%}" if is_probability else f"{row[index]:.2f}"


def _draw(path, images, scores, labels, names):
    from effnet_tf import plots
    captions, right = [], []
    for row, label in zip(scores, labels):
        best = row.argmax()
        right.append(None if label is None else bool(label == best))
        captions.append(f"{names[best]} ({_score(row, best, 0)})"
                        + (f", is {names[label]}" if right[-1] is False else ""))
    if plots.predictions(list(images), captions, right, path):
        print(f"Drew {path}")
