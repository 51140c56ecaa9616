"""The programs `saved_model`, `tflite` and `onnx`: a trained model becomes a verified file."""

import argparse
import dataclasses
import json
import os
import sys
import tempfile

from effnet_tf import extras
from effnet_tf.errors import InputError, first_line

from . import images, run


def add_programs(programs):
    """Adds the programs to the parser's subcommands."""
    for name, text, add in (
        ("saved_model", "write a TensorFlow SavedModel", _saved_model_options),
        ("tflite", "write a TFLite file", _tflite_options),
        ("onnx", "write an ONNX file (needs the extra [onnx])", None),
    ):
        parser = programs.add_parser(name, help=text, description=text)
        run.add_options(parser, required=False)
        parser.add_argument("--model", metavar="FILE", help="a .keras file instead of --workdir")
        parser.add_argument(
            "--labels", metavar="FILE", help="with --model: its class names, one per line"
        )
        parser.add_argument(
            "--crop",
            type=run.crop,
            metavar="PIXELS|FRACTION",
            help="with "
            "--model: how evaluation cut its images. PIXELS: to the middle size / "
            "(size + PIXELS) of the short side, 0: not at all; or that FRACTION "
            f"itself, such as 0.875. Default: {run.CROP_PADDING}",
        )
        parser.add_argument("--out", required=True, help="where to write")
        parser.add_argument(
            "--verify_with",
            metavar="IMAGES",
            help="images to compare the file "
            f"with the Keras model on: {images.SOURCES}; default: run, without "
            "one the calibration images, else noise",
        )
        parser.add_argument(
            "--verify_images",
            type=run.count,
            default=64,
            metavar="N",
            help="how many of them (default 64)",
        )
        if add:
            add(parser)
        parser.set_defaults(run=write, kind=name)


def _saved_model_options(parser):
    parser.add_argument(
        "--keep_batch_norm",
        action="store_true",
        help="keep batch norm as it is, "
        "so that the SavedModel can be trained again; else it is folded",
    )
    parser.add_argument(
        "--input_dtype",
        choices=("float32", "uint8"),
        default="float32",
        help="of the signature serving_default (default float32)",
    )


def _tflite_options(parser):
    add = parser.add_argument
    add(
        "--quantize",
        choices=("none", "float16", "weights8", "int8", "int16x8", "dynamic"),
        help="none: float32; weights8: weights of 8 bits, computed in float; int8: all in "
        "integers. Default: weights8 for a network with swish or squeeze-and-excite, or without "
        "calibration images; int8 for the others",
    )
    add(
        "--io",
        choices=("float", "int8", "uint8"),
        default="float",
        help="type of the input, and in int8 files of the output (default float)",
    )
    add("--batch", type=_batch, default=1, help="images per call, or 'dynamic' (default 1)")
    add(
        "--calibration",
        metavar="IMAGES",
        help="images that tell the ranges for int8 and int16x8: "
        f"{images.SOURCES}; default: run:train",
    )
    add(
        "--calibration_images",
        type=run.count,
        default=500,
        metavar="N",
        help="how many of them (default 500; with fewer, ranges are missed)",
    )
    add(
        "--equalize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="equalise the ranges of channels before int8 and int16x8 (default: yes)",
    )
    add(
        "--correct_biases",
        action="store_true",
        help="take the mean error of rounded weights off the biases",
    )
    add(
        "--keep_float",
        metavar="auto|BLOCK,...",
        default="",
        help="blocks of an int8 file that "
        "stay float, such as block7a,top; auto: few that reach --target_sqnr",
    )
    add(
        "--target_sqnr",
        type=float,
        default=30.0,
        metavar="DB",
        help="of the logits, for --keep_float auto (default 30 dB)",
    )
    add(
        "--min_sqnr",
        type=float,
        metavar="DB",
        help="of the logits; below it nothing is written (default: that of the kind)",
    )


def _batch(text):
    if text == "dynamic":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a batch: give a number or 'dynamic'")
    return int(text)


def write(options):
    """Writes, verifies and reports; a file that fails its check is exit code 1."""
    if options.kind == "onnx":
        extras.require("Writing ONNX files", *extras.ONNX)
    import tensorflow as tf

    from effnet_tf import export

    _check_places(options)
    opened = run.open_model(options)
    model = opened.load_model()
    about = opened.about(model)
    writers = {"saved_model": _saved_model, "tflite": _tflite, "onnx": _onnx}
    try:
        report = writers[options.kind](options, opened, model, about)
    except (export.VerificationError, export.WorkerError) as error:
        print(f"error: {error}\nNothing was written to {options.out}.", file=sys.stderr)
        sys.exit(1)
    except (OSError, tf.errors.OpError) as error:  # a full disk, or one that is gone
        print(
            f"error: '{options.out}' cannot be written: {first_line(error)}. What was "
            "there is as it was.",
            file=sys.stderr,
        )
        sys.exit(74)
    _write_report(
        options,
        dataclasses.replace(about, quantize=report.kind if options.kind == "tflite" else None),
        report,
    )


