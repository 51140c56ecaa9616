"""Does a program written for keras.applications do the same with ours?

A row of the table is a program in miniature, run with both; what it returns is compared. The
modules beside this one hold the programs.

    python -m pytest tests/habits                         # B0's small sisters, in float32
    python -m pytest -m slow tests/habits                 # a share of every family, policy and form
    HABITS=all python -m pytest -m slow tests/habits      # all of them
    python -m pytest tests/habits -k grad_cam             # one habit
"""

import inspect
import itertools
import os
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
# Programs that do what others do in another way: with the slow ones.
SLOW = """
    in_a_process_without_us a_tflite_file triplets frames_of_a_film unfrozen_block_by_block
    from_scratch vectors_for_another_classifier every_convolution_shown an_image_and_a_table_nested
    part_held_out a_teacher_and_a_student a_sequence_of_batches decay_without_batch_norm
    style_and_content a_saliency_map the_maps_by_index the_maps_halve attention_over_the_map
    one_image_to_two_networks scores_and_logits a_head_cut_off batches_of_a_fixed_size images_mixed
    resized_inside_the_model dropout_in_a_loop two_rates_of_learning frozen_up_to_a_name
    many_labels_in_the_classifier batch_by_batch scaled_losses a_sequential_model a_tuner a_unet
    a_saved_model an_onnx_file averaged_weights files_carry_weights steps_per_execution a_board
    the_best_checkpoint augmentations_of_the_guide
""".split()


@pytest.fixture(autouse=True)
def _quick_and_quiet(monkeypatch):
    """XLA would take longer to compile a network than all else here takes."""
    monkeypatch.setattr("keras.src.trainers.trainer.model_supports_jit", lambda model: False)
    yield
    tf.config.run_functions_eagerly(False)
    keras.config.set_dtype_policy("float32")
    keras.backend.clear_session(free_memory=False)


def run(program, who, request, directory, policy="float32", **kind):
    """Runs a program with one of the two constructors, as a fresh process would."""
    (directory / who).mkdir()
    request.getfixturevalue("monkeypatch").chdir(directory / who)
    keras.backend.clear_session(free_memory=False)
    keras.config.set_dtype_policy(policy)
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


def compare(program, request, directory, tolerance, **kind):
    """Fails where ours gives something else, or warns of something that theirs does not."""
    theirs, heard_of_theirs = run(program, "theirs", request, directory, **kind)
    ours, heard_of_ours = run(program, "ours", request, directory, **kind)
    assert facts.same(theirs, ours, tolerance) == []
    assert heard_of_ours - heard_of_theirs == set()


def name_of(value):
    """Returns the name of a program, or of a kind of network."""
    if inspect.isfunction(value):
        return value.__name__
    return "-".join(str(each) for each in value)


def test_the_slow_programs_are_there():
    assert {*SLOW} <= {*map(name_of, PROGRAMS)} and len(PROGRAMS) - len(SLOW) > 60


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(program, marks=pytest.mark.slow) if program.__name__ in SLOW else program
        for program in PROGRAMS
    ],
    ids=name_of,
)
def test_a_program_does_the_same_with_ours(program, request, tmp_path):
    compare(program, request, tmp_path, tolerance=1e-3)


def test_a_difference_is_seen(request, tmp_path, monkeypatch):
    """With composite blocks the guide's last 20 layers are others."""
    theirs, _ = run(transfer.the_efficientnet_guide_unfrozen, "theirs", request, tmp_path)
    monkeypatch.setitem(networks.BUILDERS, "ours", networks.composite)
    ours, _ = run(transfer.the_efficientnet_guide_unfrozen, "ours", request, tmp_path)
    found = {line[:3] for line in facts.same(theirs, ours, tolerance=1e-3)}
    assert found >= {"[0]", "[1]", "[2]"}  # names, trainable parameters, what moved


# Every family, dtype policy, and whether the network was saved and loaded before. All of them with
# all programs take an hour: each program has its share, and HABITS=all runs all.
KINDS = list(
    itertools.product(networks.FAMILIES, ("float32", "mixed_bfloat16"), ("built", "loaded"))
)[1:]
SHARE = 3


def shares():
    """Yields (program, kind): each program with some kinds, each kind with some programs."""
    for number, program in enumerate(PROGRAMS):
        for index, kind in enumerate(KINDS):
            if os.environ.get("HABITS") == "all" or (index - SHARE * number) % len(KINDS) < SHARE:
                yield program, kind


@pytest.mark.slow
@pytest.mark.parametrize(("program", "kind"), shares(), ids=name_of)
def test_it_does_so_in_every_family_policy_and_form(program, kind, request, tmp_path):
    family, policy, form = kind
    # Theirs rounds the pixels to bfloat16 before it normalises them, ours only afterwards.
    tolerance = {"float32": 1e-3, "mixed_bfloat16": 0.25}[policy]
    loaded = form == "loaded"
    compare(program, request, tmp_path, tolerance, policy=policy, family=family, reloaded=loaded)
