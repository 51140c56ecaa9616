"""Does a model compute what the network computed that a file of weights is of?

Networks of the same shapes can pad differently and add another epsilon to the variance. The same
weights then compute something else, and no shape tells.
"""

import dataclasses
import math

import keras

from effnet_tf import variants
from effnet_tf.errors import InputError
from effnet_tf.layers import flatten
from effnet_tf.layers.blocks import ConvolutionalBlock
from effnet_tf.variants import PADDINGS, Variant
from effnet_tf.weights import timm_names

_EITHER = frozenset(PADDINGS)


@dataclasses.dataclass(frozen=True)
class _Computation:
    """What the shapes of a model's network do not tell.

    Attributes:
        paddings: of `PADDINGS`, those that give its zeros: at strides of odd sides several do.
        epsilons: of its batch norms.
    """

    paddings: frozenset[str]
    epsilons: frozenset[float]

    def agrees(self, row: Variant) -> bool:
        """Whether a network of this row computes the same."""
        epsilon = row.batch_norm_epsilon
        return row.padding in self.paddings and all(
            math.isclose(each, epsilon, rel_tol=1e-6) for each in self.epsilons
        )

    def __str__(self):
        padding = next((each for each in PADDINGS if each in self.paddings), "of several kinds")
        shown = " or ".join(f"{each:g}" for each in sorted(self.epsilons))
        return f"padding '{padding}' and an epsilon of {shown}"


def require(
    model: keras.Model,
    source: str,
    said: tuple[str, ...],
    family: str | None,
    variant: str | Variant | None,
) -> None:
    """Refuses weights whose network computed something else than the model does.

    Args:
        model: with an EfficientNet in it.
        source: where the weights are from.
        said: the families that they can be of, by what they say; () if all share their format.
        family: the one that the user says, or None.
        variant: of the model; None where nobody knows.

    Raises:
        InputError: they are of another family than the user says; they can be of several, and
            nobody says of which; or the model does not compute as their family does.
    """
    if family is not None:
        variants.check_family(family)
        if said and family not in said:
            raise InputError(
                f"'{source}' holds weights of family {' or '.join(map(repr, said))}, not of "
                f"{family!r}: leave family= (--family) out, or use other weights."
            )
        said = (family,)
    if said == timm_names.FAMILIES:
        said = variants.of_timm(variant)
    ours = _computation(model)
    rows = {each: variants.in_family(variant or "b0", each) for each in said}
    fitting = [each for each, row in rows.items() if ours.agrees(row)]
    if said == timm_names.FAMILIES and fitting != ["timm"]:  # no model is "timm" by default
        raise InputError(
            f"'{source}' has timm's names and does not say whether it is of timm's own network or "
            "of its tf_ one, which compute something else with the same weights: say which, by "
            "family='timm' (efficientnet_b0 and so on) or family='tf' (tf_efficientnet_b0), on the "
            "command line --family."
        )
    if said and not fitting:
        name = "..."
        if variant is not None:
            name = repr(variants.find_variant(variant).name)
        raise InputError(_other(source, said[0], ours, rows[said[0]], name))


def _other(source, family, ours, row, name):
    """Says how to build the model that weights are of."""
    theirs = _Computation(frozenset({row.padding}), frozenset({row.batch_norm_epsilon}))
    return (
        f"'{source}' holds weights of family '{family}', whose networks have {theirs}; this model "
        f"has {ours}, and would compute something else with them. Build it with "
        f"family='{family}' (--family {family}), such as model_fn({name}, "
        f"family='{family}', weights=...)."
    )


# --- what a model computes --------------------------------------------------------------------


def _computation(model):
    """Returns the `_Computation` of a model's network."""
    paddings, epsilons = _EITHER, set()
    layers = list(flatten(model))
    places = variants.places_of(layer.name for layer in layers)
    for layer in layers:
        if isinstance(layer, ConvolutionalBlock):
            epsilons.add(layer.batch_norm_epsilon)
            for convolution in layer.convolutions:
                if convolution.strides > 1 and convolution.kernel_size > 1:
                    paddings &= {convolution.padding}
        elif layer.name not in places:
            continue
        elif isinstance(layer, keras.layers.BatchNormalization):
            epsilons.add(layer.epsilon)
        elif isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            if max(layer.strides) > 1 and max(layer.kernel_size) > 1 and layer._inbound_nodes:
                paddings &= _paddings(layer, places[layer.name].layer)
    return _Computation(paddings, frozenset(epsilons))


def _paddings(layer, name):
    """Returns which of `PADDINGS` put the zeros around a strided convolution's input."""
    x = layer._inbound_nodes[0].input_tensors[0]
    before, number, _ = x._keras_history
    amounts, sides = ((0, 0), (0, 0)), x.shape[1:3]
    if isinstance(before, keras.layers.ZeroPadding2D):
        amounts = before.padding
        sides = before._inbound_nodes[number].input_tensors[0].shape[1:3]
    if layer.padding == "same":
        amounts = (None, None)
    found = _EITHER
    for zeros, side in zip(amounts, sides):
        found &= _putting(zeros, side)
    if name == "stem_conv" and "same" in found:
        found |= {"even"}  # rows that pad so do it in their blocks alone
    return found


def _putting(zeros, side):
    """Returns which of `PADDINGS` put (before, after), None for SAME, around a side."""
    balanced = zeros is None or zeros[0] == zeros[1]
    if side is not None and side % 2:
        return {"same", "symmetric"} if balanced else {"even"}
    if zeros is None:
        return {"same"}
    return {"symmetric"} if balanced else {"same", "even"}
