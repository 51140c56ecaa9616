"""What a stranger installs: the two README commands, their packages, and what CI runs of them."""

import functools
import json
import pathlib
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tools import versions

ROOT = pathlib.Path(__file__).parents[2]
CI = (ROOT / ".ci/run").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def pinned(name):
    """Returns {package: version} of a file of constraints."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    return dict(line.split("==") for line in lines)


@functools.cache
def requirements():
    """Returns {extra, or "" for what everybody gets: [Requirement]} of setup.py."""
    code = (
        "import json, setuptools, runpy; setuptools.setup = lambda **k: print(json.dumps("
        "{'': k['install_requires'], **k['extras_require']})); runpy.run_path('setup.py')"
    )
    text = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return {
        extra: [Requirement(line) for line in lines] for extra, lines in json.loads(text).items()
    }


class TestConstraints:
    @pytest.mark.parametrize("name", sorted(versions.EXTRAS))
    def test_they_pin_all_that_is_wanted_within_its_bounds(self, name):
        wanted, found = requirements(), pinned(name)
        for extra in ("", *versions.EXTRAS[name].split(",")):
            for requirement in wanted[extra]:
                if requirement.marker is None or requirement.marker.evaluate():
                    version = found[requirement.name.lower().replace("_", "-")]
                    assert requirement.specifier.contains(version), (extra, str(requirement))

    def test_the_other_names_of_tensorflow_are_the_same_version(self):
        found = pinned("constraints.txt")
        assert found["tensorflow"] == found["tensorflow-cpu"]
        assert Version(found["tf-keras"]).release[:2] == Version(found["tensorflow"]).release[:2]

    def test_the_oldest_packages_are_those_of_setup(self):
        lowest = dict(line.split("==") for line in versions.lower_bounds())
        assert lowest["tensorflow"] == lowest["tensorflow-cpu"] == "2.20"
        assert lowest["keras"] == "3.15"
        without = [
            str(each)
            for each in requirements()[""]
            if each.name not in lowest and each.name != "importlib_resources"
        ]
        assert not without, "a requirement without a lower bound is not tried"

    @pytest.mark.parametrize(
        "name, extra",
        [("tensorflow-cpu", "cpu"), ("keras", ""), ("libtpu", "tpu"), ("libtpu", "tpu-check")],
    )
    def test_what_we_use_private_parts_of_has_an_upper_bound(self, name, extra):
        requirement = next(each for each in requirements()[extra] if each.name == name)
        assert {each.operator for each in requirement.specifier} & {"<", "=="}


class TestCommands:
    def test_ci_runs_both_readme_commands_first_the_demo(self):
        commands = re.findall(r"^timed make (\w+)$", CI, re.MULTILINE)
        assert commands[:2] == ["demo", "test"]
        assert {"processors", "versions"} <= set(commands)
        readme = (ROOT / "README.md").read_text()
        assert "\nmake demo " in readme and "\nmake test " in readme

    def test_each_has_an_environment_of_its_own(self):
        demo, test = (
            subprocess.run(
                ["make", "-n", target], cwd=ROOT, check=True, text=True, capture_output=True
            ).stdout
            for target in ("demo", "test")
        )
        assert ".venv/bin/python tools/demo.py" in demo and ".venv-test" not in demo
        assert ".venv-test/bin/python -m tests.run" in test

    @pytest.mark.parametrize(
        "given, constraint, folder",
        [
            ([], "--constraint constraints.txt", ".venv-test/"),
            (["TENSORFLOW=gpu"], "--constraint constraints.txt", ".venv-test-gpu/"),
            (["TENSORFLOW=tpu"], "--constraint constraints-tpu.txt", ".venv-test-tpu/"),
            (["LATEST=1"], None, ".venv-test-latest/"),
        ],
    )
    def test_the_packages_are_pinned(self, given, constraint, folder, tmp_path):
        said = subprocess.run(
            ["make", "-n", "-B", "test", *given],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        installs = [line for line in said.splitlines() if "pip install" in line]
        assert len(installs) == 2 and all(folder in line for line in installs)
        for line in installs:
            assert ("--constraint" not in line) if constraint is None else (constraint in line)

    def test_a_python_is_found_by_running_it(self, tmp_path):
        """A version manager's command that is there, and does not start, is passed over."""
        broken = tmp_path / "python3"
        broken.write_text("#!/bin/sh\necho 'not found' >&2\nexit 127\n")
        good = tmp_path / "python3.12"
        good.symlink_to(sys.executable)
        for path in (broken, tmp_path):
            path.chmod(0o755)
        found = subprocess.run(
            ["/bin/sh", ROOT / "tools/find_python.sh"],
            text=True,
            check=True,
            capture_output=True,
            env={"PATH": str(tmp_path)},
        ).stdout
        assert found.strip() == str(good)

    def test_clean_keeps_the_runs(self):
        recipe = MAKEFILE.partition("\nclean:\n")[2]
        assert "rm -rf" in recipe and "runs" not in recipe
