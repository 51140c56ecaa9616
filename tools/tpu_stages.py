"""How are tracing and compiling run: each in a process of its own, with progress and a limit?

The processes say by files how far they are. The parent shows it, and kills each when the file
that ends its last phase is there.
"""

import contextlib
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import NoReturn

from effnet_tf.errors import InputError
from tools import tpu_compiler
from tools.tpu_compiler import Refused

ROOT = pathlib.Path(__file__).resolve().parents[1]
LOG_SECONDS = 30  # between two lines about a phase in a log file

# What is shown, and the file that ends it.
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
COUNTING = (("counting", "counts.json"),)


# --- the parent -----------------------------------------------------------------------------------


def check(settings: dict, make_step: str = "tools.fake_tpu:training_step") -> dict:
    """Traces and compiles a step; prints how long each phase takes.

    Args:
        settings: topology, full, time_limit (seconds), and what `make_step` reads.
        make_step: "module:function", see fake_tpu.training_step.

    Returns:
        What `tpu_compiler.read_figures` does.

    Raises:
        InputError: the topology or what `make_step` read cannot be used.
        Refused: the compiler says no.
    """
    with tempfile.TemporaryDirectory(prefix="tpu_check_") as name:
        folder = pathlib.Path(name)
        (folder / "settings.json").write_text(json.dumps(settings))
        deadline = time.monotonic() + settings["time_limit"]
        _run("trace", folder, TRACING, deadline, make_step)
        _run("compile", folder, _phases(settings["full"]), deadline)
        _run("count", folder, COUNTING, deadline)
        return tpu_compiler.read_figures(folder)


def _phases(full):
    """What the compiler does, and does with --full."""
    if full:
        return (*COMPILING, *GENERATING)
    return COMPILING


def _run(stage, folder, phases, deadline, make_step=""):
    """Runs a stage in a process of its own until its last phase is over."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tools import tpu_stages; "
        f"tpu_stages.child({stage!r}, {str(folder)!r}, {make_step!r})"
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
    start = printed = time.monotonic()
    live = sys.stdout.isatty()
    while not any(folder.glob(pattern)):
        if process.poll() is not None and not any(folder.glob(pattern)):
            _explain(process.returncode, folder, phase)
        now = time.monotonic()
        if now > deadline:
            raise Refused(
                f"The time limit ended {phase}, after {now - start:.0f} s; "
                "--time_limit takes more minutes."
            )
        if live:
            print(_line(phase, start), end="\r", flush=True)
        elif now - printed > LOG_SECONDS:
            print(_line(phase, start), "...", flush=True)
            printed = now
        time.sleep(0.2)
    print(_line(phase, start), flush=True)


def _line(phase, start):
    return f"  {phase:22}{time.monotonic() - start:6.0f} s"


def _explain(code, folder, phase) -> NoReturn:
    """Raises what a process that ended too early says."""
    said = folder / "said.txt"
    if said.exists() and code == 2:
        raise InputError(said.read_text())
    if said.exists():
        raise Refused(said.read_text())
    last = (folder / "log.txt").read_text(errors="replace").splitlines()[-15:]
    raise RuntimeError(f"The process ended with code {code} while {phase}:\n" + "\n".join(last))


# --- the child ------------------------------------------------------------------------------------


def child(stage: str, name: str, make_step: str) -> None:
    """Runs a stage; what it has to say to the parent goes into said.txt.

    Args:
        stage: "trace", "compile" or "count".
        name: of the folder that it works in.
        make_step: of `check`.
    """
    folder = pathlib.Path(name)
    try:
        if stage == "trace":
            _trace(folder, make_step)
        elif stage == "compile":
            tpu_compiler.compile_hlo(folder)
        else:
            tpu_compiler.count(folder)
    except InputError as error:
        (folder / "said.txt").write_text(str(error))
        sys.exit(2)
    except Refused as refusal:
        (folder / "said.txt").write_text(str(refusal))
        sys.exit(1)


def _trace(folder, make_step):
    """Writes step.hlo and step.json into a folder that has settings.json."""
    from tools import fake_tpu

    module, _, function = make_step.partition(":")
    make = getattr(importlib.import_module(module), function)
    strategy = fake_tpu.strategy()
    step, specs, parameters = make(strategy, json.loads((folder / "settings.json").read_text()))
    (folder / "built").touch()
    traced = fake_tpu.trace(strategy, step, specs)
    (folder / "traced").touch()
    (folder / "step.hlo").write_bytes(_hlo(traced))
    tpu_compiler.finish(folder / "step.json", {"parameters": parameters})


def _hlo(traced):
    from tools import fake_tpu

    try:
        return fake_tpu.one_replica_hlo(traced)
    except ValueError as error:
        raise Refused(tpu_compiler.unsupported(" ".join(map(str, error.args)))) from error
