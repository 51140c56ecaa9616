"""The programs `saved_model`, `tflite` and `onnx`: a trained model becomes a verified file."""

import argparse
import dataclasses
import json
import os
import tempfile
from typing import TYPE_CHECKING, Any

from effnet_tf import extras
from effnet_tf.errors import InputError, SaveError, first_line

from . import images, opened
from . import options as command_line
from .options import ENOUGH

if TYPE_CHECKING:
    import keras

    from effnet_tf.export import About


@dataclasses.dataclass(frozen=True)
class _Job:
    """A model that is to be written as the options say.

    Attributes:
        options: the parsed command line.
        source: the `Run` or `KerasFile`.
        model: its `keras.Model`.
        about: its `About`.
    """

    options: argparse.Namespace
    source: opened.Run | opened.KerasFile
    model: "keras.Model"
    about: "About"


def add_programs(programs: Any) -> None:
    """Adds the programs to the parser's subcommands."""
    kinds = (
        ("saved_model", "write a TensorFlow SavedModel", command_line.add_saved_model),
        ("tflite", "write a TFLite file", command_line.add_tflite),
        ("onnx", "write an ONNX file (needs the extra [onnx])", None),
    )
    for name, text, add in kinds:
        parser = programs.add_parser(name, help=text, description=text)
        command_line.add_common(parser)
        if add:
            add(parser)
        parser.set_defaults(run=write, kind=name)


def write(options: argparse.Namespace) -> None:
    """Writes, verifies and reports.

    Raises:
        InputError: an option, or what it names, cannot be used.
        VerificationError: the file failed its check; exit code 1.
        WorkerError: the process of its own failed that makes or checks it; exit code 1.
        SaveError: it cannot be written; exit code 74.
    """
    if options.kind == "onnx":
        extras.require("Writing ONNX files", *extras.ONNX)
    _check_places(options)
    source = opened.open_model(options)
    model = source.load_model()
    job = _Job(options, source, model, source.about(model))
    about = job.about
    if options.kind == "tflite":
        report = _tflite(job)
        about = dataclasses.replace(about, quantize=report.kind)
    else:
        report = _whole(job)
    _write_report(options.out, about, report)


def _check_places(options):
    """Refuses to write over what is read, or where it cannot, and options without effect."""
    from effnet_tf.export import staging

    staging.put_back(options.out)
    for name in ("model", "labels", "workdir"):
        if _is_same(getattr(options, name), options.out):
            raise InputError(f"--out is the same file as --{name}: choose another --out.")
    if options.labels and not options.model:
        raise InputError("--labels goes with --model; a run knows its class names.")
    if options.crop is not None and not options.model:
        raise InputError("--crop goes with --model; a run knows how its images were cut.")
    mark = None
    if options.kind == "saved_model":
        mark = staging.MARK
    staging.prepare(options.out, mark)


def _is_same(path, out):
    """Whether something lies at `path`, and `out` is that."""
    if not path or not os.path.exists(path):
        return False
    return os.path.realpath(path) == os.path.realpath(out)


def _whole(job):
    """Writes a SavedModel or an ONNX file."""
    from effnet_tf import export

    pixels, labels, judged_on = _verify_with(job)
    if len(job.model.outputs[0].shape) != 2:  # it gives a map: labels are for a classifier
        labels = None
    given = {"about": job.about, "verify_with": pixels, "labels": labels}
    print(f"Writing {job.options.out} ...", flush=True)
    if job.options.kind == "onnx":
        report = export.to_onnx(job.model, job.options.out, **given)
    else:
        report = export.to_saved_model(
            job.model,
            job.options.out,
            keep_batch_norm=job.options.keep_batch_norm,
            input_dtype=job.options.input_dtype,
            **given,
        )
    return dataclasses.replace(report, judged_on=judged_on or report.judged_on)


def _tflite(job):
    from effnet_tf.export import soundness, writing

    wanted = _tflite_options(job)  # before the images are read: it may be refused
    soundness.check_weights(job.model)
    calibration = _calibration(job, wanted)
    stand_in = "noise"
    if wanted.rounds and job.about.normalizes:
        stand_in = "drawn images"
    pixels, labels, judged_on = _verify_with(job, calibration, stand_in)
    if calibration is not None:
        calibration, _ = calibration
    print(f"Writing {job.options.out} ...", flush=True)
    report = writing.write_tflite(
        job.model,
        job.options.out,
        wanted,
        about=job.about,
        verify_with=pixels,
        labels=labels,
        calibration=calibration,
    )
    return dataclasses.replace(report, judged_on=judged_on or report.judged_on)


