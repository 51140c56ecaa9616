"""README and docs: a command within 60 words, and every block of code runs."""

import argparse
import pathlib
import re
import shlex

import pytest

ROOT = pathlib.Path(__file__).parents[1]
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
