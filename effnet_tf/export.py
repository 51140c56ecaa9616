"""How does a Keras model become a file that other programs run, and is it right?

`to_saved_model` and `to_tflite` write, open what they wrote, compare it with the
model on images, and only then move it to its place.
"""

import contextlib
import dataclasses
import os
import shutil
import tempfile
import warnings

import numpy as np
import tensorflow as tf

from effnet_tf.config import InputError

# The largest difference of a class probability that we accept. Both formats compute in
# float32 with other kernels than Keras; differences of 1e-6 are usual, 1e-4 are a bug.
TOLERANCE = {"SavedModel": 1e-4, "TFLite": 1e-4}


class VerificationError(RuntimeError):
    """A written file does not compute what its model computes; it was removed."""


@dataclasses.dataclass(frozen=True)
class Report:
    """How a written file compares with the Keras model; `print(report)` is a table.

    Attributes:
        kind: "SavedModel" or "TFLite".
        size_bytes: of the file, or of all files of the SavedModel.
        images: how many were compared.
        largest_difference: of any output value, absolute.
        top1_agreement: share of the images with the same best class, in [0, 1].
        tolerance: what `largest_difference` may be at most.
    """

    kind: str
    size_bytes: int
    images: int
    largest_difference: float
    top1_agreement: float
    tolerance: float

    def __str__(self):
        return (f"  {self.kind}, {self.size_bytes / 1e6:.2f} MB, checked on {self.images} images\n"
                f"  largest difference  {self.largest_difference:.1e} "
                f"(at most {self.tolerance:.0e} passes)\n"
                f"  same best class     {self.top1_agreement:.1%}")


def to_saved_model(model, path, *, class_names=None, verify_with=None):
    """Writes a model as a TensorFlow SavedModel, verified.

    Its signature `serving_default` takes `images`, (N, H, W, C) float32 in [0, 255], and
    gives `probabilities`, (N, classes) float32.

    Args:
        model: a classifier `keras.Model` with one image input.
        path: directory to write; a SavedModel there is replaced.
        class_names: written to assets/labels.txt, one per line.
        verify_with: (N, H, W, C) images to compare on; by default seeded noise.

    Returns:
        A `Report`.

    Raises:
        InputError: something that is no SavedModel lies at `path`.
        VerificationError: the written model computes something else. `path` is as before.
    """
    _refuse_foreign(path, "saved_model.pb")
    with _staged(path) as temporary:
        _write_saved_model(model, temporary, batch=None, class_names=class_names)
        return verify(model, temporary, verify_with)


def to_tflite(model, path, *, verify_with=None):
    """Writes a model as a float32 TFLite file, verified.

    The file has a batch of 1 and the named signature `serving_default`: `images`,
    (1, H, W, C) float32 in [0, 255], to `probabilities`, (1, classes) float32.

    Args:
        model: a classifier `keras.Model` with one image input of static size.
        path: file to write; a file there is replaced.
        verify_with: (N, H, W, C) images to compare on; by default seeded noise.

    Returns:
        A `Report`.

    Raises:
        InputError: the model has no static input size, or `path` is a directory.
        VerificationError: the written file computes something else. `path` is as before.
    """
    if None in model.input_shape[1:]:
        raise InputError(f"TFLite needs a static input size; this model's input is "
                         f"{model.input_shape}. Build it with input_shape=(H, W, C).")
    if os.path.isdir(path):
        raise InputError(f"'{path}' is a directory; name a file to write.")
    with _staged(path) as temporary, tempfile.TemporaryDirectory() as saved:
        # From a SavedModel of plain variables: from_concrete_functions(..., keras_model),
        # which TensorFlow's own warning recommends, gives files that return NaN.
        _write_saved_model(model, saved, batch=1, class_names=None)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        with open(temporary, "wb") as file:
            file.write(converter.convert())
        return verify(model, temporary, verify_with)


