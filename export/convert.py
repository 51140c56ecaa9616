"""The programs `saved_model` and `tflite`: a run directory becomes a verified file."""

import dataclasses
import json
import sys

from . import run


def add_programs(programs):
    """Adds both programs to the parser's subcommands."""
    for name, text in (("saved_model", "write a TensorFlow SavedModel"),
                       ("tflite", "write a float32 TFLite file")):
        parser = programs.add_parser(name, help=text, description=text)
        run.add_options(parser)
        parser.add_argument("--out", required=True, help="where to write")
        parser.add_argument("--verify_images", type=run.count, default=64, metavar="N",
                            help="how many held-out images to compare on (default 64)")
        parser.set_defaults(run=write, kind=name)


def write(options):
    """Writes, verifies and reports; a file that fails its check is exit code 1."""
    from effnet_tf import export, rundir
    opened = run.open_run(options)
    model = opened.load_model()
    images, _ = opened.held_out(options.verify_images)
    print(f"Writing {options.out} ...", flush=True)
    try:
        if options.kind == "saved_model":
            report = export.to_saved_model(
                model, options.out, class_names=opened.class_names, verify_with=images)
        else:
            report = export.to_tflite(model, options.out, verify_with=images)
    except export.VerificationError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    variant = opened.recipe.resolved_variant()
    rundir.write_text(run.report_path(options.out), json.dumps({
        "variant": variant.name, "image_size": variant.resolution,
        "eval_crop_padding": opened.crop_padding(), "exif_rotation": opened.recipe.exif_rotation,
        "scaled_decode": opened.recipe.scaled_decode, "class_names": opened.class_names,
        "workdir": options.workdir, "check": dataclasses.asdict(report)}, indent=2) + "\n")
    print(f"Wrote {options.out}, and {run.report_path(options.out)}:\n{report}")
