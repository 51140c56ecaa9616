"""How are networks, and the blocks of one, told to a person?"""

from collections.abc import Sequence

from effnet_tf.catalog.listing import Listed
from effnet_tf.columns import aligned
from effnet_tf.scaling.targets import shown
from effnet_tf.variants import Convolution, count_part, resolve

_ESTIMATED = "TFLite sizes are estimated: float32, and weights of 8 bits."
_LAYERS = (
    "Layers: 3x3x32/2 is a convolution to 32 channels with stride 2, dw a depthwise one, se10 a "
    "squeeze-and-excite of 10 channels, route8 what mixes the kernels of 8 experts for an image."
)
_NO_8_BITS = "CondConv has no file of 8 bits: its kernels are mixed for each image."
_TOP1 = "Top-1 on ImageNet is what the publishers of the weights say; nothing was measured here."


def describe_list(networks: Sequence[Listed]) -> list[str]:
    """Returns the lines of a table of networks, and what its figures are."""
    header = ["network", "pixels", "parameters", "multiply-adds", "activations", "TFLite", "8 bits"]
    rows = [
        [
            each.name,
            str(each.pixels),
            shown(each.params),
            shown(each.multiply_adds),
            _bytes(each.activation_bytes),
            _bytes(each.tflite_float32_bytes),
            _bytes(each.tflite_weights8_bytes),
        ]
        for each in networks
    ]
    lines = aligned([header, *rows])
    published = ["top-1, % (weights)", *(map(_published, networks))]
    width = max(map(len, lines))
    lines = [f"{line:<{width}}  {text}".rstrip() for line, text in zip(lines, published)]
    notes = [_ESTIMATED, _TOP1]
    if any(each.tflite_weights8_bytes is None for each in networks):
        notes.insert(1, _NO_8_BITS)
    return [*lines, "", " ".join(notes)]


def _bytes(number):
    return "-" if number is None else f"{shown(number)}B"


def _published(network):
    if not network.top1:
        return "-"
    return ", ".join(f"{top1:.1f} {weights}" for weights, top1 in network.top1.items())


def describe_network(network: Listed) -> list[str]:
    """Returns the lines about one network: its figures, and a table of its parts."""
    return [*describe_list([network]), "", *aligned(_parts(network.name)), "", _LAYERS]


def _parts(name):
    """The rows of a table of a network's parts, from the stem to the head."""
    network = resolve(name)
    titles = ["stem", *(block.name for block in network.blocks), "head"]
    rows = [["part", "layers", "pixels", "channels", "adds", "parameters", "multiply-adds"]]
    side = network.side
    for title, (convolutions, skip) in zip(titles, network.parts(), strict=True):
        part = count_part(convolutions, side, skip)
        last = convolutions[-1]
        # The squeeze says it all; the excitation has the channels of the map.
        layers = " ".join(_layer(each) for each in convolutions if each.name != "se/expand")
        adds = {True: "input", False: "-"}[skip]
        counts = [f"{part.params:,}", f"{part.multiply_adds:,}"]
        rows.append([title, layers, f"{side} -> {part.side}", str(last.filters), adds, *counts])
        side = part.side
    width = max(len(row[1]) for row in rows)
    return [[row[0], row[1].ljust(width), *row[2:]] for row in rows]


def _layer(convolution: Convolution) -> str:
    """Returns "3x3x32/2" of a convolution, "dw5x5" of a depthwise one; see `_LAYERS`."""
    size, stride = convolution.kernel_size, ""
    if convolution.strides > 1:
        stride = f"/{convolution.strides}"
    if convolution.name.startswith("se/"):
        return f"se{convolution.filters}"
    if convolution.routes:
        return f"route{convolution.filters}"
    if convolution.kind == "dense":
        return f"dense{convolution.filters}"
    if convolution.kind == "depthwise":
        return f"dw{size}x{size}{stride}"
    return f"{size}x{size}x{convolution.filters}{stride}"
