"""one_thread.py: what TensorFlow is told, in its own words."""

import pytest
import tensorflow as tf

from effnet_tf.search.one_thread import use_one_thread


@pytest.mark.parametrize("gpus, wanted", [([], {"inter": 1, "intra": 1}), (["a GPU"], {})])
def test_one_thread_where_there_is_no_gpu(gpus, wanted, monkeypatch):
    found = {}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    for name in ("inter", "intra"):
        monkeypatch.setattr(
            tf.config.threading,
            f"set_{name}_op_parallelism_threads",
            lambda count, name=name: found.update({name: count}),
        )
    use_one_thread()
    assert found == wanted
