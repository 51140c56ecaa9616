"""schedules.py: learning rates equal those of the original code."""

import dataclasses

import numpy as np
import pytest

from effnet_tf import optim
from effnet_tf.recipes import Recipe


@pytest.mark.parametrize(
    "batch, figures",
    [
        # FACTS.md 3, measured on the original code.
        (
            4096,
            {
                0: 0,
                1: 1.637876e-4,
                1562: 0.25583622,
                1563: 0.24087042,
                2252: 0.24087042,
                2253: 0.23364431,
                49510: 0.03535115,
                109474: 0.0030913155,
            },
        ),
        (
            2048,
            {
                1: 4.0933806e-5,
                3126: 0.12795907,
                3127: 0.12043521,
                4504: 0.12043521,
                4505: 0.11682215,
                218949: 0.0015456578,
            },
        ),
    ],
)
def test_learning_rate_equals_the_original(batch, figures):
    schedule = optim.schedule(Recipe(batch_size=batch), 1281167 / batch)
    for step, expected in figures.items():
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_without_warmup_the_first_step_has_the_peak():
    schedule = optim.schedule(Recipe(batch_size=256, warmup_epochs=0), 100.0)
    assert float(schedule(0)) == pytest.approx(0.016)


def test_cosine_with_warmup():
    # FACTS.md 3: 0.5 * lr * (1 + cos(pi * step / total)), total includes the warm-up.
    schedule = optim.schedule(
        Recipe(batch_size=256, epochs=10, warmup_epochs=1.0, schedule="cosine"), 100.0
    )
    assert isinstance(schedule, optim.WarmupCosine)
    for step, expected in {
        0: 0,
        50: 0.008,
        99: 0.01584,
        100: 0.008 * (1 + np.cos(np.pi * 0.1)),
        500: 0.008,
        1000: 0,
        1200: 0,
    }.items():
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5, abs=1e-8)
    again = optim.WarmupCosine.from_config(schedule.get_config())
    assert float(again(321)) == float(schedule(321))


def test_polynomial_with_warmup():
    # FACTS.md 3: power 2, end 0.1, from the end of the warm-up.
    schedule = optim.schedule(
        Recipe(
            batch_size=65536,
            epochs=100,
            warmup_epochs=10.0,
            base_learning_rate=0.08,
            schedule="polynomial",
        ),
        10.0,
    )
    peak = 0.08 * 256

    def decayed(done):  # utils.py: the span is a step longer, and its first step never seen
        return 0.1 + (peak - 0.1) * (1 - done / 901) ** 2

    for step, expected in {
        0: 0,
        50: peak / 2,
        100: decayed(1),
        101: decayed(1),
        102: decayed(2),
        550: decayed(450),
        1000: decayed(900),
        2000: 0.1,
    }.items():
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
    again = optim.WarmupPolynomial.from_config(schedule.get_config())
    assert float(again(321)) == float(schedule(321))


def test_constant_with_warmup():
    recipe = Recipe(batch_size=512, base_learning_rate=0.0005, epochs=15, warmup_epochs=1.0)
    schedule = optim.schedule(dataclasses.replace(recipe, schedule="constant"), 100.0)
    assert isinstance(schedule, optim.WarmupConstant)
    found = [float(schedule(step)) for step in (0, 50, 99, 100, 1499)]
    assert found == pytest.approx([0, 0.0005, 0.00099, 0.001, 0.001])
    assert optim.WarmupConstant(**schedule.get_config())(50) == schedule(50)
