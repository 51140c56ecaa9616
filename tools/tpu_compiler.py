"""What does libtpu, the TPU's own compiler, make of a step, and what does it write about it?"""

import json
import pathlib
import re

from effnet_tf.errors import InputError, first_line
from tools.tpu_chips import chip_of

MIB = 2**20


class Refused(Exception):
    """The step cannot be compiled, or does not fit, in the compiler's own words."""


def unsupported(message: str) -> str:
    """Returns a sentence for XLA's message about operations that it cannot compile."""
    names = ", ".join(sorted(set(re.findall(r"(\w+) \(No registered", message))))
    if names:
        return f"A TPU cannot run {names}, which the step contains."
    return f"XLA cannot compile the step: {message}"


# --- compiling: in a process of its own, see tpu_stages.py ----------------------------------------


def compile_hlo(folder: pathlib.Path) -> None:
    """Compiles step.hlo of a folder with libtpu; writes full.json when code is generated.

    Raises:
        InputError: jax knows no such topology.
        Refused: the compiler says no.
    """
    import jax

    devices = _devices(json.loads((folder / "settings.json").read_text())["topology"])
    try:
        compiled = _compiled((folder / "step.hlo").read_bytes(), devices)
    except jax.errors.JaxRuntimeError as error:
        raise Refused(*error.args) from error  # all that the compiler says, on many lines
    costs, memory = compiled.cost_analysis(), compiled.get_compiled_memory_stats()
    finish(
        folder / "full.json",
        {
            "flops": costs["flops"],
            "bytes_accessed": costs["bytes accessed"],
            "program_mib": round(memory.generated_code_size_in_bytes / MIB, 1),
        },
    )


def finish(path: pathlib.Path, figures: dict) -> None:
    """Writes the file that ends a stage, whole: the parent kills us when it sees it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(figures))
    part.rename(path)


def _devices(topology):
    import jax
    from jax.experimental import topologies

    try:
        found = topologies.get_topology_desc(topology, platform="tpu", **chip_of(topology).options)
    except jax.errors.JaxRuntimeError as error:
        raise InputError(f"The topology '{topology}' is refused: {first_line(error)}.") from error
    return found.devices


def _compiled(hlo, devices):
    """Returns what libtpu makes of an HLO module for devices that are not there."""
    from jax._src.interpreters import mlir
    from jaxlib import _jax
    from jaxlib.mlir import ir

    with mlir.make_ir_context(), ir.Location.unknown():
        module = ir.Module.parse(_jax.mlir.hlo_to_stablehlo(hlo))
        _drop_copies(module)
        return devices[0].client.compile(
            module,
            executable_devices=_jax.DeviceList(tuple(devices)),
            compile_options=_compile_options(devices),
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


def count(folder: pathlib.Path) -> None:
    """Writes counts.json: FLOPs and bytes that the optimised program of a folder says it moves.

    XLA's own analysis of the program that the compiler left when it had assigned buffers.
    Generating code takes many times as long, and changes them by some 0.2 %.
    """
    import jax
    from jaxlib import _hlo, _jax

    [program] = folder.glob("dump/*.after_optimizations.txt")
    module = _hlo.hlo_module_from_text(program.read_text())
    costs = _jax.hlo_module_cost_analysis(jax.devices("cpu")[0].client, module)
    finish(
        folder / "counts.json", {"flops": costs["flops"], "bytes_accessed": costs["bytes accessed"]}
    )


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


# --- what the compiler wrote ----------------------------------------------------------------------


def read_buffers(text: str) -> dict[str, int]:
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


def read_figures(folder: pathlib.Path) -> dict:
    """Returns the figures of a step that was compiled in a folder.

    Returns:
        parameters, MiB of device memory, all-reduces, FLOPs and bytes, and with full.json the MiB
        of the program.
    """
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
    for name in ("counts.json", "full.json"):  # the latter knows better
        if (folder / name).exists():
            figures |= json.loads((folder / name).read_text())
    return figures
