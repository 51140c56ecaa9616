"""Looks at a data set before it is trained on, or prepares a smaller copy of it.

    python -m effnet_tf.data check --dataset folder --data_dir photos --out report
    python -m effnet_tf.data prepare --dataset imagenet2012 --data_dir DIR --out DIR/small

`check` decodes every image, prints classes, counts, sizes, bad images and duplicates across
the splits, and draws augmented samples. `prepare` writes TFRecord files of shrunk training
images for `--dataset tfrecord`. Exit codes: 0 all is well; 1 `check` found faults; 2 bad input;
74 a file cannot be written or read; 130 interrupted by hand; 143 ended by SIGTERM.
"""

import argparse
import os
from typing import TYPE_CHECKING

from effnet_tf import extras, programs, progress, recipes
from effnet_tf.errors import InputError, first_line

if TYPE_CHECKING:  # it needs TensorFlow, which takes seconds
    from effnet_tf.data.source import Source

FAULTS = 1  # exit code of `check`


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    from effnet_tf import command_line

    parser = command_line.parser("python -m effnet_tf.data", __doc__)
    programs = parser.add_subparsers(dest="program", required=True)
    for name, text, out in (
        (
            "check",
            "scan a data set for faults",
            "folder for bad_examples.jsonl and contact_sheet.png",
        ),
        ("prepare", "write a pre-shrunk copy as TFRecord files", "folder for the copy"),
    ):
        program = programs.add_parser(name, help=text, description=text)
        program.add_argument("--out", required=True, help=out)
        recipes.add_options(program)
    programs.choices["prepare"].add_argument(
        "--quality",
        type=int,
        default=95,
        choices=range(1, 101),
        metavar="1..100",
        help="of the JPEGs (default 95)",
    )
    return parser.parse_args(argv[1:])


def check(source: "Source", recipe: recipes.Recipe, options: argparse.Namespace) -> int:
    """Runs `check`; returns the exit code."""
    from effnet_tf import storage
    from effnet_tf.data import check as data_check

    findings = data_check.scan(source)
    print("\n".join(data_check.table(source, findings)))
    path = os.path.join(options.out, "bad_examples.jsonl")
    storage.write_rows(path, source.bad.entries)
    print(f"\n{_listed(len(source.bad.entries), path)}")
    sheet = os.path.join(options.out, "contact_sheet.png")
    if data_check.contact_sheet(source, recipe, sheet):
        print(f"In each row an image as evaluation sees it, then as training does: {sheet}")
    if source.bad.entries or findings.across_splits() or findings.across_classes():
        return FAULTS
    return 0


def _listed(count, path):
    if not count:
        return f"All images can be used; {path} is empty."
    return f"Images that cannot be used ({count:,}) and why: {path}"


def prepare(source: "Source", recipe: recipes.Recipe, options: argparse.Namespace) -> int:
    """Runs `prepare`; returns the exit code."""
    from effnet_tf.data import prepare as copying

    about = copying.prepare(source, recipe, options.out, quality=options.quality)
    train = about["train"]
    listed = os.path.join(options.out, "bad_examples.jsonl")
    if train["left_out"]:
        print(
            f"Left out {train['left_out']:,} of {train['left_out'] + train['images']:,} training "
            f"images, which cannot be used: {listed}"
        )
    print(
        f"Wrote {options.out}: {train['images']:,} training images of {about['short_side']} "
        f"pixels or less on the short side, {train['bytes'] / 1e6:,.1f} MB instead of "
        f"{train['bytes_before'] / 1e6:,.1f}; {about['validation']['images']:,} held-out images "
        f"unchanged, and not looked at (`check` does that). What it costs: resized to the "
        f"network's input, the images differ by "
        f"{about['mean_difference_grey_levels']:.2f} grey levels on average.\n"
        "Train on it with the same recipe and options, but these: --recipe "
        f"{options.recipe or recipes.default_recipe_name(recipe.dataset)} "
        f"--dataset tfrecord --data_dir {options.out}"
    )
    return 0


def main(options: argparse.Namespace) -> int:
    """Runs the program that was chosen; returns its exit code."""
    programs.on_interruption(_last_words(options))
    recipe = recipes.from_options(options)
    recipe.resolved_variant()
    _check_outside(options.out, recipe)
    with programs.nothing_to_undo():
        extras.require("This program", "tensorflow", "keras")
        with progress.starting():
            from effnet_tf.data import sources  # it takes seconds
    if options.program == "check":
        extras.require_for_training(recipe)  # it draws what training sees
    source = sources.open_source(recipe, for_training=False)
    if options.program == "check":
        _make_folder(options.out)
    return {"check": check, "prepare": prepare}[options.program](source, recipe, options)


def _last_words(options):
    """Returns the function that says what an interruption leaves of --out."""
    if options.program == "prepare":
        result, what = options.out, f"nothing was written to {options.out}"
    else:
        result = os.path.join(options.out, "bad_examples.jsonl")
        what = f"no report was written to {options.out}"
    before = programs.state_of(result)

    def last_words():
        if programs.state_of(result) == before:
            return what
        return f"{result} had been written and is whole"

    return last_words


def _check_outside(out, recipe):
    """Refuses to write into the folder of images, where the result would be taken for a class."""
    root = recipe.data_dir
    if recipe.dataset == "folder" and root and "://" not in out + root:
        inside, outside = (os.path.join(os.path.realpath(path), "") for path in (out, root))
        if inside.startswith(outside):
            raise InputError(
                f"--out '{out}' lies in the folder of images '{root}', where it would "
                "be taken for a class: choose another place."
            )


def _make_folder(path):
    """Makes the folder of the report before a scan that may take an hour."""
    import tensorflow as tf

    try:
        tf.io.gfile.makedirs(path)
        if not tf.io.gfile.isdir(path):
            raise InputError(f"--out '{path}' is a file; it must be a folder.")
    except tf.errors.OpError as error:
        raise InputError(
            f"The folder --out '{path}' cannot be made: {first_line(error)}."
        ) from error


if __name__ == "__main__":
    programs.run(main, parse)
