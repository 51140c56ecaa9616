"""Jobs of effnet_tf/isolated.py without the process of their own, which costs seconds each.

For tests of what is done. That it is done in a fresh process is tested by others.
"""

import contextlib
import json

import pytest

from effnet_tf import isolated
from effnet_tf.export.tflite import costing, measuring


def _call(*jobs, **how):
    """As `isolated.call`: functions go by their names, arguments and results are JSON."""
    results = [
        isolated._function(isolated._name(function))(**json.loads(json.dumps(arguments)))
        for function, arguments in jobs
    ]
    return json.loads(json.dumps(results))


@contextlib.contextmanager
def jobs_here():
    """Inside, jobs are done in this process; latencies and costs of blocks are hardly measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolated, "call", _call)
        patch.setattr(measuring, "SECONDS_OF_TIMING", 0.01)
        patch.setattr(costing, "gains", lambda *given, **how: {})
        yield


@pytest.fixture
def in_this_process():
    """A test's jobs are done in this process; those of wider fixtures are not."""
    with jobs_here():
        yield
