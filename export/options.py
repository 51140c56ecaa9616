"""Which options do the programs have that write files, and what may their values be?"""

import argparse

from effnet_tf.export.tflite.options import EFFORTS, IO, QUANTIZE, TARGET_SQNR
from effnet_tf.inference.options import count, crop

from . import images, opened

ENOUGH = {"int8": 500, "weights8": 64}  # calibration images, by kind of file


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds the options that name a run and the place of its data."""
    parser.add_argument("--workdir", help="directory of a training run")
    parser.add_argument("--data_dir", help="where the run's data set lies now, if elsewhere")


def add_labels(parser: argparse.ArgumentParser, whose: str) -> None:
    """Adds the option --labels; `whose` begins its help."""
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help=f"{whose}, in a file with one per line; or '{opened.IMAGENET}', for the names of its "
        "1,000 classes",
    )


def add_common(parser: argparse.ArgumentParser) -> None:
    """Adds the options that all kinds of files have."""
    add_run(parser)
    add = parser.add_argument
    add("--model", metavar="FILE", help="a .keras file instead of --workdir")
    add(
        "--checkpoint",
        choices=("best", "last"),
        help="which of the run's to take; by default the best of a run trained with --keep best",
    )
    add_labels(parser, "with --model: its class names")
    add(
        "--crop",
        type=crop,
        metavar="PIXELS|FRACTION",
        help="with "
        "--model: how evaluation cut its images. PIXELS: to the middle size / "
        "(size + PIXELS) of the short side, 0: not at all; or that FRACTION "
        f"itself, such as 0.875. Default: {opened.CROP_PADDING}",
    )
    add("--out", required=True, help="where to write")
    add(
        "--verify_with",
        metavar="IMAGES",
        help="images to compare the file "
        f"with the Keras model on: {images.SOURCES}; default: run, without "
        "one the calibration images, else noise",
    )
    add(
        "--verify_images", type=count, default=64, metavar="N", help="how many of them (default 64)"
    )


def add_saved_model(parser: argparse.ArgumentParser) -> None:
    """Adds the options of SavedModels."""
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


def add_tflite(parser: argparse.ArgumentParser) -> None:
    """Adds the options of TFLite files."""
    add = parser.add_argument
    add(
        "--quantize",
        choices=QUANTIZE,
        help="none: float32; weights8: weights of 8 bits, computed in float; int8: all in "
        "integers; int16x8: with activations of 16 bits, slow on CPUs. Default: weights8 for a "
        "network with swish or squeeze-and-excite, or without calibration images; int8 for the "
        "others",
    )
    add(
        "--io",
        choices=IO,
        default="float",
        help="type of the input, and in int8 files of the output (default float)",
    )
    add("--batch", type=_batch, default=1, help="images per call, or 'dynamic' (default 1)")
    _calibration_options(add)
    _integer_options(add)
    _sqnr_options(add)


def _calibration_options(add):
    add(
        "--calibration",
        metavar="IMAGES",
        help="images that tell the ranges for int8 and int16x8, and for which the weights of "
        f"these and weights8 are rounded: {images.SOURCES}; default: run:train; weights8 without "
        "a run: drawn ones",
    )
    add(
        "--calibration_images",
        type=count,
        metavar="N",
        help=f"how many of them (default {ENOUGH['int8']}: with fewer, ranges are missed; "
        f"{ENOUGH['weights8']} for weights8)",
    )


def _integer_options(add):
    add(
        "--equalize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="equalise the ranges of channels before int8 and int16x8 (default: yes)",
    )
    add(
        "--effort",
        choices=EFFORTS,
        help="how long making 8-bit numbers may take. quick, seconds: each weight is rounded for "
        "itself; normal, a minute or two: so that their errors cancel on the calibration images; "
        "thorough, some minutes more: int8's ranges of activations are searched for, too. "
        "Default: normal",
    )
    add(
        "--keep_float",
        metavar="auto|BLOCK,...",
        default="",
        help="blocks of an int8 file that "
        "stay float, such as block7a,top; auto: few that reach --target_sqnr",
    )


def _sqnr_options(add):
    add(
        "--target_sqnr",
        type=float,
        default=TARGET_SQNR,
        metavar="DB",
        help=f"of the logits, for --keep_float auto (default {TARGET_SQNR:g} dB)",
    )
    add(
        "--min_sqnr",
        type=float,
        metavar="DB",
        help="of the logits against the Keras model's; below it nothing is written (default: any)",
    )
    add(
        "--min_agreement",
        type=float,
        metavar="SHARE",
        help="of the images whose best class is the Keras model's, such as 0.9; below it nothing "
        "is written (default: any)",
    )


def _batch(text):
    if text == "dynamic":
        return text
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a batch: give a number or 'dynamic'")
    return int(text)
