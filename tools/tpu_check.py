"""Does a training step compile for a TPU, and does it fit? Asked on a machine without one.

    pip install 'effnet_tf[tpu-check]'
    python tools/tpu_check.py --variant b0 --batch_size 1024                    # a minute
    python tools/tpu_check.py --variant b4 --topology v6e:2x4 --largest_batch   # some minutes
    python tools/tpu_check.py --variant b0 --batch_size 1024 --full             # ten minutes

The real step of `effnet_tf.trainer` (optimiser, average, L2, bfloat16, batch norm over all
replicas) is traced for 8 replicas under a TPUStrategy, see fake_tpu.py. libtpu, which is
the TPU's own compiler, then compiles one replica of it for the topology. Every option of
train_tpu.py works; --bn_sync is all by default. Exit code 0: it fits. 1: it does not, or
cannot be compiled; the compiler's own words are printed. 2: bad input.
"""

import argparse
import contextlib
import dataclasses
import importlib
import json
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
PARTS = ("", "tools", "benchmarks")  # where modules lie
sys.path.insert(0, str(ROOT))  # this checkout's effnet_tf and tools, whatever is installed

from effnet_tf import extras, recipes  # noqa: E402
from effnet_tf.errors import InputError  # noqa: E402

REPLICAS = 8
MIB = 2**20
MOST_TRIES = 8  # of --largest_batch


@dataclasses.dataclass(frozen=True)
class Chip:
    """A kind of TPU: what one replica of a TPUStrategy gets of it.

    Attributes:
        hbm_gib: device memory of one replica. The compiler keeps some for itself.
        replicas: per chip.
        example: a topology with 8 replicas.
        options: for jax's `get_topology_desc`.
    """

    hbm_gib: int
    replicas: int
    example: str
    options: dict = dataclasses.field(default_factory=dict)


# Memory: docs.cloud.google.com/tpu/docs/<name>, "HBM capacity", by the number of replicas.
# The two cores of a v4 or v5p are one replica ("megacore"), of the others one each; libtpu
# takes that for granted with v5p only.
CHIPS = {
    "v2": Chip(8, 2, "v2:2x2"),
    "v3": Chip(16, 2, "v3:2x2"),
    "v4": Chip(32, 1, "v4:2x2x2", {"chip_config_name": "megacore"}),
    "v5e": Chip(16, 1, "v5e:2x4"),
    "v5p": Chip(95, 1, "v5p:2x2x2"),
    "v6e": Chip(32, 1, "v6e:2x4"),
}


def chip_of(topology):
    """Returns the `Chip` of a topology such as "v5e:2x4".

    Raises:
        InputError: another form, an unknown chip, or other than 8 replicas.
    """
    name, _, shape = topology.partition(":")
    if not re.fullmatch(r"\d+(x\d+)+", shape) or name not in CHIPS:
        raise InputError(
            f"There is no TPU topology '{topology}'; with 8 replicas there are "
            f"{', '.join(chip.example for chip in CHIPS.values())}."
        )
    replicas = CHIPS[name].replicas * math.prod(map(int, shape.split("x")))
    if replicas != REPLICAS:
        raise InputError(
            f"The topology '{topology}' has {replicas} replicas, and this check is "
            f"for {REPLICAS}, as in '{CHIPS[name].example}'."
        )
    return CHIPS[name]


# --- the two steps of a check, each in a process of its own -----------------------------------


def trace(folder, make_step):
    """Writes step.hlo and step.json into a folder; says in files what it is doing.

    Args:
        folder: a pathlib.Path with settings.json.
        make_step: as `fake_tpu.training_step`.
    """
    import fake_tpu

    settings = json.loads((folder / "settings.json").read_text())
    strategy = fake_tpu.strategy()
    step, specs, parameters = make_step(strategy, settings)
    (folder / "built").touch()
    traced = fake_tpu.trace(strategy, step, specs)
    (folder / "traced").touch()
    try:
        (folder / "step.hlo").write_bytes(fake_tpu.one_replica_hlo(traced))
    except ValueError as error:
        raise Refused(unsupported(str(error))) from error
    _finish(folder / "step.json", {"parameters": parameters})


