"""Runs the tests, a few files to a process, several processes at a time.

    python -m tests.run                       # as `make test` does
    python -m tests.run -m processor -k int8  # pytest's own options

TensorFlow gives no memory back to a process: one that ran all tests took 6 GB. Files that take
long have a process of their own and start first; the others share one, up to `TOGETHER`
seconds. A process that takes more than `MEMORY` fails.
"""

import concurrent.futures
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
MEMORY = 3000  # MiB, of a process and of each that it starts; two run beside each other on 8 GB
PROCESSES = int(os.environ.get("PROCESSES", 2))
TOGETHER = 40  # seconds of tests in one process, about
USUAL = 5  # seconds of a file that is not listed
# Seconds of the others on a quiet machine: they decide what starts first, nothing else.
SECONDS = {
    "programs/test_programs": 182,
    "train/test_loop": 165,
    "train/test_faults": 159,
    "data/test_bad_images": 91,
    "train/test_strategy": 78,
    "data/test_sources": 78,
    "train/test_interrupting": 67,
    "train/test_step": 66,
    "export/tflite/test_writing": 58,
    "models/test_build": 53,
    "test_conformance": 50,
    "test_dry_run": 50,
    "export/test_inputs": 45,
    "weights/test_keras_files": 45,
    "test_missing_packages": 43,
    "models/test_finetune": 39,
    "test_package": 34,
    "export/test_saved_model": 33,
    "data/test_check": 33,
    "weights/test_loading": 31,
    "export/test_writing": 31,
    "weights/test_torch_files": 32,
    "models/test_applications": 25,
    "train/test_trainer": 25,
    "runs/test_hostile_workdirs": 20,
    "train/test_profiling": 20,
    "weights/test_published": 20,
    "data/test_policies": 18,
    "export/tflite/test_equalization": 18,
    "models/test_goldens": 15,
    "tools/test_tpu_check": 15,
    "programs/test_inspect": 13,
    "train/test_cluster": 12,
    "weights/test_torch_archives": 8,
    "programs/test_export": 12,
}
NO_TESTS = 5  # pytest's exit code where every test of the files is deselected


def seconds(path: pathlib.Path) -> int:
    """Returns about how long a file takes."""
    return SECONDS.get(path.relative_to(ROOT / "tests").with_suffix("").as_posix(), USUAL)


def groups(paths: list[pathlib.Path]) -> list[list[pathlib.Path]]:
    """Divides test files among processes: longest first, short ones together."""
    found, sums = [], []
    for path in sorted(paths, key=lambda path: (-seconds(path), path)):
        fits = [number for number, taken in enumerate(sums) if taken + seconds(path) <= TOGETHER]
        if fits:
            found[fits[0]].append(path)
            sums[fits[0]] += seconds(path)
        else:
            found.append([path])
            sums.append(seconds(path))
    return found


def run(paths: list[pathlib.Path], options: list[str]) -> tuple[int, str]:
    """Runs some files in a process of their own; returns its exit code and what it printed."""
    command = [sys.executable, "-m", "pytest", "-q", "--max-memory", str(MEMORY), *options]
    with tempfile.TemporaryFile() as log:
        finished = subprocess.run(
            # Relative: pytest takes a "[" in a path for the beginning of a parameter.
            [*command, *(str(path.relative_to(ROOT)) for path in paths)],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        log.seek(0)
        return finished.returncode, log.read().decode("utf-8", "replace")


def counts(text: str) -> dict[str, int]:
    """Returns {"passed": 12, ...} of pytest's last line."""
    last = text.rstrip().rpartition("\n")[2]
    return {name: int(number) for number, name in re.findall(r"(\d+) (\w+)", last)}


def show(paths: list[pathlib.Path], code: int, text: str) -> None:
    """Prints a line of a process that is done, and all it said if a test failed."""
    names = ", ".join(str(path.relative_to(ROOT / "tests").with_suffix("")) for path in paths)
    if code not in (0, NO_TESTS):
        print(text, flush=True)
    last = text.rstrip().rpartition("\n")[2]
    memory = re.search(r"at its highest: ([\d,]+ MiB)", text)
    print(f"{names}: {last}" + (f", {memory[1]}" if memory else ""), flush=True)


def main(options: list[str]) -> int:
    """Runs all test files; returns the exit code."""
    begun, total, codes = time.monotonic(), {}, []
    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        waiting = {
            pool.submit(run, paths, options): paths
            for paths in groups(sorted((ROOT / "tests").rglob("test_*.py")))
        }
        try:
            for done in concurrent.futures.as_completed(waiting):
                code, text = done.result()
                show(waiting[done], code, text)
                codes.append(0 if code == NO_TESTS else code)
                for name, number in counts(text).items():
                    total[name] = total.get(name, 0) + number
        except KeyboardInterrupt:  # the processes have got it, too
            pool.shutdown(cancel_futures=True)
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
