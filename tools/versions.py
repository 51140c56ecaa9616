"""Does effnet_tf work with every Python, and with the oldest packages, that setup.py admits?

    python tools/versions.py                      # a smoke test for each
    python tools/versions.py --write_constraints  # today's packages become constraints*.txt

Each smoke test (tools/smoke.py) has a new virtual environment with the extra [cpu] of a wheel that
is built once: the oldest
Python that is found on this machine has the lowest version of everything that setup.py names,
the others have the packages of constraints.txt. (`make demo` and `make test` try those with the
Python that is this machine's own.)
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
CONSTRAINTS = ROOT / "constraints.txt"
# Per file the extras whose packages are installed together: no two may need different versions.
EXTRAS = {
    "constraints.txt": "cpu,demo,examples,onnx,clients,tpu-check,test,docs",
    "constraints-tpu.txt": "tpu,demo,test",
}
INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
HEADER = """\
# Installed by `make` and CI; `make test LATEST=1` takes the newest instead. `make constraints`
# writes today's versions: run the tests on them before they are committed.
"""


def pythons() -> dict[str, str]:
    """Returns {version: executable} of the Pythons found here that start."""
    managed = pathlib.Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    found = {}
    for version in PYTHONS:
        candidates = [f"python{version}"]
        candidates += sorted(map(str, managed.glob(f"{version}.*/bin/python")))
        for candidate in candidates:
            if starts(candidate, version):
                found[version] = candidate
                break
    return found


def starts(executable: str, version: str) -> bool:
    """Whether a Python can be run and is of a version."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        finished = subprocess.run([executable, "-c", code], capture_output=True, text=True)
    except OSError:
        return False
    return finished.stdout.strip() == version


def lower_bounds() -> list[str]:
    """Returns "name==version" of the lowest version of TensorFlow and of each requirement."""
    text = (ROOT / "setup.py").read_text(encoding="utf-8")
    required = text.partition("install_requires=")[2].partition("extras_require=")[0]
    bounds = re.findall(r'"([A-Za-z0-9_-]+)>=([0-9.]+)', required)
    (lowest,) = re.findall(r'^TENSORFLOW = ">=([0-9.]+)', text, re.MULTILINE)
    bounds += [("tensorflow", lowest), ("tensorflow-cpu", lowest)]
    return [f"{name}=={version}" for name, version in bounds]


def build(python: str, folder: str) -> str:
    """Builds this checkout's wheel, once for all; returns its path."""
    environment = os.path.join(folder, "environment")
    subprocess.run([python, "-m", "venv", environment], check=True)
    inside = os.path.join(environment, "bin", "python")
    # From here: pip takes a "[" in the checkout's own path for the beginning of extras.
    command = [inside, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, "."]
    subprocess.run([*command, "--disable-pip-version-check"], cwd=ROOT, check=True)
    (wheel,) = pathlib.Path(folder).glob("*.whl")
    return str(wheel)


def smoke(title: str, python: str, wheel: str, constraints: pathlib.Path) -> bool:
    """Installs the extra [cpu] into a new environment, and tries it; returns whether it works."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([python, "-m", "venv", folder], check=True)
        inside = os.path.join(folder, "bin", "python")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        # The environment is used once: what is imported is compiled then, the rest never.
        install = [*INSTALL, "--no-compile", "--constraint", str(constraints), f"{wheel}[cpu]"]
        printed = ""
        for command in (install, [str(ROOT / "tools" / "smoke.py")]):
            finished = subprocess.run(
                [inside, *command],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            printed += finished.stdout
            if finished.returncode:
                break
    verdict = "" if finished.returncode == 0 else f"{title}: failed.\n"
    print(f"\n{title}\n{printed}{verdict}", end="", flush=True)
    return finished.returncode == 0


def try_all() -> None:
    """Runs every smoke test that this machine has a Python for, two at a time."""
    found = pythons()
    if not found:
        sys.exit(f"None of Python {', '.join(PYTHONS)} is on this machine.")
    oldest, *others = found
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        path = pathlib.Path(folder, "oldest.txt")
        path.write_text("\n".join(lower_bounds()) + "\n", encoding="utf-8")
        tests = [(f"Python {oldest}, the oldest packages that setup.py admits", oldest, path)]
        for version in others:
            title = f"Python {version}, the packages of {CONSTRAINTS.name}"
            tests.append((title, version, CONSTRAINTS))
        print(f"Trying Python {', '.join(found)}, two at a time; it takes minutes ...", flush=True)
        wheel = build(found[oldest], folder)
        runs = [pool.submit(smoke, title, found[each], wheel, file) for title, each, file in tests]
        works = [run.result() for run in runs]
    for version in PYTHONS:
        if version not in found:
            print(f"\nPython {version} is not on this machine: not tried.")
    if not all(works):
        sys.exit("Some of them failed.")
    print(f"\nPython {', '.join(found)}: all of them work.")


def todays(python: str, *wanted: str) -> dict[str, str]:
    """Returns {package: version} of what pip would install today for a Python."""
    finished = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--dry-run", "--report", "-", *wanted],
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
    )
    packages = [each["metadata"] for each in json.loads(finished.stdout)["install"]]
    return {package["name"].lower().replace("_", "-"): package["version"] for package in packages}


def write_constraints() -> None:
    """Asks pip which versions it would install today, and writes them."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = os.path.join(folder, "bin", "python")
        for name, extras in EXTRAS.items():
            write(ROOT / name, versions_for(python, extras))


def versions_for(python: str, extras: str) -> dict[str, str]:
    """Returns {package: version} of today for extras, and of TensorFlow beside them."""
    versions = todays(python, f".[{extras}]")
    del versions["effnet-tf"]
    tensorflow = versions.get("tensorflow-cpu") or versions["tensorflow-tpu"]
    # What the Makefile installs by itself, beside the TensorFlow of the same number.
    minor = ".".join(tensorflow.split(".")[:2])
    versions |= todays(python, "--no-deps", f"tf_keras=={minor}.*")
    if "tensorflow-cpu" in versions:
        versions["tensorflow"] = tensorflow  # the same under its other name
    return versions


def write(path: pathlib.Path, versions: dict[str, str]) -> None:
    """Writes a file of constraints whole or not at all."""
    lines = [f"{name}=={version}" for name, version in sorted(versions.items())]
    temporary = path.with_suffix(".tmp")
    temporary.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    temporary.replace(path)
    print(f"Wrote {len(lines)} versions to {path}.")


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--write_constraints",
        action="store_true",
        help="write today's versions to constraints*.txt instead",
    )
    if parser.parse_args().write_constraints:
        write_constraints()
    else:
        try_all()


if __name__ == "__main__":
    main()