def _finish(path, figures):
    """Writes the file that ends a stage, whole: the parent kills us when it sees it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(figures))
    part.rename(path)


def unsupported(message):
    """Returns a sentence for XLA's message about operations that it cannot compile."""
    names = ", ".join(sorted(set(re.findall(r"(\w+) \(No registered", message))))
    return (
        f"A TPU cannot run {names}, which the step contains."
        if names
        else f"XLA cannot compile the step: {message}"
    )


def compile_hlo(folder):
    """Compiles step.hlo of a folder with libtpu; writes full.json when code is generated."""
    import jax
    from jax._src.interpreters import mlir
    from jax.experimental import topologies
    from jaxlib import _jax
    from jaxlib.mlir import ir

    name = json.loads((folder / "settings.json").read_text())["topology"]
    try:
        devices = topologies.get_topology_desc(
            name, platform="tpu", **chip_of(name).options
        ).devices
    except jax.errors.JaxRuntimeError as error:
        raise InputError(f"The topology '{name}' is refused: {error}") from error
    with mlir.make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo((folder / "step.hlo").read_bytes()))
        _drop_copies(module)
        try:
            compiled = devices[0].client.compile(
                module,
                executable_devices=_jax.DeviceList(tuple(devices)),
                compile_options=_compile_options(devices),
            )
        except jax.errors.JaxRuntimeError as error:
            raise Refused(str(error)) from error
    costs, memory = compiled.cost_analysis(), compiled.get_compiled_memory_stats()
    _finish(
        folder / "full.json",
        {
            "flops": costs["flops"],
            "bytes_accessed": costs["bytes accessed"],
            "program_mib": round(memory.generated_code_size_in_bytes / MIB, 1),
        },
    )


def _compile_options(devices):
    import numpy as np
    from jaxlib import xla_client

    options = xla_client.CompileOptions()
    assignment = xla_client.DeviceAssignment.create(np.array([[device.id] for device in devices]))
    for holder in (options, options.executable_build_options):
        holder.num_replicas, holder.num_partitions = len(devices), 1
        holder.device_assignment = assignment
    return options


def _drop_copies(module):
    """Removes the no-ops that tf2xla puts around variables; StableHLO has no such operation."""
    from jaxlib.mlir import ir

    copies = []

    def visit(operation):
        if operation.name == "mhlo.copy":
            copies.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    for copy in copies:
        copy.results[0].replace_all_uses_with(copy.operands[0])
        copy.erase()


# --- the parent: progress, time limit, verdict ------------------------------------------------


class Refused(Exception):
    """The step cannot be compiled, or does not fit, in the compiler's own words."""


TRACING = (
    ("building the network", "built"),
    ("tracing", "traced"),
    ("lowering to HLO", "step.json"),
)
COMPILING = (
    ("optimising", "dump/*_before_buffer_assignment.txt"),
    ("assigning buffers", "dump/*_after_buffer_assignment.txt"),
)
GENERATING = (("generating code", "full.json"),)


def check(settings, make_step="fake_tpu:training_step"):
    """Traces and compiles a step; prints how long each phase takes.

    Args:
        settings: a dict: topology, full, time_limit (seconds), and what `make_step` reads.
        make_step: "module:function" in tools/ or benchmarks/, see fake_tpu.training_step.

    Returns:
        A dict: parameters, MiB of device memory, all-reduces, with `full` also FLOPs and bytes.

    Raises:
        Refused: the compiler says no.
    """
    with tempfile.TemporaryDirectory(prefix="tpu_check_") as name:
        folder = pathlib.Path(name)
        (folder / "settings.json").write_text(json.dumps(settings))
        deadline = time.monotonic() + settings["time_limit"]
        _run("trace", folder, TRACING, deadline, make_step)
        _run("compile", folder, COMPILING + GENERATING * settings["full"], deadline)
        return read_figures(folder)


