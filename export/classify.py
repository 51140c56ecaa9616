"""The program `classify`: what an exported file sees in images."""

import argparse
import os

import numpy as np

from effnet_tf import isolated
from effnet_tf.errors import InputError, printable

from . import run

AT_ONCE = 8  # images that are answered together: answers appear while others are computed
_SHOWN = 5  # bad images that the last sentence names; each has its own line above


def add_program(programs):
    """Adds the program to the parser's subcommands."""
    text = "classify images with an exported file"
    parser = programs.add_parser(
        "classify",
        help=text,
        description=text + "; exit code 2 if one of the images cannot be "
        "used: all others are answered",
    )
    parser.add_argument(
        "file", help="a .tflite, .onnx or .keras file or SavedModel, of this program or of others"
    )
    parser.add_argument("images", nargs="*", help="image files")
    run.add_options(parser, required=False)
    parser.add_argument(
        "--count",
        type=run.count,
        default=12,
        metavar="N",
        help="with --workdir: how many of the run's held-out images to classify (default 12)",
    )
    parser.add_argument("--picture", help="PNG file to draw the images and answers to")
    parser.add_argument(
        "--trust",
        action="store_true",
        help="open a SavedModel that does more "
        "than compute on tensors, such as write files; inspect lists it",
    )
    parser.set_defaults(run=classify)


def classify(options):
    """Prints the five best classes of every image.

    In a process of its own: a damaged file of others may end it.
    """
    if bool(options.images) == bool(options.workdir):
        raise InputError("Give either image files, or --workdir for held-out images of a run.")
    if options.picture:
        _check_picture(options.picture)
    arguments = {name: value for name, value in vars(options).items() if name != "run"}
    try:
        isolated.call((answer, arguments), shown=True, silence=isolated.SILENCE)
    except isolated.WorkerError as error:
        raise InputError(f"'{options.file}' cannot be used: {error.reason}.") from error


def _check_picture(path):
    from effnet_tf import plots

    plots.require(f"The picture '{path}'")
    if not os.path.isdir(os.path.dirname(path) or "."):
        raise InputError(f"There is no folder for the picture '{path}'.")


def answer(file, images=(), workdir=None, data_dir=None, count=12, picture=None, trust=False):
    """Opens a file, prints its answers and draws them; see the program's options.

    Raises:
        InputError: the file cannot be used; or, after all answers, some images could not.
    """
    from effnet_tf.export import identify, runtimes

    classifier = runtimes.load(file, trust)
    names = identify.class_names(file)
    if workdir:
        opened = run.open_run(argparse.Namespace(workdir=workdir, data_dir=data_dir))
        names = names or opened.class_names
        examples = _held_out(opened, count, classifier.layout)
    else:
        examples = from_files(images, file, classifier.layout)
    answers = _Answers(file, names)
    for group in _groups(examples, AT_ONCE):
        answers.add(group, classifier)
    answers.finish(picture)


def _groups(examples, size):
    """Yields lists of up to `size` examples."""
    group = []
    for example in examples:
        group.append(example)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


class Example:
    """An image to classify, or the reason why it cannot be used.

    Attributes:
        title: its path, or which one of a run it is.
        pixels: (H, W, C) uint8 as the file takes them, or None.
        label: name of its class, or None: not known.
        fault: why it cannot be used, or None.
    """

    def __init__(self, title, pixels=None, label=None, fault=None):
        self.title, self.pixels, self.label, self.fault = title, pixels, label, fault


def _held_out(opened, count, layout):
    images, labels = opened.images(count)
    pixels = layout.from_rgb(images)
    for number, (image, label) in enumerate(zip(pixels, labels), start=1):
        name = opened.class_names[label]
        yield Example(f"held-out {number}, really {name}", image, name)


def from_files(paths, file, layout):
    """Yields an `Example` of each image file, made as an exported file wants it.

    Args:
        paths: image files.
        file: the exported file; what it does not say about its images is assumed, and printed.
        layout: its `Layout`.
    """
    import tensorflow as tf

    from effnet_tf import local_files
    from effnet_tf.data import bad_images

    prepare = _preparation(file, layout)
    for path in paths:
        try:
            encoded = local_files.read(path, local_files.MAX_IMAGE_BYTES)
            fault = bad_images.fault(encoded)
        except (InputError, OSError, ValueError) as error:
            fault = _why(error, path)
        yield Example(path, fault=fault) if fault else Example(path, prepare(tf.constant(encoded)))


def _why(error, path):
    """Says why a file cannot be read; the message of others names it, too."""
    if isinstance(error, FileNotFoundError):
        return "there is no such image file"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error).removeprefix(f"'{path}' ").removesuffix(".")


def _preparation(file, layout):
    """Returns a function from the bytes of an image file to (H, W, C) uint8 of a layout."""
    from effnet_tf.export import identify

    about = identify.about(file)
    rgb = _rgb_preparation(file, about, *_size(file, about, layout.image_shape))
    layout.from_rgb(np.zeros((1, 1, 1, 3), "uint8"))  # refused before any image is read
    if layout.channels == 1:
        print("It takes grey images: 0.2989 red + 0.587 green + 0.114 blue of each pixel.")
    if layout.channels == 4:
        print("It takes RGBA images: what has no transparency is opaque, 255.")

    def prepare(encoded):
        pixels = layout.from_rgb(rgb(encoded)[np.newaxis])[0]
        if layout.channels == 4:
            pixels[..., 3] = rgb(_opacity(encoded))[..., 0]
        return pixels

    return prepare


