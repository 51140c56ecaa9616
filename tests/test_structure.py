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

# The floors of the house, a row per folder or file of effnet_tf: imports go down only, never
# sideways between the rows of a floor, never up. Inside a folder no two files import each other.
FLOORS = {
    "errors": 0,
    "terminal": 1,
    "extras": 1,
    "local_files": 1,
    "faces": 2,
    "programs": 2,
    "class_names": 2,
    "isolated": 2,
    "variants": 3,
    "layers": 3,
    "optim": 3,
    "storage": 4,
    "recipes": 4,
    "plots": 5,
    "data": 6,
    "runs": 7,
    "weights": 8,
    "models": 9,
    "export": 10,
    "train": 10,
    "dry_run": 11,
}
WITHOUT_TENSORFLOW = (
    "errors",
    "terminal",
    "extras",
    "local_files",
    "faces",
    "programs",
    "class_names",
    "isolated",
    "variants",
    "recipes",
)
MAX_FUNCTION, MAX_FILE = 40, 450


def row_of(path):
    """The row of a file in FLOORS: a folder, or the file itself."""
    return path.relative_to(ROOT / "effnet_tf").with_suffix("").parts[0]


def imports(path):
    """Yields (module, name) of every import in a file, the lazy ones too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                ("." * node.level + (node.module or ""), alias.name) for alias in node.names
            )


def own_modules(path):
    """The modules of effnet_tf that a file imports, such as "data.order"."""
    known = {
        ".".join(other.relative_to(ROOT / "effnet_tf").with_suffix("").parts) for other in LIBRARY
    }
    for module, name in imports(path):
        home, _, inner = module.partition(".")
        if home == "effnet_tf":
            if name == "__version__":
                continue
            within = f"{inner}.{name}".lstrip(".")
            found = [each for each in (within, inner) if each in known or each in FLOORS]
            yield found[0] if found else ""


def test_every_file_has_a_floor():
    assert {row_of(path) for path in LIBRARY} - {"__init__"} == set(FLOORS)


@pytest.mark.parametrize("row", FLOORS)
def test_imports_go_down_only(row):
    for path in LIBRARY:
        if row_of(path) != row:
            continue
        outside = {name.split(".")[0] for name, _ in imports(path)} - {"effnet_tf"}
        assert not [name for name in outside if name in ("", "train_tpu", "export")], path
        if row in WITHOUT_TENSORFLOW:
            assert outside <= sys.stdlib_module_names, path
        for other in own_modules(path):
            home = other.partition(".")[0]
            assert home, f"{path} imports a name of effnet_tf itself"
            assert home == row or FLOORS[home] < FLOORS[row], f"{path} imports {other}"


def test_no_circles_inside_a_folder():
    for path in LIBRARY:
        waiting, seen = list(own_modules(path)), set()
        me = ".".join(path.relative_to(ROOT / "effnet_tf").with_suffix("").parts)
        while waiting:
            module = waiting.pop()
            assert module != me, f"{path} imports itself by way of others"
            if (
                module not in seen
                and (ROOT / "effnet_tf" / f"{module.replace('.', '/')}.py").exists()
            ):
                seen.add(module)
                waiting += own_modules(ROOT / "effnet_tf" / f"{module.replace('.', '/')}.py")


def test_keras_cv_stays_in_one_file():
    for path in SOURCES:
        if path.stem != "decoding":
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
    for path in [*SOURCES, *(ROOT / "tests").rglob("*.py"), ROOT / "setup.py"]:
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
    return sum(
        number not in docstrings and bool(line.strip()) and not line.strip().startswith("#")
        for number, line in enumerate(path.read_text().splitlines(), 1)
    )


def test_there_is_at_least_as_much_test_as_code():
    assert sum(map(code_lines, (ROOT / "tests").rglob("*.py"))) >= sum(map(code_lines, SOURCES))


README = (ROOT / "README.md").read_text()


def test_readme_starts_with_a_command():
    before, _, _ = README.partition("```sh\nmake demo")
    assert len(before.split()) <= 60 and before != README


@pytest.mark.parametrize(
    "number, code", enumerate(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
)
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
    from effnet_tf import recipes

    parser = argparse.ArgumentParser(exit_on_error=False)
    for option in ("--workdir", "--tpu", "--strategy", "--virtual_devices"):
        parser.add_argument(option)
    parser.add_argument("--dry_run", action="store_true")
    recipes.add_options(parser)
    recipes.from_options(parser.parse_args(shlex.split(command)[2:])).resolved_variant()


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


OUR_ERRORS = {
    "InputError",
    "SaveError",
    "NotFinite",
    "Preempted",
    "TrainingStopped",
    "TooManyBad",
    "VerificationError",
    "WorkerError",
    "MissingPackage",
}


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