def _run(stage, folder, phases, deadline, make_step=""):
    """Runs a stage in a process of its own until its last phase is over."""
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT / part) for part in PARTS]}; import tpu_check; "
        f"tpu_check.child({stage!r}, {str(folder)!r}, {make_step!r})"
    )
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=_environment(stage, folder),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        for phase, pattern in phases:
            _wait(process, folder, phase, pattern, deadline)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _environment(stage, folder):
    """What keeps TensorFlow and libtpu from looking for devices, or writing elsewhere."""
    quiet = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    if stage == "trace":
        return quiet
    return quiet | {
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_LOG_DIR": str(folder),
        "TPU_MIN_LOG_LEVEL": "0",
        "TPU_STDERR_LOG_LEVEL": "0",
        "XLA_FLAGS": f"--xla_dump_to={folder / 'dump'} --xla_dump_hlo_as_text",
    }


def _wait(process, folder, phase, pattern, deadline):
    """Waits for the file that ends a phase, and shows the seconds."""
    start = time.monotonic()
    live, printed = sys.stdout.isatty(), start
    while not any(folder.glob(pattern)):
        if process.poll() is not None and not any(folder.glob(pattern)):
            _explain(process.returncode, folder, phase)
        now = time.monotonic()
        if now > deadline:
            raise Refused(
                f"The time limit ended {phase}, after {now - start:.0f} s; "
                "--time_limit takes more minutes."
            )
        if live or now - printed > 30:  # a log file gets a line every half minute
            print(f"  {phase:22}{now - start:6.0f} s", end="\r" if live else " ...\n", flush=True)
            printed = now
        time.sleep(0.2)
    print(f"  {phase:22}{time.monotonic() - start:6.0f} s", flush=True)


def _explain(code, folder, phase):
    """Raises what a process that ended too early says."""
    said = folder / "said.txt"
    if said.exists():
        raise (InputError if code == 2 else Refused)(said.read_text())
    last = (folder / "log.txt").read_text(errors="replace").splitlines()[-15:]
    raise RuntimeError(f"The process ended with code {code} while {phase}:\n" + "\n".join(last))


def child(stage, folder, make_step):
    """Runs a stage; what it has to say to the parent goes into said.txt."""
    folder = pathlib.Path(folder)
    try:
        if stage == "trace":
            module, _, function = make_step.partition(":")
            trace(folder, getattr(importlib.import_module(module), function))
        else:
            compile_hlo(folder)
    except (InputError, Refused) as error:
        (folder / "said.txt").write_text(str(error))
        sys.exit(2 if isinstance(error, InputError) else 1)


# --- what the compiler wrote --------------------------------------------------------------------


def read_buffers(text):
    """Returns {"total", "arguments", "temporaries"}, bytes of HBM in a dump of buffers."""
    rows = [
        (int(size), rest)
        for size, space, rest in re.findall(
            r"^allocation \d+: size (\d+)(?:, color (\d+))?(.*)$", text, re.MULTILINE
        )
        if space in ("", "0")
    ]  # the others are on the chip
    return {
        "total": sum(size for size, _ in rows),
        "arguments": sum(size for size, rest in rows if ", parameter " in rest),
        "temporaries": sum(size for size, rest in rows if "preallocated-temp" in rest),
    }


def read_figures(folder):
    """Returns what `check` does, of a folder in which a step was compiled."""
    [buffers] = folder.glob("dump/*.after_optimizations-buffer-assignment.txt")
    sizes = read_buffers(buffers.read_text())
    figures = json.loads((folder / "step.json").read_text())
    figures |= {f"{name}_mib": round(size / MIB, 1) for name, size in sizes.items()}
    for name, pattern in (("all_reduces", "before"), ("all_reduces_compiled", "after")):
        [module] = folder.glob(f"dump/*.{pattern}_optimizations.txt")
        figures[name] = len(re.findall(r" all-reduce(?:-start)?\(", module.read_text()))
    recomputed = re.search(
        r"rematerialization hbm reduction: +(\S+) => (\S+)",
        (folder / "log.txt").read_text(errors="replace"),
    )
    if recomputed:
        figures["recomputed"] = " -> ".join(recomputed.groups())
    full = folder / "full.json"
    return figures | (json.loads(full.read_text()) if full.exists() else {})


# --- the largest batch ----------------------------------------------------------------------------


def largest_batch(fits, start):
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
        count = 2 * low if high is None else (low + high) // 16 * 8
        if high is not None and not low < count < high:
            break
    return low


# --- the program --------------------------------------------------------------------------------


