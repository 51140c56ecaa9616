"""What a type checker knows of the library: every public name, and of which type it is."""

import ast
import importlib
import inspect
import pathlib
import re
import subprocess
import sys

import pytest

import effnet_tf
from tests.helpers import stubs

ROOT = pathlib.Path(__file__).parents[1]


FACE = ROOT / "effnet_tf" / "__init__.pyi"


def names_in(stub):
    """{public name: the module that it comes from, None if it is described in the stub}."""
    found = {}
    for node in ast.parse(stub.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module != "typing":
            for alias in node.names:
                assert alias.asname == alias.name, f"{stub}: say `{alias.name} as {alias.name}`"
                found[alias.name] = node.module
        elif isinstance(node, ast.AnnAssign):
            found[node.target.id] = None
    return {name: home for name, home in found.items() if not name.startswith("_")}


def test_every_public_name_has_a_type():
    # effnet_tf.NAME reaches the packages, too.
    assert set(names_in(FACE)) == {*effnet_tf.__all__, *effnet_tf._PACKAGES}


def test_the_names_come_from_where_the_face_says():
    for name, home in names_in(FACE).items():
        if home is not None:
            given = getattr(importlib.import_module(home), name)
            assert given is getattr(effnet_tf, name), name


@pytest.mark.parametrize("package", stubs.lazy_packages())
def test_the_stubs_of_packages_are_written(package):
    """Else: python -m tests.helpers.stubs."""
    assert stubs.path_of(package).read_text() == stubs.text_of(package)


def test_no_other_stub_lies_about():
    wanted = [stubs.path_of(package) for package in stubs.lazy_packages()]
    assert sorted((ROOT / "effnet_tf").rglob("*.pyi")) == sorted([FACE, *wanted])


def test_the_constructors_have_the_arguments_that_the_stub_says():
    tree = ast.parse(FACE.read_text())
    arguments = {each.name: arguments_of(each) for each in tree.body if is_class(each)}
    stated = {each.target.id: each.annotation.id for each in tree.body if is_stated(each)}
    constructors = {name: kind for name, kind in stated.items() if kind in arguments}
    assert set(constructors) == set(effnet_tf.variants.CONSTRUCTORS)
    for name, kind in constructors.items():
        parameters = inspect.signature(getattr(effnet_tf, name)).parameters
        assert list(parameters) == arguments[kind], name


def is_class(node):
    return isinstance(node, ast.ClassDef)


def is_stated(node):
    """Whether a line of a stub says of which type a name is."""
    return isinstance(node, ast.AnnAssign) and isinstance(node.annotation, ast.Name)


def arguments_of(protocol):
    """Returns the names of the arguments of the calls that a class describes."""
    call = next(each for each in protocol.body if isinstance(each, ast.FunctionDef))
    return [each.arg for each in (*call.args.args[1:], *call.args.kwonlyargs)]


def mypy(*arguments):
    """Runs mypy as `make types` does; returns (exit code, what it says)."""
    finished = subprocess.run(
        [sys.executable, "-m", "mypy", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    return finished.returncode, finished.stdout + finished.stderr


def test_a_program_that_uses_the_public_names_passes_strictly():
    code, said = mypy("--strict", "--follow-imports=silent", "tests/typing/user.py")
    assert code == 0, said


def test_a_wrong_use_is_seen(tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import effnet_tf\n"
        "effnet_tf.cost('b0', resolution='large')\n"
        "effnet_tf.model_fn('b0', colour='red')\n"
        "effnet_tf.EfficientNetB0(classes='ten')\n"
    )
    code, said = mypy("--follow-imports=silent", str(wrong))
    assert code == 1
    assert set(re.findall(r"wrong.py:(\d)", said)) == {"2", "3", "4"}
