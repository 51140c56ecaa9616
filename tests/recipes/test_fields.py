"""fields.py: which values a hyper-parameter may have."""

import pytest

from effnet_tf import errors
from effnet_tf.recipes import Recipe


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(epochs=0), "epochs is 0; it must be at least 1"),
        (dict(label_smoothing=1.5), "between 0 and 1"),
        (dict(base_learning_rate=float("nan")), "finite"),
        (dict(precision="float16"), "one of auto, float32, mixed_bfloat16"),
        (dict(batch_size=-8), "batch_size"),
        (dict(seed=-1), "seed is -1"),
        (dict(seed=2**32), "seed"),
        (dict(crop_area_min=0.0), "crop_area_min"),
        (dict(decay_epochs=0.0), "decay_epochs"),
    ],
)
def test_values_out_of_range(change, message):
    with pytest.raises(errors.InputError, match=message):
        Recipe(**change)