def _check_places(options):
    """Refuses to write over what is read, and options that would be ignored."""
    for name in ("model", "labels", "workdir"):
        path = getattr(options, name)
        if (
            path
            and os.path.exists(path)
            and os.path.realpath(path) == os.path.realpath(options.out)
        ):
            raise InputError(f"--out is the same file as --{name}: choose another --out.")
    if options.labels and not options.model:
        raise InputError("--labels goes with --model; a run knows its class names.")
    if options.crop is not None and not options.model:
        raise InputError("--crop goes with --model; a run knows how its images were cut.")


def _saved_model(options, opened, model, about):
    from effnet_tf import export

    pixels, labels = _verify_with(options, opened, about, model=model)
    print(f"Writing {options.out} ...", flush=True)
    return export.to_saved_model(
        model,
        options.out,
        keep_batch_norm=options.keep_batch_norm,
        input_dtype=options.input_dtype,
        about=about,
        verify_with=pixels,
        labels=labels,
    )


def _onnx(options, opened, model, about):
    from effnet_tf import export

    pixels, labels = _verify_with(options, opened, about, model=model)
    print(f"Writing {options.out} ...", flush=True)
    return export.to_onnx(model, options.out, about=about, verify_with=pixels, labels=labels)


def _tflite(options, opened, model, about):
    from effnet_tf import export
    from effnet_tf.export import choice, soundness
    from effnet_tf.export.tflite import writing

    quantize = options.quantize
    if quantize is None:
        can_calibrate = bool(options.calibration or options.workdir)
        quantize = choice.quantize(model, can_calibrate)
    keep = options.keep_float
    wanted = export.Options(  # before the images are read: it may be refused
        quantize=quantize,
        io=options.io,
        batch=options.batch,
        equalize=options.equalize,
        correct_biases=options.correct_biases,
        target_sqnr=options.target_sqnr,
        min_sqnr=options.min_sqnr,
        keep_float=keep if keep == "auto" else tuple(filter(None, keep.split(","))),
    )
    soundness.check_weights(model)
    calibration = None
    if options.calibration and quantize not in writing.CALIBRATED:
        raise InputError(f"--calibration is for --quantize int8 and int16x8, not for {quantize}.")
    if quantize in writing.CALIBRATED:
        where = options.calibration or "run:train"
        calibration = images.read(where, opened, about, options.calibration_images)
        print(f"Calibrating on {len(calibration[0])} images of {where}", flush=True)
    pixels, labels = _verify_with(options, opened, about, calibration)
    print(f"Writing {options.out} ...", flush=True)
    return export.to_tflite(
        model,
        options.out,
        about=about,
        verify_with=pixels,
        labels=labels,
        calibration=None if calibration is None else calibration[0],
        **dataclasses.asdict(wanted),
    )


def _verify_with(options, opened, about, calibration=None, model=None):
    """Returns the images and labels to verify with; (None, None) is noise.

    `calibration` is a pair of the same, or None. Labels are for a classifier: `model` tells.
    """
    where = options.verify_with or ("run" if options.workdir else None)
    if where:
        pixels, labels = images.read(where, opened, about, options.verify_images)
        gives_a_map = model is not None and len(model.outputs[0].shape) != 2
        return pixels, None if gives_a_map else labels
    if calibration is None:
        print("No --verify_with: the file is compared with the Keras model on noise.")
        return None, None
    return tuple(part[: options.verify_images] for part in calibration)


def _write_report(options, about, report):
    """Writes what the file is beside it; the file itself has its place already."""
    from effnet_tf.export import checksum, staging

    print(f"Wrote {options.out}:\n{report}")
    path = checksum.report_path(options.out)
    text = (
        json.dumps(
            {
                **dataclasses.asdict(about),
                "check": dataclasses.asdict(report),
                checksum.FIELD: checksum.of(options.out),
            },
            indent=2,
        )
        + "\n"
    )
    try:
        with staging.staged(path) as temporary:
            staging.write(temporary, text.encode())
        print(f"Wrote {path}")
        if report.layers:
            _draw(report, path.removesuffix(".report.json") + ".layers.png")
    except (OSError, InputError) as error:
        print(
            f"error: the report beside '{options.out}' cannot be written: "
            f"{first_line(error)}. The file itself is whole.",
            file=sys.stderr,
        )
        sys.exit(74)


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
