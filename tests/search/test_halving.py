"""The schedule of successive halving, and what it costs."""

import doctest

import pytest

import effnet_tf
from effnet_tf.search import halving


def test_docstring_example():
    assert doctest.testmod(halving).failed == 0


@pytest.mark.parametrize("candidates", [1, 2, 3, 7, 32, 100])
@pytest.mark.parametrize("seeds", [1, 2, 3, 5, 8, 20])
def test_the_rungs(candidates, seeds):
    rungs = halving.schedule(candidates, seeds)
    assert [each.number for each in rungs] == list(range(len(rungs)))
    assert rungs[0].keep == candidates and rungs[0].seeds == (0,)
    # Together the rungs have every seed once; twice as many after each.
    assert [seed for rung in rungs for seed in rung.seeds] == list(range(seeds))
    for before, after in zip(rungs, rungs[1:]):
        assert after.keep == max(-(-before.keep // 2), min(2, candidates))
        assert after.seeds[-1] + 1 <= 2 * (before.seeds[-1] + 1)
    assert halving.trainings(rungs) <= candidates * seeds


def test_without_halving_all_get_all():
    rungs = halving.schedule(7, 3, halving=False)
    assert rungs == [halving.Rung(0, 7, (0, 1, 2))] and halving.trainings(rungs) == 21


@pytest.mark.parametrize("candidates, seeds", [(0, 3), (3, 0)])
def test_nothing_to_schedule(candidates, seeds):
    with pytest.raises(effnet_tf.InputError, match="both must be >= 1"):
        halving.schedule(candidates, seeds)
