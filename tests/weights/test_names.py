"""names.py: what an EfficientNet's variables are called, and whose they are."""

import gzip
import json

import pytest

from effnet_tf import blocks
from effnet_tf.weights import names, tf_checkpoints
from tests.helpers import goldens


def tf1_variables(variant):
    """[(name, shape)] of the original code's variables, in the order of creation."""
    if variant == "l2":
        path = goldens.REFERENCE / "efficientnet-l2.variables.json.gz"
        return json.loads(gzip.decompress(path.read_bytes()))["variables"]
    return goldens.read(variant)["variables"]


def canonical_shapes(variant):
    variables = dict(map(tuple, ((name, tuple(shape)) for name, shape in tf1_variables(variant))))
    translated = names.canonical(tf_checkpoints.split(variables))
    return {translated[name]: shape for name, shape in variables.items()}


@pytest.mark.parametrize("variant", goldens.efficientnets())
class TestTf1:
    def test_every_name_is_translated_once(self, variant):
        shapes = canonical_shapes(variant)
        assert len(shapes) == len(tf1_variables(variant))
        for name in shapes:
            assert name.split("/")[-2] in {
                "stem_conv",
                "stem_bn",
                "top_conv",
                "top_bn",
                "predictions",
                "expand_conv",
                "expand_bn",
                "dwconv",
                "bn",
                "reduce",
                "expand",
                "project_conv",
                "project_bn",
            }, name

    def test_the_variant_is_identified(self, variant):
        assert names.identify(canonical_shapes(variant)) == [variant]

    def test_the_first_blocks_alone_may_be_of_several(self, variant):
        count = len(blocks(variant))
        some = {
            name: shape
            for name, shape in canonical_shapes(variant).items()
            if not name.startswith(f"blocks_{count - 1}/")
        }
        assert variant in names.identify(some)

    def test_another_width_is_no_variant(self, variant):
        shapes = {
            name: (*shape[:-1], shape[-1] + 8) for name, shape in canonical_shapes(variant).items()
        }
        assert names.identify(shapes) == []


def test_nothing_is_no_variant():
    assert names.identify({"predictions/kernel": (10, 10)}) == []
