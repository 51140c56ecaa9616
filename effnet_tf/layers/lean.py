"""How does a block compute a training step, in time and memory, as lean as it can?

A map goes through the convolutions in order. Batch norm and activation of one wait for the next:
both together are a `Unit`, which keeps the output of a convolution and nothing else. What cannot be
put off is done by TensorFlow's operations, and autodiff. Nothing here reads a variable or moves
one: all are handed in as tensors, and statistics come back, so that a block can be computed twice.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from effnet_tf.layers import lean_norm, lean_passes
from effnet_tf.layers.lean_channels import Widening, pays
from effnet_tf.layers.lean_convolutions import LeanConvolution, convolution
from effnet_tf.layers.lean_neighbours import convolved
from effnet_tf.layers.lean_pieces import Expansion
from effnet_tf.layers.lean_places import under_xla
from effnet_tf.layers.lean_projections import Projection
from effnet_tf.layers.lean_sources import note
from effnet_tf.layers.lean_units import Unit
from effnet_tf.layers.norm import BatchNorm
from effnet_tf.layers.replica_group import Group
from effnet_tf.layers.squeeze_excite import SqueezeExcite
from effnet_tf.variants import Convolution

# Channels at most of a map that a CPU widens once more, by `remat`. The time grows with them, what
# it saves does not: up to 16 it is less than 1 % of a step. Wide maps of a block that is computed
# again live no longer than that; the peak is in blocks of few channels, whose maps are the largest.
WIDENED_AGAIN = {"none": 16, "expansion": 128, "block": 64}

Read = Callable[[keras.Variable], tf.Tensor]


class Moved(NamedTuple):
    """A batch norm, and the statistics (C,) of a batch that its own follow."""

    layer: BatchNorm
    mean: tf.Tensor
    variance: tf.Tensor


class Stage(NamedTuple):
    """A convolution of a block with all that belongs to it.

    Attributes:
        described: what it is.
        layer: of Keras'.
        convolution: what the layer computes.
        norm: the batch norm after it.
        excite: squeeze-and-excite after its activation, or None.
    """

    described: Convolution
    layer: keras.layers.Layer
    convolution: LeanConvolution
    norm: BatchNorm
    excite: SqueezeExcite | None

    @property
    def widens(self) -> bool:
        """Whether its input is narrower than its output, and that can be computed once more."""
        is_wider = self.described.filters > self.described.input_filters
        return is_wider and self.convolution.has_gradients and not self.layer.use_bias


@dataclasses.dataclass(frozen=True)
class Flow:
    """A map on its way through a block, and what is still to come.

    Attributes:
        map: (N, H, W, C).
        stage: whose batch norm is to come, or None.
        first: the kernel of the stage's convolution, if that is to come, too.
    """

    map: tf.Tensor
    stage: Stage | None = None
    first: tf.Tensor | None = None


class Lean:
    """A block in training.

    Args:
        stages: of the block, in order.
        read: variable -> its value.
        remat: "none": only cheap expansions are computed again for the gradient, on a CPU;
            "expansion": all of them, instead of being kept, on a CPU but for dear ones; "block":
            all of it is computed again, and expansions and projections in pieces where they can be.
        known: where it is computed again, what batch norms followed the first time: no other
            replica is asked once more, and XLA has no sums to take.

    Attributes:
        moved: what batch norms shall follow, once the block has been computed.
    """

    def __init__(
        self, stages: Sequence[Stage], read: Read, remat: str = "none", known: Sequence[Moved] = ()
    ):
        self._stages, self._read, self._remat = stages, read, remat
        self._known = {id(each.layer): (each.mean, each.variance) for each in known}
        self.moved: list[Moved] = []

    def __call__(self, inputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the map before the sum, and what is to be added to it, each (N, H, W, C)."""
        flow, added = Flow(inputs), inputs
        for stage in self._stages:
            if stage.described.shortcut:
                added = self._settled(self._convolved(Flow(inputs), stage))
            else:
                flow = self._convolved(flow, stage)
        return self._settled(flow), added

    def _convolved(self, flow, stage):
        """Takes a map through the convolution of a stage."""
        kernel, zeros = self._read(stage.layer.kernel), stage.described.explicit_padding
        if any(zeros):
            x = tf.pad(self._settled(flow), [(0, 0), zeros, zeros, (0, 0)])
            x = stage.convolution(x, kernel)
        elif flow.stage is None and stage.widens and self._waits(flow.map, stage):
            return Flow(flow.map, stage, kernel)
        elif flow.stage is None:
            x = convolved(stage.convolution, flow.map, kernel)
        elif stage.convolution.has_gradients and lean_passes.knows(flow.stage.described.activation):
            x = self._unit(flow, stage.convolution, kernel)
        else:
            x = stage.convolution(self._settled(flow), kernel)
        if stage.layer.use_bias:
            x = tf.nn.bias_add(x, self._read(stage.layer.bias))
        return Flow(x, stage)

    def _waits(self, x, stage):
        """Whether an expansion is left to the unit that follows."""
        if not under_xla():
            if not stage.convolution.is_product:
                return self._remat != "none"
            return stage.described.input_filters <= WIDENED_AGAIN[self._remat]
        if self._remat == "expansion":
            return True
        if not stage.convolution.is_pointwise:
            return False
        return self._remat == "block" or pays(x, stage.described.filters)

    def _unit(self, flow, following, kernel):
        """Takes a map through batch norm, activation, excitation and the next convolution."""
        norm, excite, given = flow.stage.norm, flow.stage.excite, None
        weights = {**self._scaling(norm), "kernel": kernel}
        if not norm.takes_batch(True):
            given = self._read(norm.moving_mean), self._read(norm.moving_variance)
        if excite is not None:
            weights |= {name: self._read(value) for name, value in excite.by_name().items()}
        by_channels = _is_by_channels(flow, excite, given, following)
        if self._remat == "none" and under_xla() and not by_channels:
            flow = _begun(flow)
        if flow.first is not None:
            weights["first"] = flow.first
        x, *statistics = self._kind(flow, following, excite, given)(flow.map, weights)
        self._note(norm, *statistics)
        return x

    def _kind(self, flow, following, excite, given):
        """Returns the unit that takes a map to the next convolution."""
        epsilon, activation = flow.stage.norm.epsilon, flow.stage.described.activation
        pivot, group = self._read(flow.stage.norm.moving_mean), self._group(flow.stage.norm)
        first = None
        if _is_by_channels(flow, excite, given, following):
            return Widening(epsilon, activation, following, self._remat != "none", pivot, group)
        if _comes_in_pieces(flow, excite, given):
            return Expansion(epsilon, activation, following, group)
        if flow.first is not None:
            first = flow.stage.convolution
        gates = None if excite is None else excite.gates
        kind = Unit
        if self._remat == "block" and first is None and excite is not None and given is None:
            kind = Projection
        return kind(epsilon, activation, following, gates, first, given, pivot, group)

    def _settled(self, flow):
        """Returns a map after the batch norm, activation and excitation that it waited for."""
        if flow.stage is None:
            return flow.map
        x = self._normalized(_begun(flow).map, flow.stage.norm)
        if not flow.stage.described.after_sum:
            x = keras.activations.get(flow.stage.described.activation)(x)
        excite = flow.stage.excite
        if excite is None:
            return x
        weights = [self._read(value) for value in excite.by_name().values()]
        mean = tf.reduce_mean(tf.cast(x, self._read(flow.stage.norm.gamma).dtype), (1, 2))
        return lean_passes.gated(x, excite.gates(mean, *weights))

    def _group(self, norm):
        """Returns the replicas that share the statistics of a batch norm, with those if known.

        On a CPU one that is alone measures once more: with the gradient of the operation that does
        it a process needed 65 MiB less (B0, 32 images).
        """
        group, found = norm.group(), self._known.get(id(norm))
        if found is None or (group is None and not under_xla()):
            return group
        return Group(1 if group is None else group.size, found)

    def _normalized(self, x, norm):
        scaling = self._scaling(norm)
        if not norm.takes_batch(True):
            given = self._read(norm.moving_mean), self._read(norm.moving_variance)
            return lean_norm.normalised_by(x, *given, *scaling.values(), norm.epsilon)
        pivot, group = self._read(norm.moving_mean), self._group(norm)
        y, *statistics = lean_norm.normalised(x, *scaling.values(), norm.epsilon, pivot, group)
        note(y, lean_norm.source(x, *statistics, *scaling.values(), norm.epsilon))
        self._note(norm, *statistics)
        return y

    def _scaling(self, norm):
        return {"gamma": self._read(norm.gamma), "beta": self._read(norm.beta)}

    def _note(self, norm, mean, variance):
        if norm.takes_batch(True):
            self.moved.append(Moved(norm, mean, variance))