def parse(argv):
    """Returns the parsed command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--topology",
        default="v5e:2x4",
        help="chips and their arrangement, with "
        "8 replicas: " + ", ".join(chip.example for chip in CHIPS.values()),
    )
    parser.add_argument("--step", choices=("train", "eval"), default="train")
    parser.add_argument(
        "--full",
        action="store_true",
        help="also generate code, which takes about "
        "10 minutes for b0, and count FLOPs and bytes per step",
    )
    parser.add_argument(
        "--largest_batch",
        action="store_true",
        help="look for the largest batch "
        f"that fits, from --batch_size on, in {MOST_TRIES} tries at most",
    )
    parser.add_argument("--time_limit", type=float, default=60, help="of a compilation, in minutes")
    parser.add_argument("--json", metavar="FILE", help="write the figures there, too")
    recipes.add_options(parser)
    options = parser.parse_args(argv)
    if not hasattr(options, "bn_sync"):
        options.bn_sync = "all"
    return options


def report(recipe, settings, figures):
    """Returns the lines that say what a step needs."""
    hbm = chip_of(settings["topology"]).hbm_gib * 1024
    images = recipe.eval_batch_size if settings["step"] == "eval" else None
    rows = [
        ("parameters", f"{figures['parameters']:,}", ""),
        ("device memory", f"{figures['total_mib']:,.0f} MiB", f"of {hbm:,} MiB per replica"),
        (
            "  arguments",
            f"{figures['arguments_mib']:,.0f} MiB",
            "parameters, slots, averages, images",
        ),
        ("  temporaries", f"{figures['temporaries_mib']:,.0f} MiB", "activations, gradients"),
        (
            "all-reduces",
            f"{figures['all_reduces']:,}",
            f"{figures['all_reduces_compiled']:,} as compiled",
        ),
    ]
    if "recomputed" in figures:
        rows.append(("recomputing", figures["recomputed"], "by the compiler, to fit"))
    if "flops" in figures:
        rows += [
            ("program", f"{figures['program_mib']:,.0f} MiB", "of device memory, besides"),
            ("FLOPs per step", f"{figures['flops'] / 1e12:,.3f} T", "of one replica"),
            ("bytes per step", f"{figures['bytes_accessed'] / 1e9:,.2f} GB", "of one replica"),
        ]
    title = (
        f"{recipe.resolved_variant().name}, {settings['step']} step, "
        f"{(images or recipe.batch_size) // REPLICAS} images on each of {REPLICAS} "
        f"replicas, {settings['topology']}: it fits"
    )
    return [title, *(f"  {name:16}{value:>18}  {note}".rstrip() for name, value, note in rows)]


def _search(options, recipe):
    """Returns the figures of every try; prints each."""
    tries = []

    def fits(count):
        sized = dataclasses.replace(recipe, batch_size=count * REPLICAS, eval_batch_size=None)
        print(f"{count} images per replica:", flush=True)
        tries.append(_try(options, sized))
        return "refused" not in tries[-1]

    best = largest_batch(fits, max(recipe.batch_size // REPLICAS // 8, 1) * 8)
    print(
        f"Largest batch found that fits: {best * REPLICAS:,} ({best} images per replica)."
        if best
        else "Not even 8 images per replica fit."
    )
    return tries


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
        figures = check(settings)
    except Refused as refusal:
        print(f"refused: {refusal}", flush=True)
        return inputs | {"refused": str(refusal)}
    print(*report(recipe, settings, figures), sep="\n", flush=True)
    return inputs | figures


def main(argv=None):
    """Returns the exit code, see the top of this file."""
    options = parse(argv)
    try:
        chip_of(options.topology)
        recipe = recipes.from_options(options)
        recipe.resolved_variant()
        _require_compiler()
        if options.json and not pathlib.Path(options.json).resolve().parent.is_dir():
            raise InputError(f"--json: there is no folder for '{options.json}'.")
        tries = _search(options, recipe) if options.largest_batch else [_try(options, recipe)]
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(tries, indent=2) + "\n")
    return 0 if any("refused" not in figures for figures in tries) else 1


def _require_compiler():
    extras.require("Asking the TPU's compiler", "tensorflow", "keras")
    extras.require("Asking the TPU's compiler", "jax", "libtpu")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that folders are removed
    sys.exit(main())
