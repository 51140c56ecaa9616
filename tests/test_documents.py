"""README and docs: short enough to read, every block of code runs, every link leads somewhere."""

import importlib
import pathlib
import re
import shlex

import pytest

from benchmarks import tables
from tests.test_structure import FLOORS

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "CHANGELOG.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
}


def blocks(page, language):
    """The blocks of code of a page, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE)


def lines_of_shell():
    """Yields (page, command) of every line that a page tells the reader to type."""
    for page in PAGES:
        for block in blocks(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                command = line.split(" #")[0].strip()
                if command and not command.startswith("#"):
                    yield page, command


SHELL = list(lines_of_shell())


def commands(start):
    """Each command that begins so, as pytest's parameters."""
    return [
        pytest.param(command, id=f"{page}: {command}")
        for page, command in SHELL
        if command.startswith(start)
    ]


class TestReadme:
    def test_starts_with_a_command(self):
        before, _, _ = README.partition("```sh\nmake demo")
        assert len(before.split()) <= 60 and before != README

    def test_shows_pictures(self):
        pictures = re.findall(r"!\[[^]]+\]\((.+?)\)", README)
        assert len(pictures) >= 2
        for picture in pictures:
            content = (ROOT / picture).read_bytes()
            assert content.startswith(b"\x89PNG") and len(content) < 200_000, picture

    def test_ci_runs_its_commands(self):
        assert "make test" in (ROOT / ".ci/run").read_text()
        assert "\nmake test " in README


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_runs(page, tmp_path, monkeypatch):
    """The blocks of a page one after the other, as somebody who reads it types them."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, code in enumerate(blocks(page, "python")):
        exec(compile(code, f"{page} block {number}", "exec"), names)


@pytest.mark.parametrize("command", commands("python train_tpu.py"))
def test_training_commands_parse(command, monkeypatch, tmp_path):
    import train_tpu
    from effnet_tf import recipes, variants

    monkeypatch.chdir(tmp_path)  # a path in a command must not be one of this checkout
    for path in ("plan.json", "found.json"):  # what docs/scaling.md plans, and a search finds
        variants.save_variant(variants.VARIANTS["lite0"], path)
    options = train_tpu.parse(shlex.split(command)[1:])
    recipes.from_options(options).resolved_variant()


@pytest.mark.parametrize("command", commands("python -m export"))
def test_export_commands_parse(command):
    from export import __main__ as programs

    assert callable(programs.parse(shlex.split(command)[2:]).run)


@pytest.mark.parametrize("command", commands("python -m effnet_tf.data"))
def test_data_commands_parse(command):
    from effnet_tf.data import __main__ as program

    assert program.parse(shlex.split(command)[2:]).program in ("check", "prepare")


@pytest.mark.parametrize("command", commands("python -m effnet_tf.scaling"))
def test_commands_of_the_planner_parse(command):
    from effnet_tf.scaling import __main__ as program

    options = program.parse(shlex.split(command)[2:])
    if options.program == "plan" and not options.latency_table:
        options.save = options.plot = None  # which would be written
        program.main(options)


@pytest.mark.parametrize("command", commands("python -m effnet_tf.search"))
def test_commands_of_searches_parse(command):
    from effnet_tf.search import __main__ as program

    assert callable(program.parse(shlex.split(command)[2:]).run)


@pytest.mark.parametrize("command", commands("python -m effnet_tf "))
def test_commands_of_the_door_parse(command):
    from effnet_tf import __main__ as door

    _, _, _, word, *words = shlex.split(command)
    verb = door.VERBS[word]
    module = importlib.import_module(door._place(verb.module))
    assert module.parse(["effnet", *verb.words, *words])


@pytest.mark.parametrize("command", commands("python tools/tpu_check.py"))
def test_commands_of_the_tpu_check_parse(command):
    from tools import tpu_check, tpu_chips

    tpu_chips.chip_of(tpu_check.parse(shlex.split(command)[2:]).topology)


@pytest.mark.parametrize(
    "command",
    [
        *commands("python tools/launch_tpu"),
        *commands("python tools/litert_js"),
        *commands("python benchmarks/"),
        *commands("python examples/"),
    ],
)
def test_options_of_other_programs_exist(command):
    """Their parsers import what may not be here: the options are looked for in the source."""
    _, program, *words = shlex.split(command)
    source = "".join(path.read_text() for path in sources_of(ROOT / program))
    for word in words:
        if word.startswith("--"):
            assert word in source, f"{program} has no option {word}"


def sources_of(program):
    """A program, and what lies beside it: its options may be in a file of their own."""
    assert program.is_file(), program
    return [program, *program.parent.glob("*.py")]


@pytest.mark.parametrize("command", commands("make "))
def test_targets_of_make_exist(command):
    target = shlex.split(command)[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("command", commands("pip install"))
def test_extras_exist(command):
    setup = (ROOT / "setup.py").read_text()
    for extras in re.findall(r"\[(.+?)\]", command):
        for extra in extras.split(","):
            assert f'"{extra}": [' in setup, extra


def test_every_command_is_looked_at():
    """What starts otherwise is a program of somebody else."""
    ours = ("python ", "make ", "pip install", ".ci/run", ".venv-test/bin/python")
    others = ("python3", "source", "cd", "git", "npm", "node", "pre-commit")
    for page, command in SHELL:
        if page != "docs/tpu.md":  # whose commands tests/tools/test_launch_tpu.py compares
            assert command.startswith(ours) or command.split()[0] in others, f"{page}: {command}"


def test_every_recipe_is_shown():
    from effnet_tf import RECIPES

    for name in RECIPES:
        shown = f"| `{name}` |" in PAGES["docs/training.md"]
        assert shown or name.startswith("imagenet-"), name


@pytest.mark.parametrize("page", [page for page in PAGES if "<!-- table: " in PAGES[page]])
def test_tables_are_those_of_the_figures(page):
    """Else: python benchmarks/tables.py."""
    assert tables.filled(PAGES[page]) == PAGES[page]


def test_every_table_is_shown():
    shown = re.findall(r"<!-- table: (\w+)", "".join(PAGES.values()))
    assert set(shown) == set(tables.TABLES)


def anchors(text):
    """The names that a link can jump to: of headings, as GitHub and mkdocs make them."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        words = re.sub(r"[^\w\s-]", "", title.lower()).split()
        yield "-".join(words)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Links to files and headings; those to other machines are looked at by people."""
    for target in re.findall(r"\]\(([^)\s]+)\)", PAGES[page]):
        if target.startswith(("http://", "https://")):
            continue
        path, _, heading = target.partition("#")
        file = ROOT / page
        if path:
            file = file.parent / path
        assert file.exists(), target
        if heading:
            assert heading in anchors(file.read_text()), target


def test_every_page_is_in_the_menu_and_in_the_index():
    menu = (ROOT / "mkdocs.yml").read_text()
    for page in PAGES:
        if page.startswith("docs/"):
            inside = page.removeprefix("docs/")
            assert f": {inside}\n" in menu, page
            if inside != "index.md" and inside.count("/") == 0:
                assert f"({inside})" in PAGES["docs/index.md"], page


def test_the_map_is_that_of_the_house():
    """docs/architecture.md has every folder once, on its floor, counted from the ground."""
    heights = sorted(set(FLOORS.values()))
    wanted = {name: heights.index(floor) for name, floor in FLOORS.items()}
    found = {}
    for floor, names in re.findall(r"^\| (\d+) \| (.+?) \|", PAGES["docs/architecture.md"], re.M):
        for name in re.findall(r"`(\w+)`", names):
            assert name not in found, name
            found[name] = int(floor)
    assert found == wanted


def test_paths_in_the_text_exist():
    """`effnet_tf/data/` and the like: a page that names what has moved misleads."""
    pattern = r"`((?:effnet_tf|tests|tools|export|benchmarks|examples)/[\w./-]*)`"
    for page, text in PAGES.items():
        if page != "CHANGELOG.md":  # which tells of what was
            for path in re.findall(pattern, text):
                assert (ROOT / path).exists(), f"{page}: {path}"


def test_modules_in_the_text_exist():
    for page, text in PAGES.items():
        if page == "CHANGELOG.md":
            continue
        for name in re.findall(r"`(effnet_tf(?:\.\w+)+)[`(]", text):
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), f"{page}: {name}"
