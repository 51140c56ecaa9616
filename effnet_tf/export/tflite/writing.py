"""How does a folded network become a TFLite file?

Prepare its weights for 8 bits, save it as a SavedModel, and convert in a process of its own.
All files lie in a temporary folder; export/writing.py checks the result, and gives it its place.
"""

import dataclasses
import functools
import logging
import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from effnet_tf import isolated
from effnet_tf.export import ends, mixing, soundness, staging
from effnet_tf.export.tflite import (
    converter,
    flatbuffer,
    interpreter,
    leaves,
    preparing,
    simulating,
)
from effnet_tf.export.tflite.options import CALIBRATED, Options
from effnet_tf.export.tolerances import VerificationError
from effnet_tf.messages import log

# Of the scores' deviation: float32 arithmetic in another order changes a thousandth of that, and
# another layer, or another padding, more.
CONVERTED = 0.01


@dataclasses.dataclass(frozen=True)
class Made:
    """Files in a temporary folder.

    Attributes:
        file: the one that was asked for, without metadata.
        floats: the float32 file of the same model.
        compared: pairs of (float32, int8) files to compare layer by layer: without
            equalisation, if there is some, and as asked for.
        simulation: a float file of what the one that was asked for should compute; or None.
        source: the float32 file that one with 8-bit numbers was made of; or None.
        kept_float: names of the operators that stayed float.
        price: of these, a sentence; or None.
    """

    file: str
    floats: str
    compared: Sequence[tuple[str, str]] = ()
    simulation: str | None = None
    source: str | None = None
    kept_float: Sequence[str] = ()
    price: str | None = None


def write(
    folded: keras.Model,
    folder: str,
    options: Options,
    *,
    calibration: np.ndarray | None,
    takes_pixels: bool,
) -> Made:
    """Writes the file that `options` ask for, and the float32 one.

    Args:
        folded: a model of `fold`; equalisation changes its weights.
        folder: to write to.
        options: an `Options` with a `quantize`.
        calibration: (N, H, W, C) images, for "int8" and "int16x8"; "weights8" can do without.
        takes_pixels: whether the model takes pixels in [0, 255].

    Raises:
        InputError: a weight is too large for float16, or activations are not finite.
        VerificationError: what it made of the float network computes something else.
        WorkerError: TensorFlow's converter failed.
    """
    place = functools.partial(os.path.join, folder)
    if options.static_batch is None:
        mixing.mix_outputs(folded)
    if options.quantize == "float16":
        soundness.check_half(folded)
    if options.quantize == "weights8":
        preparing.round_weights(
            folded, options, calibration, takes_pixels=takes_pixels, smallest=flatbuffer.SMALL
        )
    _save(folded, place("plain"), options.static_batch, takes_pixels)
    if options.quantize in CALIBRATED:
        np.save(place("calibration.npy"), calibration)
        return _calibrated(place, folded, options, calibration, takes_pixels)
    return _floating(place, options)


def _floating(place, options):
    """Makes a file that computes in float of the SavedModel "plain"."""
    jobs, made = [_conversion(place, "plain")], "plain.tflite"
    if options.quantize in ("float16", "dynamic"):
        made = "made.tflite"
        arguments = {
            "saved_model": place("plain"),
            "out": place(made),
            "quantize": options.quantize,
        }
        jobs.append((converter.convert, arguments))
    _check_converted(isolated.call(*jobs)[:1])
    data, simulation, source = staging.read(place(made)), None, None
    if options.quantize == "weights8":
        floats, data = data, flatbuffer.weights8(data)
        simulation, source = _simulate(place, floats, data), place(made)
    if options.io == "uint8":
        data = flatbuffer.with_uint8_input(data)
    staging.write(place("final.tflite"), data)
    return Made(place("final.tflite"), place("plain.tflite"), simulation=simulation, source=source)


def _simulation_of(place, source, made):
    """The same of the files SOURCE.tflite and MADE.tflite."""
    files = (staging.read(place(f"{name}.tflite")) for name in (source, made))
    return _simulate(place, *files)


def _simulate(place, floats, data):
    """Writes the simulation of a file from the bytes of the float one; returns its path."""
    staging.write(place("simulation.tflite"), simulating.simulated(floats, data))
    return place("simulation.tflite")


def _conversion(place, name):
    """Returns the job that makes NAME.tflite, float32, of a SavedModel NAME."""
    arguments = {"saved_model": place(name), "out": place(f"{name}.tflite"), "quantize": "none"}
    return converter.convert, arguments


