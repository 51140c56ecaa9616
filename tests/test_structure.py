"""The shape of the house: floors, lengths, and a README whose code runs."""

import ast
import functools
import pathlib
import re
import statistics
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "effnet_tf").rglob("*.py"))
PROGRAMS = [
    ROOT / "train_tpu.py",
    *sorted((ROOT / "export").glob("*.py")),
    *sorted((ROOT / "tools").glob("*.py")),
]
SOURCES = [*LIBRARY, *PROGRAMS]

# The floors of the house, a row per folder or file of effnet_tf: imports go down only, never
# sideways between the rows of a floor, never up. Inside a folder no two files import each other.
FLOORS = {
    "errors": 0,
    "called": 1,
    "columns": 1,
    "terminal": 1,
    "extras": 1,
    "quiet": 1,
    "local_files": 1,
    "messages": 1,
    "multilabel": 1,
    "intervals": 1,
    "faces": 2,
    "programs": 2,
    "progress": 2,
    "class_names": 2,
    "isolated": 2,
    "command_line": 2,
    "variants": 2.5,
    "costs": 3,
    "layers": 3,
    "storage": 4,
    "recipes": 4,
    "optim": 5,
    "plots": 5,
    "data": 6,
    "runs": 7,
    "weights": 8,
    "models": 9,
    "export": 10,
    "train": 10,
    "dry_run": 11,
    "scaling": 11,
    "catalog": 12,
    "inference": 11,
    "__main__": 12,
    "search": 12,
}
WITHOUT_TENSORFLOW = (
    "errors",
    "called",
    "columns",
    "terminal",
    "extras",
    "quiet",
    "local_files",
    "messages",
    "faces",
    "programs",
    "progress",
    "class_names",
    "isolated",
    "command_line",
    "variants",
    "costs",
    "recipes",
    "scaling",
    "catalog",
    "__main__",
)
# Packages without TensorFlow that these rows may import.
LIGHT = {
    "progress": {"tqdm"},
    "programs": {"absl"},
    "command_line": {"absl"},
    "scaling": {"absl"},
    "catalog": {"absl"},
}
# Lines: a body that fits on a screen, a class that one holds, a file that answers one question.
MAX_FUNCTION, MEDIAN_FUNCTION, MAX_CLASS, MAX_FILE = 30, 8, 200, 300
MAX_CONDITIONALS = 10  # conditional expressions per 1,000 lines
MAX_README_LINES, MAX_README_WORDS = 130, 900


def row_of(path):
    """The row of a file in FLOORS: a folder, or the file itself."""
    return path.relative_to(ROOT / "effnet_tf").with_suffix("").parts[0]


@functools.cache
def text_of(path):
    """The text of a file, which many tests look at."""
    return path.read_text()


@functools.cache
def tree_of(path):
    """The syntax tree of a file."""
    return ast.parse(text_of(path))


@functools.cache
def nodes_of(path):
    """All nodes of the syntax tree of a file."""
    return list(ast.walk(tree_of(path)))


@functools.cache
def imports(path):
    """The (module, name) of every import in a file, the lazy ones too."""
    return list(imports_among(nodes_of(path)))


