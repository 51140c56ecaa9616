"""Does a program written for keras.applications do the same with ours?

A row of the table is a program in miniature, run with both; what it returns is compared. The
modules beside this one hold the programs.

    python -m pytest tests/habits                     # networks of two stages, eagerly: a minute
    python -m pytest -m slow tests/habits             # every family, policy and form
    python -m pytest tests/habits -k grad_cam         # one habit
"""

import inspect
import warnings

import keras
import pytest
import tensorflow as tf

from tests.habits import compiling, facts, fitting, forms, heads, inputs, networks, taps, transfer

MODULES = (transfer, heads, taps, forms, inputs, fitting, compiling)


# What ours warns of and theirs does not: its constants are of three channels, and theirs, too, but
# there nothing says so.
ADDED_WARNINGS = "The constants of variant"


def programs_of(module):
    """Returns the public functions that a module defines."""
    return [
        function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
    ]


PROGRAMS = [program for module in MODULES for program in programs_of(module)]


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch):
    """XLA would take longer to compile a network than all else here takes."""
    monkeypatch.setattr("keras.src.trainers.trainer.model_supports_jit", lambda model: False)
    yield
    tf.config.run_functions_eagerly(False)
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session(free_memory=False)


def run(program, who, request, directory, **kind):
    """Runs a program with one of the two constructors, as a fresh process would."""
    (directory / who).mkdir()
    request.getfixturevalue("monkeypatch").chdir(directory / who)
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)
    module = inspect.getmodule(program)
    tf.config.run_functions_eagerly(not getattr(module, "GRAPH", False))
    tall = getattr(module, "TALL", False)
    arguments = [networks.constructor(who, tall=tall, **kind)]
    if "mirrored" in inspect.signature(program).parameters:
        arguments.append(request.getfixturevalue("mirrored"))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", UserWarning)
        found = program(*arguments)
    return found, first_lines(heard)


def first_lines(heard):
    """Returns what was warned of, but for what running eagerly makes TensorFlow say."""
    lines = {str(each.message).strip().split("\n")[0] for each in heard}
    lines = {line for line in lines if not line.startswith(ADDED_WARNINGS)}
    return {line for line in lines if "run_functions_eagerly" not in line}


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_does_the_same_with_ours(program, request, tmp_path):
    theirs, heard_of_theirs = run(program, "theirs", request, tmp_path)
    ours, heard_of_ours = run(program, "ours", request, tmp_path)
    assert facts.same(theirs, ours, tolerance=1e-3) == []
    assert heard_of_ours - heard_of_theirs == set()
