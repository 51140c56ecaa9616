"""The study of docs/scaling_study.md: its figures are those of its table, and its rules hold."""

import importlib.util
import json
import pathlib

import numpy as np
import pytest

import effnet_tf
from effnet_tf.search import rows

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def study():
    path = BENCHMARKS / "scaling_study.py"
    found = importlib.util.module_from_spec(importlib.util.spec_from_file_location("study", path))
    found.__spec__.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def figures():
    return json.loads((BENCHMARKS / "scaling_study.json").read_text())


def test_the_figures_are_computed_from_the_table(study, figures):
    assert study.compute(rows.Table(str(study.CSV))) == figures


def test_a_mean_of_the_table_by_hand(study, figures):
    """Without any code of the study: from the lines of the file."""
    lines = [line.split(",") for line in study.CSV.read_text().splitlines()]
    columns = {name: number for number, name in enumerate(lines[0])}
    for row in figures["candidates"]:
        those = [
            float(line[columns["accuracy"]])
            for line in lines[1:]
            if line[columns["candidate"]] == row["name"] and line[columns["rung"]] == "report-6"
        ]
        assert len(those) == 20
        assert row["short"][0] == pytest.approx(100 - 100 * np.mean(those), abs=1e-3)


def test_costs_are_equal_as_counted(study, figures):
    base = effnet_tf.cost(study.BASE).multiply_adds
    for each in study.candidates():
        assert abs(effnet_tf.cost(each.variant).multiply_adds / (4 * base) - 1) <= 0.03
    assert {row["name"] for row in figures["candidates"][1:]} == {
        each.name for each in study.candidates()
    }


def test_nothing_that_chose_is_reported(study):
    table = rows.read(str(study.CSV))
    chose = [row for row in table if row.rung == "choice"]
    reported = [row for row in table if row.rung != "choice"]
    assert {row.fold for row in chose} == {0} and 0 not in {row.fold for row in reported}
    assert not {row.seed for row in chose} & {row.seed for row in reported}
    pairs = {}
    for row in reported:
        pairs.setdefault((row.rung, row.candidate), set()).add((row.fold, row.seed))
    assert len(set(map(frozenset, pairs.values()))) == 1  # the same for all networks
    assert len(next(iter(pairs.values()))) >= 20
