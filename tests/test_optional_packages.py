"""extras.py: every optional package may be missing, alone and all together.

Here without TensorFlow, and that one table says it all; test_missing_packages.py has the rest.
"""

import ast
import pathlib
import re
import runpy
import subprocess
import sys
from unittest import mock

import pytest
import setuptools

from effnet_tf import extras
from tests.helpers import without

ROOT = pathlib.Path(__file__).parents[1]
# With those that only other packages ask for.
OPTIONAL = sorted({*extras.PACKAGES, "PIL", "pandas", "scipy"} - {"tensorflow", "keras"})


# --- without TensorFlow ------------------------------------------------------------------------


def python(*arguments, blocked=("tensorflow", "keras", *OPTIONAL)):
    """Returns (exit code, all that was printed) of a Python process that lacks packages."""
    finished = subprocess.run(
        [sys.executable, *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=ROOT,
        env=without.environment(blocked),
    )
    return finished.returncode, finished.stdout


PROGRAMS = (
    ("train_tpu.py", "--recipe", "smoke", "--workdir", "none"),
    ("-m", "export", "saved_model", "--workdir", "none", "--out", "none"),
    ("-m", "export", "classify", "none.tflite", "none.png"),
    ("-m", "export", "inspect", "none.tflite"),
    ("-m", "export", "bench", "none.tflite"),
    ("-m", "effnet_tf.data", "check", "--recipe", "smoke", "--out", "none"),
    ("-m", "effnet_tf.data", "prepare", "--recipe", "smoke", "--out", "none"),
    (
        *("-m", "effnet_tf.search", "architecture", "--workdir", "none"),
        *("--base", "b0", "--dataset", "digits"),
    ),
    ("tools/tpu_check.py",),
    ("benchmarks/architecture_search.py",),
    ("benchmarks/int8.py",),
    ("benchmarks/input_pipeline.py",),
    ("benchmarks/export_size.py",),
    ("benchmarks/tpu_step.py",),
    ("benchmarks/start.py",),
    ("benchmarks/inference.py",),
    ("benchmarks/gpu.py",),
    ("benchmarks/training_step.py",),
    ("benchmarks/batch_norm_momentum.py",),
    ("benchmarks/finetune.py",),
    ("benchmarks/lite_weights.py",),
    ("examples/finetune.py", "--data_dir", "none", "--out", "none"),
    ("examples/classify.py",),
)


@pytest.mark.parametrize("arguments", PROGRAMS, ids=" ".join)
def test_a_program_without_tensorflow_is_a_sentence(arguments):
    code, output = python(*arguments)
    *_, last = output.splitlines()  # before it train_tpu.py shows its recipe
    assert code == 2 and "Traceback" not in output, output
    assert last.startswith("error: ") and "needs TensorFlow" in last, output
    assert "pip install 'effnet_tf[cpu" in last and last.endswith("' (or [gpu], or [tpu])"), output


def test_what_needs_no_tensorflow():
    for arguments in (
        ("train_tpu.py",),
        ("-m", "export"),
        ("-m", "export", "tflite"),
        ("-m", "export", "classify"),
        ("-m", "effnet_tf.data"),
        ("-m", "effnet_tf.data", "check"),
        ("-m", "effnet_tf.search"),
        ("-m", "effnet_tf.search", "architecture"),
        ("tools/tpu_check.py",),
    ):
        code, output = python(*arguments, "--help")
        assert code == 0 and output.startswith("usage:"), output
    code, output = python(
        "-c", "import effnet_tf; print(effnet_tf.cost('b0').params, len(effnet_tf.blocks('b0')))"
    )
    assert (code, output) == (0, "5330564 16\n"), output


# --- one place for all -------------------------------------------------------------------------

# flatbuffers and google.protobuf come with TensorFlow.
REQUIRED = {
    "absl",
    "effnet_tf",
    "flatbuffers",
    "google",
    "h5py",
    "keras",
    "numpy",
    "tensorflow",
    "tqdm",
}


def imported(path):
    """Yields the packages that a file imports by statements."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]


def test_optional_packages_are_imported_through_extras():
    sources = [
        ROOT / "train_tpu.py",
        *(ROOT / "effnet_tf").rglob("*.py"),
        *(ROOT / "export").glob("*.py"),
    ]
    for path in sources:
        others = {*imported(path)} - sys.stdlib_module_names - REQUIRED
        assert not others, f"{path} imports {others}"


@pytest.fixture(scope="module")
def setup():
    """What setup.py gives to setuptools."""
    with mock.patch.object(setuptools, "setup") as called:
        runpy.run_path(str(ROOT / "setup.py"))
    return called.call_args.kwargs


def projects(requirements):
    """The names of requirements: {"onnx", "tf2onnx"}."""
    return {re.match(r"[\w-]+", text).group() for text in requirements}


def test_each_extra_exists_and_brings_its_packages(setup):
    for package, (extra, project) in extras.PACKAGES.items():
        requirements = setup["extras_require"][extra] if extra else setup["install_requires"]
        assert project in projects(requirements), f"{package}: [{extra}]"


def test_the_table_of_the_docs_is_complete():
    text = (ROOT / "docs" / "install.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)
    named = {}
    for _, needs, extra, without_it in rows[1:]:
        assert without_it.strip()
        for project in needs.strip().split(", "):
            named.setdefault(project, set()).add(re.split("[]`]", extra.strip(" `["))[0])
    expected = {
        project: {extra or "(effnet_tf itself)"}
        for extra, project in extras.PACKAGES.values()
        if project != "keras"
    }
    assert named == expected
