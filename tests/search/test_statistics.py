"""Bootstrap over seeds: intervals that hold what they should, the same every time."""

import numpy as np

from effnet_tf.search import statistics


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(5.0, 2.0, 400)
    found = statistics.interval(values)
    assert found.mean == values.mean()
    # Of many values the bootstrap's is the normal one.
    assert abs(found.low - (found.mean - 1.96 * values.std() / 20)) < 0.03
    assert abs(found.high - (found.mean + 1.96 * values.std() / 20)) < 0.03
    assert statistics.interval(values) == found


def test_intervals_hold_the_true_mean_about_as_often_as_they_say():
    random = np.random.default_rng(2)
    held = 0
    for _ in range(60):
        found = statistics.interval(random.normal(0.0, 1.0, 20))
        held += found.low <= 0 <= found.high
    assert 0.82 < held / 60 <= 1


def test_paired_differences_do_not_see_what_seeds_have_in_common():
    seeds = np.random.default_rng(3).normal(0, 10, 20)
    found = statistics.interval((seeds + 0.5) - seeds)
    assert found.low > 0.49 and found.high < 0.51


def test_the_winner_is_as_sure_as_its_seeds():
    sure = np.array([[0.9, 0.9, 0.9], [0.8, 0.8, 0.8]])
    assert (statistics.winners(sure) == 0).all()
    torn = np.array([[0.9, 0.8, 0.9], [0.8, 0.9, 0.8]])  # the second wins where its seed is twice
    share = (statistics.winners(torn) == 1).mean()
    assert abs(share - 7 / 27) < 0.02
    assert (statistics.winners(np.ones((3, 2))) == 0).all()
