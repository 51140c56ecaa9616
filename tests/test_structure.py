"""The shape of the house: floors, lengths, and a README whose code runs."""

import argparse
import ast
import pathlib
import re
import shlex
import statistics
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "effnet_tf").rglob("*.py"))
PROGRAMS = [ROOT / "train_tpu.py", *sorted((ROOT / "export").glob("*.py"))]
SOURCES = [*LIBRARY, *PROGRAMS]

# Imports go down only. Floors below 1.9 need no TensorFlow.
FLOORS = {
    "errors": 0,
    "files": 0.5, "terminal": 0.5, "cluster": 0.5, "programs": 0.7,
    "config": 1, "extras": 1, "class_names": 1,
    "cost": 1.5, "recipe": 1.5, "names": 1.5,
    "storage": 1.9, "worker": 1,
    "layers": 2, "augment": 2, "policies": 2, "optim": 2, "plots": 2, "checkpoints": 2,
    "claims": 2, "locate": 2.5, "runfiles": 2.5, "data.fingerprint": 2,
    "interruption": 2, "strategy": 2,
    "data.order": 2, "data.tables": 2, "data.tfrecord": 2,
    "mbconv": 3, "formats": 3, "rundir": 3, "step": 3, "data.bad": 3, "data.records": 3,
    "data.splits": 2, "data.batches": 4, "data.source": 4, "data.folders": 4.2,
    "data.record_sets": 4.2, "data.sources": 4.4, "data": 5, "data.check": 6, "data.prepare": 6,
    "data.__main__": 7, "diagnosis": 6,
    "published": 4, "finetune": 4, "watch": 4,
    "export.checksum": 2, "export.files": 2.5, "export.flat": 2, "export.soundness": 2,
    "export.report": 2, "export.equalize": 3, "export.about": 3, "export.interpreter": 3,
    "export.fold": 4, "export.metadata": 4, "export.artefact": 5, "export.choice": 5,
    "export.saved_model": 5, "export.onnx_file": 6, "export.runtimes": 6,
    "export.operations": 2, "export.safety": 3, "export.layout": 2,
    "export.verification": 6, "export.quantize": 7, "export.conversion": 8, "export.tflite": 8,
    "export": 9,
    "weights": 5,
    "model": 6,
    "trainer": 7,
    "bad_list": 7,
    "train": 8,
    "dryrun": 10,
}
MAX_FUNCTION, MAX_FILE = 40, 450


def name_of(path):
    """The name of a module of the library: model, data.order; data is its package's face."""
    parts = path.relative_to(ROOT / "effnet_tf").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imports(path):
    """Yields (module, name) of every import in a file, the lazy ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name)
                        for alias in node.names)


def own_modules(path):
    """The modules of effnet_tf that a file imports."""
    for module, name in imports(path):
        home, _, inner = module.partition(".")
        if home == "effnet_tf":
            within = f"{inner}.{name}".lstrip(".")
            yield from [known for known in (within, inner) if known in FLOORS][:1]


def test_every_module_has_a_floor():
    assert {name_of(path) for path in LIBRARY} - {""} == set(FLOORS)


@pytest.mark.parametrize("module", FLOORS)
def test_imports_go_down_only(module):
    path = next(path for path in LIBRARY if name_of(path) == module)
    for other in own_modules(path):
        assert FLOORS[other] < FLOORS[module], f"{module} imports {other}"
    assert not [name for name, _ in imports(path) if name.startswith((".", "train_tpu", "export"))]
    if FLOORS[module] < 1.9:
        outside = {name.split(".")[0] for name, _ in imports(path)} - {"effnet_tf"}
        assert outside <= sys.stdlib_module_names


def test_keras_cv_stays_in_augment():
    for path in SOURCES:
        if path.stem != "augment":
            assert "keras_cv" not in {name.split(".")[0] for name, _ in imports(path)}


def functions(path):
    """Yields (name, lines without the docstring) of every function in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            start = body[0].lineno if body else node.end_lineno
            yield f"{path.name}:{node.name}", node.end_lineno - start + 1