def imports_among(nodes):
    """Yields (module, name) of the imports among some nodes."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (
                ("." * node.level + (node.module or ""), alias.name) for alias in node.names
            )


def module_of(path):
    """The name of a file of effnet_tf as a module of it, such as "data.order"."""
    return ".".join(path.relative_to(ROOT / "effnet_tf").with_suffix("").parts)


MODULES = {module_of(path): path for path in LIBRARY}


@functools.cache
def own_modules(path):
    """The modules of effnet_tf that a file imports, such as "data.order"."""
    return list(own_modules_among(imports(path)))


def own_modules_among(imports):
    """Yields the modules of effnet_tf among some (module, name)."""
    for module, name in imports:
        home, _, inner = module.partition(".")
        if home == "effnet_tf":
            if name == "__version__":
                continue
            within = f"{inner}.{name}".lstrip(".")
            found = [each for each in (within, inner) if each in MODULES or each in FLOORS]
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
            assert outside - LIGHT.get(row, set()) <= sys.stdlib_module_names, path
        for other in own_modules(path):
            home = other.partition(".")[0]
            assert home, f"{path} imports a name of effnet_tf itself"
            assert home == row or FLOORS[home] < FLOORS[row], f"{path} imports {other}"


def test_no_circles_inside_a_folder():
    for path in LIBRARY:
        waiting, seen = list(own_modules(path)), set()
        while waiting:
            module = waiting.pop()
            assert module != module_of(path), f"{path} imports itself by way of others"
            if module in MODULES and module not in seen:
                seen.add(module)
                waiting += own_modules(MODULES[module])


def test_keras_cv_stays_in_one_file():
    for path in SOURCES:
        if path.stem != "augment":
            assert "keras_cv" not in {name.split(".")[0] for name, _ in imports(path)}


def room_of(path):
    """What the limits are looked at by: a row of FLOORS, or a folder of programs."""
    if path.is_relative_to(ROOT / "effnet_tf"):
        return row_of(path)
    if path.parent == ROOT:
        return path.stem
    return "programs_of_export" if path.parent.name == "export" else path.parent.name


ROOMS = sorted({room_of(path) for path in SOURCES})


def of_room(room):
    """The files of a room."""
    return [path for path in SOURCES if room_of(path) == room]


def functions(path):
    """Yields (name, lines without the docstring) of every function in a file."""
    for node in nodes_of(path):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            start = body[0].lineno if body else node.end_lineno
            yield node.name, node.end_lineno - start + 1


def nodes(room, kinds):
    """Yields (where, node) of the nodes of some kinds in a room."""
    for path in of_room(room):
        for node in nodes_of(path):
            if isinstance(node, kinds):
                yield f"{path.name}:{node.lineno}", node


@pytest.mark.parametrize("room", ROOMS)
def test_functions_fit_on_a_screen(room):
    lengths = [
        (f"{path.name}:{name}", length)
        for path in of_room(room)
        for name, length in functions(path)
    ]
    assert [each for each in lengths if each[1] > MAX_FUNCTION] == []
    if lengths:
        assert statistics.median(length for _, length in lengths) <= MEDIAN_FUNCTION


@pytest.mark.parametrize("room", ROOMS)
def test_classes_fit_on_a_few_screens(room):
    lengths = {
        node.name: node.end_lineno - node.lineno + 1 for _, node in nodes(room, ast.ClassDef)
    }
    assert {name: length for name, length in lengths.items() if length > MAX_CLASS} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_files_answer_one_question(room):
    for path in of_room(room):
        assert len(text_of(path).splitlines()) <= MAX_FILE, path
        assert ast.get_docstring(tree_of(path)), f"{path} has no docstring"


@pytest.mark.parametrize("room", ROOMS)
def test_two_plain_lines_before_one_clever_one(room):
    """Few conditional expressions, no comprehension in another, no list * bool."""
    lines = sum(len(text_of(path).splitlines()) for path in of_room(room))
    found = [where for where, _ in nodes(room, ast.IfExp)]
    assert len(found) <= max(1, MAX_CONDITIONALS * lines / 1000), found
    comprehensions = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    for where, node in nodes(room, comprehensions):
        inside = [each for each in ast.walk(node) if isinstance(each, comprehensions)]
        assert len(inside) == 1, f"{where}: a comprehension in a comprehension"
    for where, node in nodes(room, ast.BinOp):
        sides = (node.left, node.right)
        texts = any(
            isinstance(side, (ast.List, ast.JoinedStr))
            or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            for side in sides
        )
        flags = any(isinstance(side, (ast.Compare, ast.BoolOp)) for side in sides)
        assert not (isinstance(node.op, ast.Mult) and texts and flags), f"{where}: list * bool"


def public_functions(tree):
    """Yields the functions and methods of a tree that others may call."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for inner in node.body:
                named = isinstance(inner, ast.FunctionDef)
                if named and (not inner.name.startswith("_") or inner.name == "__init__"):
                    yield inner


@pytest.mark.parametrize("room", [room for room in ROOMS if room in FLOORS])
def test_public_signatures_are_annotated(room):
    missing = []
    for path in of_room(room):
        for node in public_functions(tree_of(path)):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            bare = [
                each.arg
                for each in arguments
                if each.annotation is None and each.arg not in ("self", "cls")
            ]
            if bare or (node.returns is None and node.name != "__init__"):
                missing.append(f"{path.name}:{node.lineno} {node.name}({', '.join(bare)})")
    assert missing == []


def test_the_readme_is_read_in_two_minutes():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= MAX_README_LINES
    assert len(text.split()) <= MAX_README_WORDS


def test_the_readme_shows_what_the_demo_draws():
    pictures = re.findall(r"!\[[^]]+\]\((.+?)\)", (ROOT / "README.md").read_text())
    assert {pathlib.Path(picture).name for picture in pictures} == {
        "learning_curve.png",
        "predictions.png",
    }
    assert all((ROOT / picture).exists() for picture in pictures)


def test_lines_are_short():
    for path in [*SOURCES, *(ROOT / "tests").rglob("*.py"), ROOT / "setup.py"]:
        for number, line in enumerate(text_of(path).splitlines(), 1):
            assert len(line) <= 100, f"{path.name}:{number}"


def code_lines(path):
    """Counts the lines of a file that are no blank line, comment or docstring."""
    docstrings = set()
    for node in nodes_of(path):
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        if isinstance(node, kinds) and ast.get_docstring(node):
            docstrings.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return sum(
        number not in docstrings and bool(line.strip()) and not line.strip().startswith("#")
        for number, line in enumerate(text_of(path).splitlines(), 1)
    )


def test_there_is_at_least_as_much_test_as_code():
    assert sum(map(code_lines, (ROOT / "tests").rglob("*.py"))) >= sum(map(code_lines, SOURCES))


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
    "CommandFailed",
    "OutOfReach",
    "Refused",
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
        for node in nodes_of(path):
            if isinstance(node, ast.ExceptHandler) and node.name and not kinds(node) <= OUR_ERRORS:
                found += [f"{path.name}:{line}" for line in texts_of(node)]
    assert found == []
