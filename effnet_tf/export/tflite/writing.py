"""How does a Keras model become a TFLite file for a phone?

Fold batch norm away, equalise ranges if integers follow, convert in a process of its own,
add metadata, check the file in another process, and only then give it its place.
"""

import dataclasses
import os
import tempfile

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from effnet_tf import isolated
from effnet_tf.errors import InputError
from effnet_tf.export import folding, judging, soundness, staging
from effnet_tf.export.tflite import converter, equalize, flatbuffer, interpreter, metadata

QUANTIZE = ("none", "float16", "weights8", "int8", "int16x8", "dynamic")
IO = ("float", "int8", "uint8")
CALIBRATED = ("int8", "int16x8")
TARGET_SQNR = 30.0


@dataclasses.dataclass(frozen=True)
class Options:
    """What kind of TFLite file is wanted.

    Attributes:
        quantize: None: what suits the network, see choice.py; it is printed. "none":
            float32. "float16": weights of 16 bits, computed in float.
            "weights8": weights of 8 bits per output channel, computed in float. "int8":
            all in integers. "int16x8": activations of 16 bits, weights of 8; slow on CPUs.
            "dynamic": TensorFlow's dynamic range; slow, and bad for B0 and B1.
        io: type of the file's input, and of its output if all is in integers: "float",
            "uint8" (bytes of an image as they are) or "int8" (those minus 128).
        batch: images per call, or "dynamic".
        equalize: whether to equalise the ranges of channels before int8 and int16x8.
        correct_biases: whether to take the mean error of rounded weights off the biases.
        keep_float: names of blocks that stay float in an int8 file, such as ("block7a",
            "top"), or "auto": few that reach `target_sqnr`.
        target_sqnr: of the logits, in dB, for "auto".
        min_sqnr: below it, in dB, nothing is written; by default `verification.TOLERANCE`.
    """

    quantize: str | None = None
    io: str = "float"
    batch: int | str = 1
    equalize: bool = True
    correct_biases: bool = False
    keep_float: tuple[str, ...] | str = ()
    target_sqnr: float = TARGET_SQNR
    min_sqnr: float | None = None

    def __post_init__(self):
        for field, known in (("quantize", (None, *QUANTIZE)), ("io", IO)):
            if getattr(self, field) not in known:
                raise InputError(
                    f"{field} is '{getattr(self, field)}'; it must be one of "
                    f"{', '.join(filter(None, known))}."
                )
        if self.batch != "dynamic" and not (isinstance(self.batch, int) and self.batch > 0):
            raise InputError(
                f"batch is {self.batch!r}; it must be a number of images, at least 1, or 'dynamic'."
            )
        if self.quantize is not None:
            self._check_kind()
        if isinstance(self.keep_float, str) and self.keep_float not in ("", "auto"):
            raise InputError(
                f"keep_float is '{self.keep_float}'; it must be 'auto', or a tuple of "
                "names of blocks."
            )
        if self.min_sqnr is not None and not np.isfinite(self.min_sqnr):
            raise InputError(f"min_sqnr is {self.min_sqnr}; it must be a number of dB.")

    def _check_kind(self):
        """Refuses options that do not go with `quantize`."""
        if self.io == "int8" and self.quantize != "int8":
            raise InputError(
                f"io 'int8' goes with quantize 'int8'; a file of '{self.quantize}' "
                "takes 'float' or 'uint8'."
            )
        if self.io != "float" and self.quantize == "int16x8":
            raise InputError("quantize 'int16x8' takes io 'float' only.")
        if self.keep_float and self.quantize != "int8":
            raise InputError("keep_float is for quantize 'int8'.")
        if self.batch == "dynamic" and self.quantize == "int16x8":
            raise InputError("quantize 'int16x8' needs a fixed batch: give a number.")

    @property
    def static_batch(self):
        """The batch as a tensor's shape wants it."""
        return None if self.batch == "dynamic" else self.batch


