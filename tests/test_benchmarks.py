"""benchmarks/: how sides are compared, and that what has never run on its device runs at all."""

import json
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def pairs(monkeypatch):
    """The module as the programs beside it import it."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import pairs

    return pairs


def test_ratios_are_taken_round_by_round(pairs):
    """A machine that is ten times slower for a while is so for both."""
    found = pairs.compared([1.0, 20.0, 3.0, 2.0], [2.0, 40.0, 6.0, 2.0])
    assert found["ratio"] == {"median": 0.5, "low": 0.5, "high": 0.625}
    assert (found["ours"], found["theirs"]) == (2.5, 4.0)


def test_few_rounds_show_their_ends(pairs):
    assert pairs.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "low": 1.0, "high": 3.0}


def test_every_other_round_goes_backwards(pairs):
    assert [pairs.turns("ab", number) for number in range(2)] == [["a", "b"], ["b", "a"]]


def test_a_program_that_fails_is_not_measured(pairs):
    with pytest.raises(SystemExit, match="no such thing"):
        pairs.apart("-c", "import sys; sys.exit('no such thing')")


@pytest.mark.slow
def test_the_step_for_a_gpu_runs_without_one():
    words = "--variants=b0 --size=32 --batch=2 --steps=1 --measure=model_fn".split()
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), *words], check=True, capture_output=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["milliseconds"] > 0 and found["mib"] > 100
    assert 0 < found["loss"] < 100