def _calibrated(place, folded, options, calibration, takes_pixels):
    """Makes an int8 or int16x8 file of the SavedModel "plain", or of a better one."""
    _prepare(folded, options, calibration, takes_pixels)
    _save(folded, place("prepared"), options.static_batch, takes_pixels)
    sources = ("plain", "prepared")
    conversions = [_conversion(place, name) for name in sources]
    common = {
        "images": place("calibration.npy"),
        "batch": options.static_batch or 1,
        "shown": log.isEnabledFor(logging.INFO),
    }
    if options.quantize == "int16x8":
        files = {"saved_model": place("prepared"), "out": place("final.tflite")}
        results = isolated.call(*conversions, (converter.int16x8, {**common, **files}))
        _check_converted(results[:2])
        return Made(
            place("final.tflite"),
            place("plain.tflite"),
            simulation=_simulation_of(place, "prepared", "final"),
            source=place("prepared.tflite"),
        )
    common |= {"io": options.io, "takes_pixels": takes_pixels}
    integers = [_to_int8(place, name, f"{name}8", common) for name in sources]
    results = isolated.call(*conversions, *integers)
    _check_converted(results[:2])
    found = dict(zip(sources, results[-2:]))
    return _best(place, found, options, common)


def _to_int8(place, source, out, arguments):
    """Returns the job that makes an int8 file OUT.tflite of SOURCE.tflite."""
    files = {"float_file": place(f"{source}.tflite"), "out": place(f"{out}.tflite")}
    return converter.int8, {**arguments, **files}


def _prepare(folded, options, calibration, takes_pixels):
    """Changes the weights of a folded model so that integers lose less."""
    if options.equalize:
        preparing.equalize(folded, calibration)
    if not preparing.round_weights(folded, options, calibration, takes_pixels=takes_pixels):
        preparing.correct_biases(folded, calibration)


def _best(place, found, options, common):
    """Returns the `Made` of the better of the int8 files plain8 and prepared8.

    Args:
        place: of the files.
        found: {"plain": what the job int8 returned, "prepared": the same}.
        options: an `Options`.
        common: arguments of the job int8.
    """
    source = max(found, key=lambda name: found[name]["sqnr"])
    _tell_both(found, options)
    final, result = f"{source}8", found[source]
    if options.keep_float or options.narrows:
        final = "final"
        wanted = {
            "keep_float": options.keep_float,
            "target_sqnr": options.target_sqnr,
            "narrow": options.narrows,
        }
        (result,) = isolated.call(_to_int8(place, source, final, {**common, **wanted}))
    if options.narrows:
        log.info(f"With ranges that were searched for: {result['sqnr']:.1f} dB.")
    compared = [(place(f"{source}.tflite"), place(f"{final}.tflite"))]
    if source != "plain":
        compared.insert(0, (place("plain.tflite"), place("plain8.tflite")))
    return Made(
        place(f"{final}.tflite"),
        place("plain.tflite"),
        compared,
        _simulation_of(place, source, final),
        place(f"{source}.tflite"),
        result["names"],
        result["price"],
    )


def _tell_both(found, options):
    done = []
    if options.equalize:
        done.append("equalised")
    if options.rounds:
        done.append("rounded so that errors cancel")
    else:
        done.append("with corrected biases")
    log.info(
        f"SQNR on calibration images: {found['plain']['sqnr']:.1f} dB as it is, "
        f"{found['prepared']['sqnr']:.1f} dB {', '.join(done)}; the better one is written."
    )


class _Serving(tf.Module):
    """Plain variables and one function: from_concrete_functions would give NaN."""

    def __init__(self, folded, batch):
        super().__init__()
        self.weights = [variable.value for variable in folded.variables]
        name = ends.score_name(folded)
        spec = tf.TensorSpec((batch, *folded.input_shape[1:]), tf.float32, name="images")
        self.serve = tf.function(
            lambda images: {name: folded(images, training=False)}, [spec], autograph=False
        )


def _save(folded, path, batch, takes_pixels):
    """Writes a SavedModel, and beside it what the network gives for a call with some images."""
    module = _Serving(folded, batch)
    tf.saved_model.save(module, path, signatures={interpreter.SIGNATURE: module.serve})
    images = leaves.images(batch or 1, tuple(folded.input_shape[1:]), seed=2)
    if not takes_pixels:
        images = images / 127.5 - 1
    serve = module.serve.get_concrete_function()
    (scores,) = serve(tf.constant(images, tf.float32)).values()
    np.savez(f"{path}.npz", images=images, scores=scores)


def _check_converted(differences):
    """Refuses float files that do not compute what the network does.

    A file with 8-bit numbers is compared with a simulation that is made of the float one, which
    would hide what the converter does wrong.

    Args:
        differences: what the jobs of `_conversion` returned.
    """
    for off in differences:
        if not off <= CONVERTED:
            raise VerificationError(
                "TensorFlow's converter changed the network before anything was rounded: its "
                f"scores are off by {off:.1e} of their deviation. Please report the layers of this "
                "model."
            )
