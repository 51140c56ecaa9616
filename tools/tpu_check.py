"""Does a training step compile for a TPU, and does it fit? Asked on a machine without one.

    pip install 'effnet_tf[tpu-check]'
    python tools/tpu_check.py --variant b0 --batch_size 1024                    # a minute
    python tools/tpu_check.py --variant b4 --topology v6e:2x4 --largest_batch   # some minutes
    python tools/tpu_check.py --variant b0 --batch_size 1024 --full             # ten minutes

The real step of `effnet_tf.train` (optimiser, average, L2, bfloat16, batch norm over all
replicas) is traced for 8 replicas under a TPUStrategy, see fake_tpu.py. libtpu, which is
the TPU's own compiler, then compiles one replica of it for the topology. Every option of
train_tpu.py works; --bn_sync is all by default. Exit code 0: it fits. 1: it does not, or
cannot be compiled; the compiler's own words are printed. 2: bad input.
"""

import argparse
import dataclasses
import json
import pathlib
import signal
import sys
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # this checkout's effnet_tf and tools, whatever is installed

from effnet_tf import command_line, extras, recipes  # noqa: E402
from effnet_tf.errors import InputError  # noqa: E402
from tools import tpu_chips, tpu_stages  # noqa: E402
from tools.tpu_chips import REPLICAS  # noqa: E402
from tools.tpu_compiler import Refused  # noqa: E402

MOST_TRIES = 8  # of --largest_batch


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = command_line.OneLine(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    examples = ", ".join(chip.example for chip in tpu_chips.CHIPS.values())
    parser.add_argument(
        "--topology",
        default="v5e:2x4",
        help=f"chips and their arrangement, with {REPLICAS} replicas: {examples}",
    )
    parser.add_argument("--step", choices=("train", "eval"), default="train")
    parser.add_argument(
        "--full",
        action="store_true",
        help="also generate code, which takes about 10 minutes for b0, and say how long it is",
    )
    parser.add_argument(
        "--largest_batch",
        action="store_true",
        help="look for the largest batch that fits, from --batch_size on, in "
        f"{MOST_TRIES} tries at most",
    )
    parser.add_argument("--time_limit", type=float, default=60, help="of a compilation, in minutes")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    recipes.add_options(parser)
    options = parser.parse_args(argv)
    if not hasattr(options, "bn_sync"):
        options.bn_sync = "all"
    return options


# --- one check ------------------------------------------------------------------------------------


def report(recipe: recipes.Recipe, settings: dict, figures: dict) -> list[str]:
    """Returns the lines that say what a step needs.

    Args:
        recipe: of the step.
        settings: topology and step, as `tpu_stages.check` has them.
        figures: what `tpu_stages.check` returned.
    """
    title = (
        f"{recipe.resolved_variant().name}, {settings['step']} step, "
        f"{_images(recipe, settings['step'])} images on each of {REPLICAS} replicas, "
        f"{settings['topology']}: it fits"
    )
    hbm = tpu_chips.chip_of(settings["topology"]).hbm_gib * 1024
    rows = [*_memory(figures, hbm), *_code(figures)]
    return [title, *(f"  {name:16}{value:>18}  {note}".rstrip() for name, value, note in rows)]


def _images(recipe, step):
    """The images of a batch on one replica."""
    if step == "eval" and recipe.eval_batch_size:
        return recipe.eval_batch_size // REPLICAS
    return recipe.batch_size // REPLICAS


def _memory(figures, hbm):
    """The rows of what was counted when buffers were assigned; `hbm` is in MiB."""

    def mib(name):
        return f"{figures[name]:,.0f} MiB"

    compiled = f"{figures['all_reduces_compiled']:,} as compiled"
    rows = [
        ("parameters", f"{figures['parameters']:,}", ""),
        ("device memory", mib("total_mib"), f"of {hbm:,} MiB per replica"),
        ("  arguments", mib("arguments_mib"), "parameters, slots, averages, images"),
        ("  temporaries", mib("temporaries_mib"), "activations, gradients"),
        ("all-reduces", f"{figures['all_reduces']:,}", compiled),
    ]
    if "recomputed" in figures:
        rows.append(("recomputing", figures["recomputed"], "by the compiler, to fit"))
    return rows


def _code(figures):
    """The rows of what the program does, and of its length if code was generated."""
    rows = [
        ("FLOPs per step", f"{figures['flops'] / 1e12:,.3f} T", "of one replica"),
        ("bytes per step", f"{figures['bytes_accessed'] / 1e9:,.2f} GB", "of one replica"),
    ]
    if "program_mib" in figures:
        rows.append(("program", f"{figures['program_mib']:,.0f} MiB", "of device memory, besides"))
    return rows


def _try(options, recipe):
    """Returns the figures of one check, or {"refused": why}; prints them."""
    settings = {
        "recipe": dataclasses.asdict(recipe),
        "topology": options.topology,
        "step": options.step,
        "full": options.full,
        "time_limit": 60 * options.time_limit,
    }
    inputs = {"batch_size": recipe.batch_size, "topology": options.topology}
    try:
        figures = tpu_stages.check(settings)
    except Refused as refusal:
        print(f"refused: {refusal}", flush=True)
        return inputs | {"refused": str(refusal)}
    print(*report(recipe, settings, figures), sep="\n", flush=True)
    return inputs | figures


# --- the largest batch ----------------------------------------------------------------------------


def largest_batch(fits: Callable[[int], bool], start: int) -> int:
    """Returns the largest multiple of 8 found to fit, or 0, in `MOST_TRIES` tries at most.

    Doubles (or halves) until one fits and one does not, then halves the gap between them.

    Args:
        fits: a function of the images per replica.
        start: the first try; a multiple of 8.
    """
    low, high, count = 0, None, start
    for _ in range(MOST_TRIES):
        if fits(count):
            low = count
        else:
            high = count
        if high is None:
            count = 2 * low
            continue
        count = (low + high) // 16 * 8
        if not low < count < high:
            break
    return low


def _search(options, recipe):
    """Returns the figures of every try; prints each."""
    tries = []

    def fits(count):
        sized = dataclasses.replace(recipe, batch_size=count * REPLICAS, eval_batch_size=None)
        print(f"{count} images per replica:", flush=True)
        tries.append(_try(options, sized))
        return "refused" not in tries[-1]

    best = largest_batch(fits, max(recipe.batch_size // REPLICAS // 8, 1) * 8)
    if best:
        print(f"Largest batch found that fits: {best * REPLICAS:,} ({best} images per replica).")
    else:
        print("Not even 8 images per replica fit.")
    return tries


# --- the program ----------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Returns the exit code, see the top of this file."""
    options = parse(argv)
    try:
        tries = _tries(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(tries, indent=2) + "\n")
    if any("refused" not in figures for figures in tries):
        return 0
    return 1


def _tries(options):
    """Returns the figures of every try."""
    recipe = _checked(options)
    if options.largest_batch:
        return _search(options, recipe)
    return [_try(options, recipe)]


def _checked(options):
    """Returns the recipe that options describe, if all that is needed is there."""
    tpu_chips.chip_of(options.topology)
    recipe = recipes.from_options(options)
    recipe.resolved_variant()
    extras.require("Asking the TPU's compiler", "tensorflow", "keras")
    extras.require("Asking the TPU's compiler", "jax", "libtpu")
    if options.json and not pathlib.Path(options.json).resolve().parent.is_dir():
        raise InputError(f"--json: there is no folder for '{options.json}'.")
    return recipe


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that folders are removed
    sys.exit(main())
