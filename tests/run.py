"""Runs the tests: a process for each file, several at a time.

    python -m tests.run                       # as `make test` does
    python -m tests.run -m processor -k int8  # pytest's own options

TensorFlow gives no memory back to a process: one that ran all tests took 6 GB. Importing it takes
as long as many a file's tests: each process is a fork of this one, which imports it once and
computes nothing. Files that take long start first. A process that takes more than `MEMORY` fails.
"""

import gc
import os
import pathlib
import re
import resource
import sys
import tempfile
import time
from typing import IO, NamedTuple

from tests.helpers import heap

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEMORY = 3000  # MiB, of a process and of each that it starts; two run beside each other on 8 GB
PROCESSES = int(os.environ.get("PROCESSES", 2))
USUAL = 5  # seconds of a file that is not listed
# Seconds of the others on a quiet machine: they decide what starts first, nothing else.
SECONDS = {
    "programs/test_programs": 134,
    "habits/test_habits": 106,
    "train/test_faults": 102,
    "train/test_loop": 96,
    "weights/test_loading": 72,
    "models/test_build": 62,
    "data/test_bad_images": 53,
    "test_missing_packages": 53,
    "weights/test_keras_files": 52,
    "test_conformance": 47,
    "train/test_interrupting": 45,
    "models/test_flat": 44,
    "export/test_saved_model": 43,
    "test_package": 43,
    "export/test_inputs": 39,
    "export/tflite/test_writing": 39,
    "data/test_sources": 36,
    "train/test_step": 36,
    "models/test_finetune": 35,
    "train/test_strategy": 35,
    "weights/test_torch_files": 33,
    "export/test_joined": 30,
    "data/test_check": 27,
    "train/test_trainer": 27,
    "export/test_forms": 26,
    "weights/test_claims": 26,
    "tools/test_tpu_check": 23,
    "weights/test_families": 23,
    "programs/test_classify": 22,
    "weights/test_published": 22,
    "inference/test_explaining": 21,
    "test_dry_run": 21,
    "export/test_writing": 20,
    "inference/test_evaluating": 20,
    "weights/test_pixels": 20,
    "models/test_goldens": 19,
    "test_held_files": 19,
    "export/test_folding": 18,
    "inference/test_embedding": 17,
    "runs/test_hostile_workdirs": 17,
    "export/tflite/test_equalization": 16,
    "models/test_saved": 16,
    "weights/test_tf_checkpoints": 16,
    "data/test_policies": 14,
    "models/test_counting": 14,
    "programs/test_inspect": 14,
    "test_documents": 14,
    "train/test_profiling": 14,
    "weights/test_keras_applications": 13,
    "inference/test_multi": 12,
    "scaling/test_planning": 11,
    "export/test_preprocessing": 10,
    "layers/test_lean": 10,
}
NO_TESTS = 5  # pytest's exit code where every test of a file is deselected


class Process(NamedTuple):
    """A file whose tests run, and what they print."""

    name: str
    log: IO[bytes]


def name_of(path: pathlib.Path) -> str:
    """Returns "train/test_loop" of a file."""
    return path.relative_to(ROOT / "tests").with_suffix("").as_posix()


def files() -> list[pathlib.Path]:
    """Returns the test files, those that take longest first."""
    found = (ROOT / "tests").rglob("test_*.py")
    return sorted(found, key=lambda path: (-SECONDS.get(name_of(path), USUAL), path))


def with_marks(paths: list[pathlib.Path], options: list[str]) -> list[pathlib.Path]:
    """Returns the files that can have a test for `-m "MARK and ..."`: others need no process."""
    expression = dict(zip(options, options[1:])).get("-m", "")
    demanded = re.match(r"(\w+)(?= and |$)", expression)
    if demanded is None or demanded[0] == "not":
        return paths
    return [path for path in paths if f"mark.{demanded[0]}" in path.read_text(encoding="utf-8")]


def import_libraries() -> None:
    """Imports what takes long, once; not our own code, whose warnings the tests look at."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    heap.keep_little()
    import pytest  # noqa: F401
    import tensorflow
    import tensorflow_datasets  # noqa: F401

    tensorflow.keras  # loaded when first used
    gc.freeze()  # no collection in a fork looks through all of it
    # Nor as often through what networks are made of, most of which lives until its test ends.
    gc.set_threshold(10_000, 10, 10)


def start(path: pathlib.Path, options: list[str]) -> tuple[int, Process]:
    """Runs a file in a fork of this process; returns its number, and where it prints."""
    log = tempfile.TemporaryFile()
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number, Process(name_of(path), log)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    import pytest

    # Relative: pytest takes a "[" in a path for the beginning of a parameter.
    file = str(path.relative_to(ROOT))
    sys.argv = ["pytest", "-q", "--max-memory", str(MEMORY), *options, file]
    sys.exit(pytest.main(sys.argv[1:]))


def counts(text: str) -> dict[str, int]:
    """Returns {"passed": 12, ...} of pytest's last line."""
    last = text.rstrip().rpartition("\n")[2]
    return {name: int(number) for number, name in re.findall(r"(\d+) (\w+)", last)}


def show(name: str, code: int, text: str, used: resource.struct_rusage) -> None:
    """Prints a line of a process that is done, and all it said if a test failed."""
    if code not in (0, NO_TESTS):
        print(text, flush=True)
    last = text.rstrip().rpartition("\n")[2]
    memory = re.search(r"at its highest: ([\d,]+ MiB)", text)
    busy = f"{used.ru_utime + used.ru_stime:.0f} s of processor"
    print(f"{name}: {last}, {busy}" + (f", {memory[1]}" if memory else ""), flush=True)


def finish(running: dict[int, Process]) -> tuple[int, dict[str, int]]:
    """Waits for a process and shows it; returns its exit code and its counts."""
    number, status, used = os.wait4(-1, 0)
    process = running.pop(number)
    with process.log as log:
        log.seek(0)
        text = log.read().decode("utf-8", "replace")
    code = os.waitstatus_to_exitcode(status)
    show(process.name, code, text, used)
    return code, counts(text)


def run_all(options: list[str]) -> tuple[list[int], dict[str, int]]:
    """Runs all files; returns the exit codes, and the sum of the counts."""
    waiting, running, codes, total = with_marks(files(), options), {}, [], {}
    while waiting or running:
        while waiting and len(running) < PROCESSES:
            number, process = start(waiting.pop(0), options)
            running[number] = process
        code, found = finish(running)
        codes.append(0 if code == NO_TESTS else code)
        for name, count in found.items():
            total[name] = total.get(name, 0) + count
    return codes, total


def main(options: list[str]) -> int:
    """Runs all test files; returns the exit code."""
    begun = time.monotonic()
    os.chdir(ROOT)
    import_libraries()
    try:
        codes, total = run_all(options)
    except KeyboardInterrupt:  # the processes have got it, too
        return 130
    failed = total.get("failed", 0) + total.get("error", 0) + total.get("errors", 0)
    died = sum(code not in (0, 1) for code in codes)
    print(f"\n{(time.monotonic() - begun) / 60:.1f} minutes, {PROCESSES} processes at a time")
    print(
        f"{total.get('passed', 0)} passed, {failed + died} failed, "
        f"{total.get('skipped', 0)} skipped"
    )
    return 1 if any(codes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