def test_functions_fit_on_a_screen():
    lengths = dict(pair for path in SOURCES for pair in functions(path))
    assert {name: length for name, length in lengths.items() if length > MAX_FUNCTION} == {}
    assert statistics.median(lengths.values()) <= 8


def test_files_answer_one_question():
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCES}
    assert {path: length for path, length in lengths.items() if length > MAX_FILE} == {}
    for path in SOURCES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"


def test_lines_are_short():
    for path in [*SOURCES, *(ROOT / "tests").glob("*.py"), ROOT / "setup.py"]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert len(line) <= 100, f"{path.name}:{number}"


def code_lines(path):
    """Counts the lines of a file that are no blank line, comment or docstring."""
    tree = ast.parse(path.read_text())
    docstrings = set()
    for node in ast.walk(tree):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node):
            docstrings.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return sum(number not in docstrings and bool(line.strip()) and not line.strip().startswith("#")
               for number, line in enumerate(path.read_text().splitlines(), 1))


def test_there_is_at_least_as_much_test_as_code():
    assert sum(map(code_lines, (ROOT / "tests").glob("*.py"))) >= sum(map(code_lines, SOURCES))


README = (ROOT / "README.md").read_text()


def test_readme_starts_with_a_command():
    before, _, _ = README.partition("```sh\nmake demo")
    assert len(before.split()) <= 60 and before != README


@pytest.mark.parametrize("number, code", enumerate(
    re.findall(r"```python\n(.*?)```", README, re.DOTALL)))
def test_readme_python_runs(number, code):
    exec(compile(code, f"README.md block {number}", "exec"), {})


def readme_commands(start):
    text = README.replace("\\\n", " ")
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.splitlines():
            if line.startswith(start):
                yield line.split("#")[0].strip()


@pytest.mark.parametrize("command", [*readme_commands("python train_tpu.py")])
def test_readme_training_commands_parse(command):
    from effnet_tf import recipe
    parser = argparse.ArgumentParser(exit_on_error=False)
    for option in ("--workdir", "--tpu", "--strategy", "--virtual_devices"):
        parser.add_argument(option)
    parser.add_argument("--dry_run", action="store_true")
    recipe.add_options(parser)
    recipe.from_options(parser.parse_args(shlex.split(command)[2:])).resolved_variant()


@pytest.mark.parametrize("command", [*readme_commands("python -m export")])
def test_readme_export_commands_parse(command):
    from export import __main__ as programs
    assert callable(programs.parse(shlex.split(command)[2:]).run)


@pytest.mark.parametrize("command", [*readme_commands("python -m effnet_tf.data")])
def test_readme_data_commands_parse(command):
    from effnet_tf.data import __main__ as program
    assert program.parse(shlex.split(command)[3:]).program in ("check", "prepare")


def test_ci_runs_the_readme_command():
    assert "make test" in (ROOT / ".ci/run").read_text()
    assert "\nmake test " in README


def test_readme_shows_every_recipe():
    from effnet_tf import RECIPES
    for name in RECIPES:
        assert f"| `{name}` |" in README or name.startswith("imagenet-")


OUR_ERRORS = {"InputError", "SaveError", "NotFinite", "Preempted", "TrainingStopped", "TooManyBad",
              "VerificationError", "WorkerError", "MissingPackage"}


def kinds(handler):
    """The names of the exceptions that an `except` catches."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return {each.attr if isinstance(each, ast.Attribute) else each.id for each in caught}


def texts_of(handler):
    """Yields the lines of a handler that format or convert the exception itself."""
    for node in ast.walk(handler):
        if isinstance(node, ast.FormattedValue):
            whole = node.value
        elif isinstance(node, ast.Call) and getattr(node.func, "id", None) == "str" and node.args:
            whole = node.args[0]
        else:
            continue
        if isinstance(whole, ast.Name) and whole.id == handler.name:
            yield node.lineno


def test_the_text_of_others_errors_is_told_by_first_line():
    """Else a message of ours may be empty, or hold TensorFlow's {{function_node ...}}."""
    found = []
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and node.name and not kinds(node) <= OUR_ERRORS:
                found += [f"{path.name}:{line}" for line in texts_of(node)]
    assert found == []
