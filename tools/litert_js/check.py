"""Do .tflite files compute the same in LiteRT.js, the runtime of web pages?

    python tools/litert_js/check.py runs/digits/digits.tflite
    python tools/litert_js/check.py --folder /tmp/litert_js one.tflite another.tflite

Installs @litertjs/core with npm in a folder outside the repository, runs each file under
node on a seeded random image, and compares the answer with that of TensorFlow's
interpreter. The exit code is 0 if every file computes the same: floats to 1e-4, integers
to one step. docs/litert_js.md has what was seen.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402

from effnet_tf.errors import InputError, first_line  # noqa: E402
from effnet_tf.export import identify  # noqa: E402
from effnet_tf.export.tflite import interpreter  # noqa: E402

PACKAGE, VERSION = "@litertjs/core", "2.5.3"
HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
TOLERANCE = 1e-4  # of floats
TIME_LIMIT = 600  # seconds, of npm or of one file


def install(folder: pathlib.Path) -> None:
    """Puts the package, and the script that uses it, into a folder."""
    _check_programs()
    _copy_script(folder)
    manifest = folder / "node_modules" / PACKAGE / "package.json"
    if manifest.exists() and json.loads(manifest.read_text())["version"] == VERSION:
        return
    print(f"Installing {PACKAGE}@{VERSION} in {folder} ...", flush=True)
    options = ["--no-audit", "--no-fund", "--prefix", str(folder)]
    done = _run(["npm", "install", *options, f"{PACKAGE}@{VERSION}"], folder)
    if done.returncode:
        sys.exit(f"npm cannot install {PACKAGE}@{VERSION}:\n{done.stderr.strip()}")


def _check_programs():
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            sys.exit(
                f"The program {program} is not on this machine's PATH: install Node.js 20 or "
                "later (https://nodejs.org), which comes with npm."
            )


def _copy_script(folder):
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "run.mjs", folder)
    except OSError as error:
        sys.exit(f"The folder '{folder}' cannot be used: {first_line(error)}.")


def _run(command, folder):
    """Runs a program in a folder; one that takes too long counts as failed."""
    # npm and node are scripts (.cmd) on Windows, which only their full path finds.
    command = [shutil.which(command[0]), *command[1:]]
    try:
        return subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIME_LIMIT,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(
            command, 1, "", f"Error: no answer within {TIME_LIMIT} seconds"
        )


@dataclasses.dataclass(frozen=True)
class Wanted:
    """An input tensor of a file, and what TensorFlow's interpreter makes of it."""

    image: np.ndarray
    answer: np.ndarray

    def difference(self, values: list) -> float:
        """Returns the largest difference from other values: NaN if one of them is not a number."""
        values = np.array(values, "float64")  # None, JSON's NaN, becomes one
        if values.size != self.answer.size:
            return float("inf")
        return float(np.abs(values - self.answer.astype("float64").ravel()).max())

    @property
    def is_integer(self) -> bool:
        """Whether the answer is quantised."""
        return np.issubdtype(self.answer.dtype, np.integer)


def wanted(path: str) -> Wanted:
    """Runs a file in TensorFlow's interpreter, on a seeded random image.

    Raises:
        InputError: there is no such file, or it does not turn one image into scores.
    """
    if identify.kind(path) != "TFLite":
        raise InputError(f"it is not a TFLite file but {identify.kind(path)}")
    identify.tflite_model(path)  # the interpreter crashes on some damaged files
    opened = interpreter.open_file(pathlib.Path(path).read_bytes())
    inputs, outputs = opened.get_input_details(), opened.get_output_details()
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(
            f"it has {len(inputs)} inputs and {len(outputs)} outputs; this program "
            "compares files with one of each"
        )
    image = _random_image(np.dtype(inputs[0]["dtype"]), inputs[0]["shape"])
    opened.set_tensor(inputs[0]["index"], image)
    opened.invoke()
    return Wanted(image, opened.get_tensor(outputs[0]["index"]))


def _random_image(kind, shape):
    random = np.random.default_rng(0)
    if kind == np.float32:
        return random.uniform(0, 255, shape).astype(kind)
    if kind.itemsize == 1 and np.issubdtype(kind, np.integer):
        return random.integers(0, 256, shape).astype("uint8").view(kind)
    raise InputError(f"it takes {kind}, neither float32 nor bytes")


def answer_of_litert_js(path: str, image: np.ndarray, folder: pathlib.Path) -> dict:
    """Returns what run.mjs prints of a file, or what went wrong, as {"error": sentence}."""
    (folder / "input.bin").write_bytes(image.tobytes())
    done = _run(["node", "run.mjs", os.path.abspath(path), "input.bin"], folder)
    if done.returncode == 0:
        try:
            return json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            return {"error": "Error: node ended without an answer"}
    errors = re.findall(r"^(?:Uncaught )?\w*Error: .*", done.stderr, re.MULTILINE)
    lines = done.stderr.strip().splitlines()
    return {"error": (errors or lines[-1:] or [f"Error: exit code {done.returncode}"])[0]}


def check(path: str, folder: pathlib.Path) -> bool:
    """Prints the line of a file; returns whether it computes the same in LiteRT.js."""
    try:
        right = wanted(path)
    except (InputError, OSError) as error:
        print(f"{path}: {first_line(error)}.", flush=True)
        return False
    found = answer_of_litert_js(path, right.image, folder)
    if "error" in found:
        print(f"{path}: LiteRT.js cannot run it: {found['error']}", flush=True)
        return False
    same, judgement = _judged(right, found["output"]["values"])
    print(
        f"{path}: LiteRT.js {found['litertjs']} under node {found['node']}: "
        f"{found['signature']}({found['input']['name']}: {found['input']['dtype']} "
        f"{found['input']['shape']}) -> {found['output']['name']}, {judgement}, "
        f"fully accelerated: {found['fullyAccelerated']}",
        flush=True,
    )
    return same


def _judged(right, values):
    """Returns (whether values are as wanted, what to say of their difference)."""
    difference = right.difference(values)
    limit, said = TOLERANCE, f"largest difference {difference:.1e}"
    if right.is_integer:
        limit, said = 1, f"largest difference {difference:.0f} (in steps)"
    if difference <= limit:  # not so for NaN
        return True, said
    return False, f"{said} (MORE THAN {limit})"


def parse() -> argparse.Namespace:
    """Returns the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="FILE.tflite")
    parser.add_argument(
        "--folder",
        metavar="DIR",
        help="where npm installs, outside of the repository (default: %(default)s)",
        default=os.path.join(tempfile.gettempdir(), "effnet_litert_js"),
    )
    options = parser.parse_args()
    folder = pathlib.Path(options.folder).resolve()
    if not options.folder or folder.is_relative_to(REPOSITORY):
        parser.error(f"--folder is '{options.folder}'; it must be one outside of {REPOSITORY}.")
    options.folder = folder
    return options


def main() -> None:
    """Checks every file; the exit code is 1 if one of them fails."""
    options = parse()
    install(options.folder)
    results = [check(path, options.folder) for path in options.files]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