def verify(model, path, images=None):
    """Compares a SavedModel or TFLite file with the model it was made from.

    Args:
        model: the `keras.Model`.
        path: a SavedModel directory or a .tflite file.
        images: (N, H, W, C) in [0, 255]; by default 8 images of seeded noise.

    Returns:
        A `Report`.

    Raises:
        VerificationError: outputs differ by more than `TOLERANCE`, or are not finite.
    """
    if images is None:
        shape = (8, *(side or 64 for side in model.input_shape[1:]))
        images = np.random.default_rng(0).integers(0, 256, shape)
    images = np.asarray(images, "float32")
    theirs = load(path)(images)
    ours = model.predict(images, batch_size=32, verbose=0)
    kind = "SavedModel" if os.path.isdir(path) else "TFLite"
    report = Report(
        kind, _size(path), len(images), float(np.abs(ours - theirs).max()),
        float((ours.argmax(-1) == theirs.argmax(-1)).mean()), TOLERANCE[kind])
    if not report.largest_difference <= report.tolerance:  # NaN fails too
        raise VerificationError(f"The {kind} does not compute what the model computes:\n{report}")
    return report


def load(path):
    """Opens a SavedModel or TFLite classifier that this module wrote.

    Args:
        path: a SavedModel directory or a .tflite file.

    Returns:
        A function from images (N, H, W, C) in [0, 255] to probabilities (N, classes).

    Raises:
        InputError: there is none.
    """
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        return _load_saved_model(path)
    if not os.path.isfile(path):
        raise InputError(f"There is no SavedModel and no TFLite file at '{path}'.")
    with open(path, "rb") as file:
        if file.read(8)[4:] != b"TFL3":
            raise InputError(f"'{path}' is no TFLite file.")
    return _load_tflite(path)


def _load_saved_model(path):
    module = tf.saved_model.load(path)
    serve = module.signatures["serving_default"]

    def classify(images, _keep_alive=module):
        return serve(images=tf.cast(images, tf.float32))["probabilities"].numpy()

    return classify


def _load_tflite(path):
    with warnings.catch_warnings():
        # "deprecated, use ai_edge_litert": TensorFlow 2.21 still ships and tests this one.
        warnings.simplefilter("ignore", UserWarning)
        runner = tf.lite.Interpreter(path).get_signature_runner("serving_default")

    def classify(images):
        images = np.asarray(images, "float32")
        # A copy of each result: the interpreter reuses its buffer.
        return np.concatenate([np.array(runner(images=image[np.newaxis])["probabilities"])
                               for image in images])

    return classify


class _Serving(tf.Module):
    """Plain variables and one function: what a file needs, and every weight only once."""

    def __init__(self, model, batch, labels_file):
        super().__init__()
        self.weights = [variable.value for variable in model.weights]
        if labels_file:
            self.labels = tf.saved_model.Asset(labels_file)
        spec = tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32, name="images")
        self.serve = tf.function(
            lambda images: {"probabilities": model(images, training=False)}, [spec])


def _write_saved_model(model, path, batch, class_names):
    with tempfile.TemporaryDirectory() as folder:
        labels_file = None
        if class_names:
            labels_file = os.path.join(folder, "labels.txt")
            with open(labels_file, "w", encoding="utf-8") as file:
                file.write("".join(f"{name}\n" for name in class_names))
        module = _Serving(model, batch, labels_file)
        tf.saved_model.save(module, path, signatures={"serving_default": module.serve})


@contextlib.contextmanager
def _staged(path):
    """Gives a temporary path beside `path`, moved there on success, removed on failure."""
    if "://" in path:
        raise InputError(f"'{path}' is not on this machine: write to a local path, and copy it.")
    path = os.path.abspath(path)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        folder = tempfile.mkdtemp(prefix=".partial-", dir=os.path.dirname(path))
    except OSError as error:
        raise InputError(f"'{path}' cannot be written: {error}.") from error
    try:
        temporary = os.path.join(folder, os.path.basename(path))
        yield temporary
        _replace(temporary, path, os.path.join(folder, "replaced"))  # goes with the folder
    finally:
        shutil.rmtree(folder)


def _replace(new, path, aside):
    """Moves `new` to `path`; what lies there goes to `aside`, and back if that fails."""
    if not os.path.isdir(path):
        os.replace(new, path)
        return
    os.rename(path, aside)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(aside, path)
        raise


def _refuse_foreign(path, mark):
    """Refuses to replace a directory that is not empty and not ours."""
    is_ours = os.path.exists(os.path.join(path, mark))
    if os.path.exists(path) and not is_ours and not (os.path.isdir(path) and not os.listdir(path)):
        raise InputError(f"'{path}' exists and is no SavedModel; it stays as it is. "
                         "Choose another --out.")


def _size(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(folder, name))
               for folder, _, names in os.walk(path) for name in names)
