"""What ships: the built wheel, away from the checkout, beside any TensorFlow."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest
from packaging.requirements import Requirement

import effnet_tf

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the sources by this environment's setuptools."""
    out = tmp_path_factory.mktemp("wheel")
    copy = out / "source"
    files = [
        path
        for pattern in (
            "*.py",
            "*.toml",
            "*.md",
            "*.in",
            "LICENSE",
            "Makefile",
            "effnet_tf/**/*.py",
            "effnet_tf/**/*.pyi",
            "effnet_tf/**/*.txt",
            "effnet_tf/py.typed",
            "export/*.py",
            "tests/**/*",
            "tools/*.py",
        )
        for path in ROOT.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    ]
    for path in files:
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, copy],
        check=True,
        capture_output=True,
        text=True,
    )
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A directory with the wheel installed, without its dependencies."""
    target = tmp_path_factory.mktemp("site")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--no-index",
            "--target",
            target,
            wheel,
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return target


def away(installed, *command):
    """Runs a command of the installed wheel, far from the checkout."""
    finished = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=installed.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(installed), "PYTHONWARNINGS": "ignore"},
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return finished.stdout


def test_wheel_holds_the_programs_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    packages = {name.split("/")[0] for name in names if "dist-info" not in name}
    assert packages == {"effnet_tf", "effnet_export", "train_tpu.py"}
    inside = {name for name in names if name.startswith("effnet_tf/")}
    assert inside == {
        str(path.relative_to(ROOT))
        for pattern in ("*.py", "*.pyi", "*.txt", "py.typed")
        for path in ROOT.glob(f"effnet_tf/**/{pattern}")
    }
    assert {"effnet_tf/__init__.pyi", "effnet_tf/py.typed"} <= inside
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_metadata_is_complete(wheel):
    archive = zipfile.ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith("METADATA"))
    text = archive.read(name).decode()
    for line in (
        "Name: effnet_tf",
        f"Version: {effnet_tf.__version__}",
        "Requires-Python: >=3.11",
        ": Apache-2.0\n",  # License or License-Expression
        "Provides-Extra: cpu",
        "Provides-Extra: gpu",
        "Provides-Extra: tpu",
    ):
        assert line in text
    assert wheel.with_name(wheel.name.replace("-py3-none-any.whl", ".tar.gz")).exists()


def test_the_installed_library_is_the_wheel(installed):
    out = away(
        installed,
        "-c",
        "import effnet_tf; print(effnet_tf.__file__);"
        "print(effnet_tf.model_fn('b0', 3, input_shape=(32, 32, 3)).output_shape)",
    )
    assert str(installed) in out and "(None, 3)" in out


def test_the_installed_commands_train_and_export(installed, tmp_path):
    away(
        installed,
        installed / "bin" / "effnet-train",
        "--recipe",
        "smoke",
        "--epochs",
        "1",
        "--holdout",
        "0.8",
        "--workdir",
        tmp_path / "run",
    )
    out = away(
        installed,
        installed / "bin" / "effnet-export",
        "saved_model",
        "--workdir",
        tmp_path / "run",
        "--out",
        tmp_path / "saved",
    )
    assert "largest difference" in out
    assert (tmp_path / "saved" / "saved_model.pb").exists()


def test_without_tensorflow_a_sentence_says_what_to_install(installed, tmp_path):
    # As if it were not installed: Python refuses to import it.
    code = "import sys; sys.modules['tensorflow'] = None; import effnet_tf; effnet_tf."
    assert "5288548" in away(installed, "-c", code + "cost('b0'); print(effnet_tf.cost('b0'))")
    script = (
        "import sys; sys.modules['tensorflow'] = None; import train_tpu;"
        f"sys.argv = ['x', '--recipe', 'smoke', '--workdir', {str(tmp_path / 'r')!r}];"
        "train_tpu.console()"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=installed, capture_output=True, text=True
    )
    assert finished.returncode == 2 and "Traceback" not in finished.stderr
    assert "pip install 'effnet_tf[cpu]'" in finished.stderr
    with pytest.raises(ImportError, match="not there"):
        raise effnet_tf.MissingTensorFlow("not there")


def requirements(name):
    """The unconditional requirements of an installed distribution, here."""
    for text in importlib.metadata.requires(name) or ():
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name.lower().replace("_", "-")


def test_installing_us_brings_no_tensorflow(wheel):
    """Not directly, and not through what we need: a user's TensorFlow stays as it is."""
    archive = zipfile.ZipFile(wheel)
    name = next(name for name in archive.namelist() if name.endswith("METADATA"))
    direct = [
        Requirement(line.partition(": ")[2])
        for line in archive.read(name).decode().splitlines()
        if line.startswith("Requires-Dist")
    ]
    todo = [
        requirement.name.lower().replace("_", "-")
        for requirement in direct
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    ]
    seen = set()
    while todo:
        package = todo.pop()
        if package not in seen:
            seen.add(package)
            todo += requirements(package)
    assert {"keras", "tensorflow-datasets", "keras-cv"} <= seen
    assert not [
        package
        for package in seen
        if package.startswith("tensorflow")
        and package not in ("tensorflow-datasets", "tensorflow-metadata")
    ]
