"""Two directories of runs: do they hold the same?"""

import numpy as np

from effnet_tf.runs import checkpoints


def state(workdir):
    """What the newest checkpoint of a run holds."""
    return checkpoints.read(checkpoints.newest(f"{workdir}/checkpoints"))


def assert_equal_runs(found, expected):
    """Bit-identical weights, slots, averages, statistics and metrics log."""
    a, b = state(found), state(expected)
    assert sorted(a) == sorted(b)
    for name, value in b.items():
        np.testing.assert_array_equal(a[name], value, err_msg=name)
    for name in ("metrics.jsonl", "result.json", "recipe.json"):
        assert (found / name).read_text() == (expected / name).read_text()