def write(model, path, options, about, *, calibration, images, labels=None):
    """Writes a verified .tflite file; see `effnet_tf.export.to_tflite`.

    Args:
        model: a classifier `keras.Model` with one image input of static size.
        path: of the file.
        options: an `Options`.
        about: an `About`.
        calibration: (N, H, W, C) images in [0, 255], or None if nothing is calibrated.
        images: those to verify with.
        labels: of these, (N,) integers, -1 where unknown; or None.

    Returns:
        A `verification.Report`.
    """
    check(options, about, calibration)
    images = np.asarray(images) if options.io == "float" else np.round(images)
    exact = judging.answer_of(model, images)
    with (
        staging.staged(path) as temporary,
        tempfile.TemporaryDirectory(dir=os.path.dirname(temporary)) as folder,
    ):
        made = _make(folder, model, options, calibration, about.normalizes)
        about = dataclasses.replace(about, quantize=options.quantize)
        staging.write(temporary, metadata.attach(staging.read(made.file), about))
        is_float = options.quantize == "none"
        facts, answer = judging.observed(
            temporary, images, floats=[] if is_float else [made.floats], layers_of=made.compared
        )
        return judging.judge(
            options.quantize,
            temporary,
            exact,
            answer,
            facts,
            labels=labels,
            min_sqnr=options.min_sqnr,
            kept_float=made.kept.get("names", ()),
            price=made.kept.get("price"),
            size_ratio=None if is_float else staging.size(temporary) / staging.size(made.floats),
        )


def classifier(model):
    """Returns a model as one with a graph.

    Raises:
        InputError: it cannot become a TFLite file.
    """
    model = folding.functional(model)
    if len(model.inputs) != 1 or len(model.outputs) != 1 or len(model.outputs[0].shape) != 2:
        raise InputError(
            f"The model '{model.name}' must take one image and give one score per "
            f"class, (N, classes); it has {len(model.inputs)} inputs and gives "
            f"{[tuple(output.shape) for output in model.outputs]}."
        )
    shape = model.inputs[0].shape
    if len(shape) != 4 or None in shape[1:]:
        raise InputError(
            f"TFLite needs a static input size; this model's input is {shape}. "
            "Build it with input_shape=(H, W, C)."
        )
    if not isinstance(model.output, keras.KerasTensor):  # one in a dict or list
        model = keras.Model(model.inputs, model.outputs[0], name=model.name)
    return model


def check(options, about, calibration):
    """Raises InputError if a classifier cannot become the TFLite file that is asked for."""
    if options.io != "float" and not about.normalizes:
        raise InputError(
            f"io '{options.io}' means the bytes of an image, but this model wants "
            "pixels that its caller has normalised: use io 'float'."
        )
    if options.quantize in CALIBRATED and calibration is None:
        raise InputError(
            f"quantize '{options.quantize}' needs calibration images: they tell the "
            "ranges of the activations. Give calibration=, some hundred images "
            "(N, H, W, C)."
        )
    if options.quantize in CALIBRATED:
        soundness.check_calibration(calibration, about.normalizes)


@dataclasses.dataclass(frozen=True)
class _Made:
    """Files in a temporary folder.

    Attributes:
        file: the one that was asked for.
        floats: the float32 file of the same model.
        compared: pairs of (float32, int8) files to compare layer by layer: without
            equalisation, if there is some, and as asked for.
        kept: names of the operators that stayed float, and their price in a sentence.
    """

    file: str
    floats: str
    compared: tuple = ()
    kept: dict = dataclasses.field(default_factory=dict)


def _make(folder, model, options, calibration, takes_pixels):
    """Writes the file that `options` ask for, and the float32 one; returns a `_Made`."""
    folded, place = folding.fold(model), _Places(folder)
    if options.quantize == "float16":
        soundness.check_half(folded)
    _save(folded, place("plain"), options.static_batch)
    jobs = [
        (
            converter.convert,
            {"saved_model": place("plain"), "out": place("plain.tflite"), "quantize": "none"},
        )
    ]
    if options.quantize in CALIBRATED:
        np.save(place("calibration.npy"), calibration)
        return _calibrated(place, folded, options, calibration, takes_pixels, jobs)
    if options.quantize in ("float16", "dynamic"):
        jobs.append(
            (
                converter.convert,
                {
                    "saved_model": place("plain"),
                    "out": place("made.tflite"),
                    "quantize": options.quantize,
                },
            )
        )
    isolated.call(*jobs)
    made = "made.tflite" if len(jobs) > 1 else "plain.tflite"
    data = staging.read(place(made))
    if options.quantize == "weights8":
        data = flatbuffer.weights8(data)
    if options.io == "uint8":
        data = flatbuffer.with_uint8_input(data)
    staging.write(place("final.tflite"), data)
    return _Made(place("final.tflite"), place("plain.tflite"))