def _tflite_options(job):
    """Returns the `Options` that the command line means, with a `quantize`."""
    from effnet_tf import export
    from effnet_tf.export import choice

    given = job.options
    quantize = given.quantize
    if quantize is None:
        quantize = choice.quantize(job.model, bool(given.calibration or given.workdir))
    keep_float = given.keep_float
    if keep_float != "auto":
        keep_float = tuple(filter(None, keep_float.split(",")))
    return export.Options(
        quantize=quantize,
        io=given.io,
        batch=given.batch,
        equalize=given.equalize,
        effort=given.effort,
        target_sqnr=given.target_sqnr,
        min_sqnr=given.min_sqnr,
        min_agreement=given.min_agreement,
        keep_float=keep_float,
    )


def _calibration(job, wanted):
    """Returns the (images, labels) to calibrate on; None where nothing is calibrated."""
    from effnet_tf.export.tflite.options import CALIBRATED

    where, count = job.options.calibration, job.options.calibration_images
    if wanted.quantize not in CALIBRATED and not wanted.rounds:
        if where:
            raise InputError(
                "--calibration is for --quantize int8 and int16x8, and for weights8 with "
                f"--effort normal; {_called(wanted)} takes no images."
            )
        return None
    if not where and not job.options.workdir and wanted.quantize not in CALIBRATED:
        return None
    where = where or "run:train"
    if count is None:
        count = ENOUGH.get(wanted.quantize, ENOUGH["int8"])
    found = images.read(where, job.source, job.about, count)
    print(f"Calibrating on {len(found[0])} images of {where}", flush=True)
    return found


def _called(wanted):
    if wanted.effort == "quick":
        return f"{wanted.quantize} with --effort quick"
    return wanted.quantize


def _verify_with(job, calibration=None, stand_in="noise"):
    """Returns the images and labels to verify with, and what they are in words; or (None,) * 3.

    `calibration` is a pair of the same, or None. `stand_in` says what the file is compared on
    where there are none.
    """
    where, count = job.options.verify_with, job.options.verify_images
    if job.options.workdir:
        where = where or "run"
    if where:
        return *images.read(where, job.source, job.about, count), _of(where)
    if calibration is None:
        print(f"No --verify_with: the file is compared with the Keras model on {stand_in}.")
        return None, None, None
    judged_on = f"{_of(job.options.calibration)}, which calibrated it, too, and may flatter it"
    return *(part[:count] for part in calibration), judged_on


def _of(where):
    """Returns where images are from, in words."""
    known = {"run": "held out from training", "run:train": "the run was trained on them"}
    return known.get(where, f"of {where}")


def _write_report(out, about, report):
    """Writes what the file is beside it; the file itself has its place already."""
    from effnet_tf.export import checksum, staging

    print(f"Wrote {out}:\n{report}")
    path = checksum.report_path(out)
    text = _report_text(out, about, report)
    try:
        with staging.staged(path) as temporary:
            staging.write(temporary, text.encode())
        print(f"Wrote {path}")
        if report.layers:
            _draw(report, path.removesuffix(".report.json") + ".layers.png")
    except (OSError, InputError) as error:
        raise SaveError(
            f"the report beside '{out}' cannot be written: {first_line(error)}. The file itself "
            "is whole."
        ) from error


def _report_text(out, about, report):
    from effnet_tf.export import checksum

    content = {
        **dataclasses.asdict(about),
        "check": dataclasses.asdict(report),
        checksum.FIELD: checksum.of(out),
    }
    return json.dumps(content, indent=2) + "\n"


def _draw(report, path):
    """Draws the errors of the layers, first to where any library can write."""
    from effnet_tf import plots
    from effnet_tf.export import staging

    with tempfile.TemporaryDirectory() as folder:
        drawn = os.path.join(folder, "layers.png")
        if not plots.layer_errors(report.layers, report.layers_before, drawn):
            return
        with staging.staged(path) as temporary:
            staging.write(temporary, staging.read(drawn))
    print(f"Drew {path}")
