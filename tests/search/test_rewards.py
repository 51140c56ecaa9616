"""search/rewards.py: MnasNet's two rewards, and the Pareto front."""

import random

import pytest

from effnet_tf import InputError
from effnet_tf.search.rewards import EXPONENTS, Objective, front, reward


def test_the_soft_reward_trades_five_percent_for_half_the_cost():
    # MnasNet, section 3.1: ACC * 1.05 at twice the latency is as good as ACC.
    soft = Objective("soft", 100.0)
    assert soft.values(0.5, 100.0) == (0.5,)
    assert soft.values(0.5 * 1.05, 200.0)[0] == pytest.approx(0.5, rel=2e-3)
    assert soft.values(0.5, 50.0)[0] == pytest.approx(0.5 * 2**0.07)


def test_the_hard_reward_counts_accuracy_alone_up_to_the_target():
    hard = Objective("hard", 100.0)
    assert hard.values(0.5, 10.0) == hard.values(0.5, 100.0) == (0.5,)
    assert hard.values(0.5, 200.0) == (0.25,)
    assert EXPONENTS["hard"] == (0.0, -1.0) and EXPONENTS["soft"] == (-0.07, -0.07)
    assert reward(0.5, 200.0, 100.0, -0.3, -0.5) == pytest.approx(0.5 / 2**0.5)
    assert reward(0.5, 50.0, 100.0, -0.3, -0.5) == pytest.approx(0.5 * 2**0.3)


def test_a_front_has_two_values():
    both = Objective("pareto")
    assert both.values(0.5, 7.0) == (0.5, 7.0)
    assert both.directions == ("maximize", "minimize")
    assert Objective("soft", 1.0).directions == ("maximize",)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (("sof", 1.0), "The objective is 'sof'; it must be one of soft, hard, pareto"),
        (("soft",), "needs a target above 0, and it is None"),
        (("hard", 0.0), "needs a target above 0, and it is 0"),
        (("hard", float("inf")), "it is inf"),
    ],
)
def test_bad_objectives_are_refused(arguments, said):
    with pytest.raises(InputError, match=said):
        Objective(*arguments)


def test_the_front_is_that_of_all_comparisons():
    def beats(a, b):
        return a != b and a[0] >= b[0] and a[1] <= b[1]

    for seed in range(50):
        draw = random.Random(seed)
        points = [(draw.randint(0, 9) / 9, draw.randint(1, 9)) for _ in range(25)]
        wanted = {a for a in points if not any(beats(b, a) for b in points)}
        found = front(points)
        assert {points[number] for number in found} == wanted
        assert len(found) == len(wanted)  # of equal points one
        assert [points[number][1] for number in found] == sorted(each[1] for each in wanted)
    assert front([]) == []