class _Places:
    """Paths in a folder: place("name")."""

    def __init__(self, folder):
        self._folder = folder

    def __call__(self, name):
        return os.path.join(self._folder, name)


def _calibrated(place, folded, options, calibration, takes_pixels, jobs):
    """Makes an int8 or int16x8 file; `jobs` write plain.tflite."""
    sources = ["plain"]
    if options.equalize or options.correct_biases:
        sources.append("prepared")
        _prepare(folded, options, calibration)
        _save(folded, place("prepared"), options.static_batch)
        jobs.append(
            (
                converter.convert,
                {
                    "saved_model": place("prepared"),
                    "out": place("prepared.tflite"),
                    "quantize": "none",
                },
            )
        )
    common = {"images": place("calibration.npy"), "batch": options.static_batch or 1}
    if options.quantize == "int16x8":
        isolated.call(
            *jobs,
            (
                converter.int16x8,
                {**common, "saved_model": place(sources[-1]), "out": place("final.tflite")},
            ),
        )
        return _Made(place("final.tflite"), place("plain.tflite"))
    common |= {"io": options.io, "takes_pixels": takes_pixels}
    results = isolated.call(
        *jobs,
        *(
            (
                converter.int8,
                {**common, "float_file": place(f"{name}.tflite"), "out": place(f"{name}8.tflite")},
            )
            for name in sources
        ),
    )
    found = dict(zip(sources, results[-len(sources) :]))
    return _best(place, found, options, common)


def _prepare(folded, options, calibration):
    """Changes the weights of a folded model so that integers lose less; shows how far it is."""
    steps = {
        "Measuring ranges": options.equalize and equalize.equalize,
        "Measuring means": options.correct_biases and equalize.correct_biases,
    }
    for name, step in steps.items():
        if step:
            with tqdm(desc=name, total=len(calibration), unit=" images") as bar:
                done = step(folded, calibration, lambda count, total: bar.update(count - bar.n))
            if step is equalize.equalize and done:
                spread = max(np.log2(factors.max() / factors.min()) for _, factors in done)
                print(
                    f"Equalised the channels of {len(done)} links between linear layers; within "
                    f"one, ranges differed by up to {spread:.1f} octaves."
                )


def _best(place, found, options, common):
    """Returns the `_Made` of the better of the int8 files plain8 and prepared8.

    Args:
        place: of the files.
        found: {"plain": what the job int8 returned, "prepared": the same}, or the first only.
        options: an `Options`.
        common: arguments of the job int8.
    """
    source = max(found, key=lambda name: found[name]["sqnr"])
    if len(found) > 1:
        print(
            "SQNR on calibration images: {plain:.1f} dB as it is, {prepared:.1f} dB {done}; "
            "the better one is written.".format(
                done="equalised" if options.equalize else "with corrected biases",
                **{name: result["sqnr"] for name, result in found.items()},
            )
        )
    final, result = f"{source}8.tflite", found[source]
    if options.keep_float:
        final = "final.tflite"
        (result,) = isolated.call(
            (
                converter.int8,
                {
                    **common,
                    "float_file": place(f"{source}.tflite"),
                    "out": place(final),
                    "keep_float": options.keep_float,
                    "target_sqnr": options.target_sqnr,
                },
            )
        )
    compared = [(place(f"{source}.tflite"), place(final))]
    if source != "plain":
        compared.insert(0, (place("plain.tflite"), place("plain8.tflite")))
    return _Made(place(final), place("plain.tflite"), compared, result)


class _Serving(tf.Module):
    """Plain variables and one function: from_concrete_functions would give NaN."""

    def __init__(self, folded, batch):
        super().__init__()
        self.weights = [variable.value for variable in folded.variables]
        name = judging.score_name(folded)
        spec = tf.TensorSpec((batch, *folded.input_shape[1:]), tf.float32, name="images")
        self.serve = tf.function(
            lambda images: {name: folded(images, training=False)}, [spec], autograph=False
        )


def _save(folded, path, batch):
    module = _Serving(folded, batch)
    tf.saved_model.save(module, path, signatures={interpreter.SIGNATURE: module.serve})
