"""Every variant computes what Google's original code computes, to rounding."""

import pytest

from tests.helpers import goldens

ALWAYS = ("b0", "b1", "b5", "lite0", "edgetpu-s")  # b5: a large one


@pytest.mark.parametrize(
    "name",
    [
        name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow)
        for name in goldens.variants()
    ],
)
def test_equals_the_original(name):
    found = goldens.errors(name)
    assert len(found) >= 2
    for size, (logits, endpoints) in found.items():
        assert logits <= 1e-5, f"logits at {size}"
        # lite3 and lite4 reach 1.5e-5: ours and the original are each within 1e-5 of the
        # same network in float64, on different sides.
        assert endpoints <= 2e-5, f"endpoints at {size}"


def test_all_seventeen_are_there():
    files = {
        path.name
        for path in goldens.REFERENCE.glob("efficientnet-*.json.gz")
        if ".variables." not in path.name
    }
    assert len(files) == len(goldens.variants()) == 17


@pytest.mark.parametrize("change", ["epsilon", "activation", "padding"])
def test_a_wrong_detail_shows(change, monkeypatch):
    """The comparison can fail: each wrong detail moves the logits by far more than rounding."""
    import keras

    from effnet_tf import layers
    from effnet_tf.layers import norm
    from effnet_tf.models import graph

    if change == "epsilon":
        monkeypatch.setattr(norm, "BATCH_NORM_EPSILON", 1e-5)
    elif change == "activation":
        original = layers.SqueezeExcite.__init__
        monkeypatch.setattr(
            layers.SqueezeExcite,
            "__init__",
            lambda self, filters, activation="relu", **kwargs: original(
                self, filters, "relu", **kwargs
            ),
        )
    else:
        monkeypatch.setattr(graph, "conv_layer", _symmetric_conv(keras, graph.conv_layer))
    found = goldens.errors("b0")
    assert max(logits for logits, _ in found.values()) > 1e-3


def _symmetric_conv(keras, conv_layer):
    """PyTorch's padding: equal at odd sizes, shifted by a pixel at even ones."""

    class Symmetric(keras.layers.Conv2D):
        def call(self, inputs):
            if self.strides == (2, 2):
                inputs = keras.ops.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
            return super().call(inputs)

    def make(description):
        layer = conv_layer(description)
        if description.strides == 1:
            return layer
        return Symmetric.from_config({**layer.get_config(), "padding": "valid"})

    return make
