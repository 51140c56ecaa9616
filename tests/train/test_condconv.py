"""Training of a network whose kernels are mixed of experts."""

import numpy as np
import pytest

import effnet_tf
from effnet_tf import train, variants
from tests.helpers import tiny_condconv, tiny_net
from tests.train.test_loop import CPU, checkpoint_values, run_until


@pytest.mark.slow  # a minute of CPU: three runs and an export
def test_an_interrupted_run_resumes_exactly_and_exports_what_it_learned(tmp_path):
    recipe = tiny_net.recipe(variant=variants.to_json(tiny_condconv.row()), epochs=2)
    whole, parts = str(tmp_path / "whole"), str(tmp_path / "parts")
    train.run(recipe, whole, CPU)
    run_until(1, recipe, parts)
    train.run(recipe, parts, CPU)
    expected, found = checkpoint_values(whole), checkpoint_values(parts)
    assert sorted(expected) == sorted(found)
    assert any("routing/kernel" in name for name in expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
    model = effnet_tf.load_run(whole)
    effnet_tf.export.to_tflite(model, str(tmp_path / "a.tflite"), quantize="float16")