def _begun(flow):
    """Returns a flow whose convolution is not to come any more."""
    if flow.first is None:
        return flow
    return Flow(flow.stage.convolution(flow.map, flow.first), flow.stage)


def _is_by_channels(flow, excite, given, following):
    """Whether a unit is a `Widening`."""
    if flow.first is None or not under_xla() or not flow.stage.convolution.is_pointwise:
        return False
    return following.depthwise and excite is None and given is None


def _comes_in_pieces(flow, excite, given):
    """Whether a unit is an `Expansion`."""
    if flow.first is None or not flow.stage.convolution.is_product:
        return False
    return excite is None and given is None and flow.map.dtype.size >= 4


def stages(descriptions: Sequence[Convolution], home: keras.layers.Layer) -> list[Stage] | None:
    """Returns the stages of a built block; None where one of its layers is another thing.

    Args:
        descriptions: of its convolutions, in order.
        home: the block, whose attributes are the layers.
    """
    found: list[Stage] = []
    for described in descriptions:
        if described.name == "se/reduce":
            found[-1] = found[-1]._replace(excite=home.se)
        elif described.batch_norm is not None:
            layer, norm = getattr(home, described.name), getattr(home, described.batch_norm)
            known = convolution(layer)
            if known is None or type(norm) is not BatchNorm or not lean_norm.is_ordinary(norm):
                return None
            found.append(Stage(described, layer, known, norm, None))
    return found
