"""variants/condconv.py: every number of CondConv."""

import pytest

import effnet_tf
from effnet_tf import variants

# Of the original code's graph: trainable parameters, all of them; multiply-adds on the way of the
# map, of routing and of mixing kernels.
COUNTED = {
    "b0-4e": (13_314_116, 13_356_132, 385_814_752, 4_736, 10_694_400),
    "b0-8e": (24_013_284, 24_055_300, 385_814_752, 9_472, 21_388_800),
    "b0-8e-depth": (39_715_968, 39_778_016, 569_651_680, 14_464, 36_465_408),
}


@pytest.mark.parametrize("name", COUNTED)
def test_counts_are_the_originals(name):
    cost = effnet_tf.cost(f"condconv-{name}")
    found = cost.trainable_params, cost.params, cost.multiply_adds
    assert (*found, cost.routing_multiply_adds, cost.mixing_multiply_adds) == COUNTED[name]


def test_others_route_and_mix_nothing():
    cost = effnet_tf.cost("b0")
    assert cost.routing_multiply_adds == cost.mixing_multiply_adds == 0


def test_mixing_is_the_same_for_images_of_any_size():
    small, large = (effnet_tf.cost("condconv-b0-4e", resolution=side) for side in (64, 224))
    assert small.mixing_multiply_adds == large.mixing_multiply_adds
    assert small.multiply_adds < large.multiply_adds


def test_each_image_of_a_batch_has_kernels_in_memory():
    one, two = (effnet_tf.cost("condconv-b0-8e", batch_size=size) for size in (1, 2))
    plain = [effnet_tf.cost("b0", batch_size=size) for size in (1, 2)]
    more = 4 * 21_388_800 / 8  # bytes of all mixed kernels of an image
    grown = two.training_bytes - one.training_bytes
    grown -= plain[1].training_bytes - plain[0].training_bytes
    assert more <= grown < 1.2 * more  # one of them has a gradient, too


def test_the_last_three_stages_have_experts():
    blocks = variants.blocks("condconv-b0-8e-depth")
    assert {block.stage: block.experts for block in blocks} == {
        **dict.fromkeys(range(1, 5), 0),
        **dict.fromkeys(range(5, 8), 8),
    }
    assert len(blocks) == 23


def test_a_block_has_one_routing_for_its_kernels():
    block = next(each for each in variants.blocks("condconv-b0-4e") if each.experts)
    assert [(each.name, each.kernel_shape) for each in block.convolutions] == [
        ("routing", (80, 4)),
        ("expand_conv", (4, 80 * 480)),
        ("dwconv", (4, 25 * 480)),
        ("se/reduce", (1, 1, 480, 20)),
        ("se/expand", (1, 1, 20, 480)),
        ("project_conv", (4, 480 * 112)),
    ]


def test_dropout_pixels_and_name():
    network = variants.resolve("condconv-b0-8e-depth")
    assert (network.side, network.dropout_rate) == (224, 0.25)
    assert (network.mean, network.std) == ((127.0,) * 3, (128.0,) * 3)
    assert variants.model_name(variants.VARIANTS["condconv-b0-4e"]) == "efficientnet-condconv-b0-4e"


def test_a_planned_one_counts_its_kernels():
    row = effnet_tf.CompoundScaling().variant(1, "condconv-b0-4e")
    assert [stage.experts for stage in row.stages] == [0, 0, 0, 0, 4, 4, 4]
    assert effnet_tf.cost(row).mixing_multiply_adds > 10_694_400