def _opacity(encoded):
    """Returns an image file of the same size whose pixels are grey: the opacity of another's."""
    import tensorflow as tf

    from effnet_tf.data import decoding

    data = encoded.numpy()
    if data[:4] == b"\x89PNG":
        opacity = tf.io.decode_png(encoded, channels=4)[..., 3:]
    else:
        opacity = tf.fill((*decoding.decode(encoded).shape[:2], 1), tf.constant(255, tf.uint8))
    return tf.io.encode_png(tf.tile(opacity, (1, 1, 3)), compression=1)


def _size(file, about, image_shape):
    """Returns the height and width of the images that a file takes."""
    known = about.image_size if about else None
    height, width = (side or known for side in image_shape[1:3])
    if not height or not width:
        raise InputError(
            f"'{file}' takes images of any size, and does not say which it was "
            "trained with: it cannot be tried on files."
        )
    return height, width


def _rgb_preparation(file, about, height, width):
    """Returns a function from the bytes of an image file to (height, width, 3) uint8."""
    import tensorflow as tf

    from effnet_tf.data import crops, decoding

    if height == width:
        crop = crops.EvaluationCrop(height, padding=0)
        if about:
            crop = crops.EvaluationCrop(
                height, about.crop_padding, about.exif_rotation, about.scaled_decode
            )
        else:
            _say_assumption(file, "the central square of every image")
        return lambda encoded: crop.rounded(encoded).numpy()
    _say_assumption(file, "all of every image")
    return lambda encoded: crops.to_bytes(
        tf.image.resize(decoding.whole_image(encoded), (height, width), "bicubic")
    ).numpy()


def _say_assumption(file, part):
    from effnet_tf.export import identify

    range_ = "pixels normalised as its metadata say"
    if identify.normalization(file) is None:
        range_ = "pixels in [0, 255]"
    print(
        f"'{printable(file)}' does not say how its images are cut: took {part}, scaled to its "
        f"size, {range_}."
    )


class _Answers:
    """What has been answered so far: printed at once, kept for the picture."""

    def __init__(self, file, names):
        self._file, self._names = file, names
        self._named = None
        self._shown, self._bad, self._right = [], [], []

    def add(self, examples, classifier):
        """Prints the answers for some examples, in their order."""
        good = [example for example in examples if example.fault is None]
        scores = []
        if good:
            scores = classifier(np.stack([example.pixels for example in good]))
        rows = iter(scores)
        for example in examples:
            if example.fault is not None:
                self._bad.append(example)
                print(f"{printable(example.title)}: cannot be used: {printable(example.fault)}")
                continue
            self._show(example, next(rows))

    def _show(self, example, row):
        if self._named is None:
            self._named = _named(self._names, len(row), self._file)
        print(f"{printable(example.title)}: {_top5(row, self._named)}")
        best = self._named[row.argmax()]
        right = None
        if example.label is not None:
            right = best == printable(example.label)
            self._right.append(right)
        self._shown.append((example.pixels, _caption(best, row, example.label, right), right))

    def finish(self, picture):
        """Counts, draws, and raises InputError if some images could not be used."""
        if self._right:
            print(f"{sum(self._right)} of {len(self._right)} right")
        if picture and self._shown:
            _draw(picture, self._shown)
        if self._bad:
            total = len(self._bad) + len(self._shown)
            some = "; ".join(
                f"'{example.title}': {example.fault}" for example in self._bad[:_SHOWN]
            )
            more = ""
            if len(self._bad) > _SHOWN:
                more = f"; and {len(self._bad) - _SHOWN} more, named above"
            raise InputError(f"{len(self._bad)} of {total} images cannot be used: {some}{more}.")


def _named(names, count, file):
    """Returns a name for each of `count` classes, in one line each."""
    if len(names) == count:
        return [printable(name) for name in names]
    what = f"{len(names)} names" if names else "no names"
    print(f"'{printable(file)}' has {what} for its {count} classes: these are their numbers.")
    return [f"class {number}" for number in range(count)]


def _top5(row, names):
    return ", ".join(f"{names[index]} {_score(row, index)}" for index in np.argsort(-row)[:5])


def _score(row, index, digits=1):
    """Returns a probability as text; a logit as it is."""
    is_probability = row.min() >= 0 and row.sum() < 1.5  # quantised ones may pass 1 a little
    return f"{row[index]:.{digits}%}" if is_probability else f"{row[index]:.2f}"


def _caption(best, row, label, right):
    caption = f"{best} ({_score(row, row.argmax(), 0)})"
    return caption if right is not False else f"{caption}, is {printable(label)}"


def _draw(path, shown):
    from effnet_tf import plots

    images, captions, right = zip(*shown)
    pictures = [np.repeat(image, 3, -1) if image.shape[-1] == 1 else image for image in images]
    if plots.predictions(pictures, captions, right, path):
        print(f"Drew {path}")
