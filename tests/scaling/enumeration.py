"""Every network at every thousandth of a line: what the planner has to agree with.

Written from the papers, and apart from effnet_tf/scaling: only `cost` is shared.
"""

import dataclasses
import functools
import math

import effnet_tf

TINYNETS = ((24, 0.6, 0.51, 106), (52, 0.695, 0.54, 152), (100, 0.85, 0.54, 184))
TINYNETS += ((202, 1.1, 0.75, 188), (339, 1.2, 1.0, 192))


def factors(strategy, at):
    """(depth, width, resolution) at a position of a line."""
    if strategy == "compound":
        return 1.2**at, 1.1**at, 1.15**at
    if strategy == "fast":  # width**2 has 8 tenths of the multiply-adds, the others one each
        return 2 ** (0.1 * at), 2 ** (0.4 * at), 2 ** (0.05 * at)
    if strategy == "tiny":
        return tiny(at)
    return tuple(at if strategy == axis else 1.0 for axis in ("depth", "width", "resolution"))


def tiny(at):
    for low, high in zip(TINYNETS, TINYNETS[1:]):
        start, end = (math.log2(row[0] / 386) for row in (low, high))
        if at <= end or high == TINYNETS[-1]:
            share = (at - start) / (end - start)
            logs = [(1 - share) * math.log(a) + share * math.log(b) for a, b in zip(low, high)]
            return math.exp(logs[1]), math.exp(logs[2]), math.exp(logs[3]) / 224
    raise AssertionError


def variant(base, strategy, at, multiple=32):
    depth, width, resolution = factors(strategy, at)
    side = base.resolution * resolution / multiple
    return dataclasses.replace(
        base,
        depth_coefficient=base.depth_coefficient * depth,
        width_coefficient=base.width_coefficient * width,
        resolution=math.floor(side + 0.5) * multiple,
    )


def rounded(filters, width):
    """The builder's rule."""
    filters *= width
    nearest = max(8, int(filters + 4) // 8 * 8)
    return nearest + 8 * (nearest < 0.9 * filters)


def integers(row):
    """All that a row's cost depends on."""
    width = row.width_coefficient
    return (
        rounded(row.stem_filters, width),
        rounded(row.head_filters, width),
        row.resolution,
        *(rounded(stage.filters, width) for stage in row.stages),
        *(rounded(stage.input_filters, width) for stage in row.stages),
        *(math.ceil(row.depth_coefficient * stage.repeats) for stage in row.stages),
    )


@functools.cache
def networks(base, strategy, start, end, multiple=32):
    """[(cost of a batch of 16, variant)] of the different networks between two positions."""
    found = {}
    for index in range(round(start * 1000), round(end * 1000) + 1):
        row = variant(base, strategy, index / 1000, multiple)
        if row.resolution >= 32 and integers(row) not in found:
            found[integers(row)] = effnet_tf.cost(row, batch_size=16), row
    return list(found.values())


def best(networks, **targets):
    """The (multiply-adds, -params) of the best network; None if none meets the targets."""
    ranks = [
        (cost.multiply_adds, -cost.params)
        for cost, _ in networks
        if all(getattr(cost, name) <= most for name, most in targets.items())
    ]
    return max(ranks, default=None)
