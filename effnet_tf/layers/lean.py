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
from effnet_tf.layers.lean_convolutions import Convolution, convolution
from effnet_tf.layers.lean_units import Unit
from effnet_tf.layers.norm import BatchNorm
from effnet_tf.layers.squeeze_excite import SqueezeExcite
from effnet_tf.variants import Convolution as Description

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

    described: Description
    layer: keras.layers.Layer
    convolution: Convolution
    norm: BatchNorm
    excite: SqueezeExcite | None


@dataclasses.dataclass(frozen=True)
class Flow:
    """A map on its way through a block, and the stage whose batch norm is still to come."""

    map: tf.Tensor
    stage: Stage | None = None


class Lean:
    """A block in training.

    Args:
        stages: of the block, in order.
        read: variable -> its value.

    Attributes:
        moved: what batch norms shall follow, once the block has been computed.
    """

    def __init__(self, stages: Sequence[Stage], read: Read):
        self._stages, self._read = stages, read
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
        elif flow.stage is None:
            x = stage.convolution(flow.map, kernel)
        elif stage.convolution.has_gradients and lean_passes.knows(flow.stage.described.activation):
            x = self._unit(flow, stage.convolution, kernel)
        else:
            x = stage.convolution(self._settled(flow), kernel)
        if stage.layer.use_bias:
            x = tf.nn.bias_add(x, self._read(stage.layer.bias))
        return Flow(x, stage)

    def _unit(self, flow, following, kernel):
        """Takes a map through batch norm, activation, excitation and the next convolution."""
        norm, excite, given = flow.stage.norm, flow.stage.excite, None
        weights = {**self._scaling(norm), "kernel": kernel}
        if not norm.takes_batch(True):
            given = self._read(norm.moving_mean), self._read(norm.moving_variance)
        if excite is not None:
            weights |= {name: self._read(value) for name, value in excite.by_name().items()}
        unit = Unit(
            norm.epsilon,
            flow.stage.described.activation,
            following,
            excite and excite.gates,
            given=given,
        )
        x, *statistics = unit(flow.map, weights)
        self._note(norm, *statistics)
        return x

    def _settled(self, flow):
        """Returns a map after the batch norm, activation and excitation that it waited for."""
        if flow.stage is None:
            return flow.map
        x = self._normalized(flow.map, flow.stage.norm)
        if not flow.stage.described.after_sum:
            x = keras.activations.get(flow.stage.described.activation)(x)
        excite = flow.stage.excite
        if excite is None:
            return x
        weights = [self._read(value) for value in excite.by_name().values()]
        return x * excite.gates(tf.reduce_mean(x, (1, 2)), *weights)[:, tf.newaxis, tf.newaxis]

    def _normalized(self, x, norm):
        scaling = self._scaling(norm)
        if not norm.takes_batch(True):
            mean, variance = self._read(norm.moving_mean), self._read(norm.moving_variance)
            return tf.nn.batch_normalization(
                x, mean, variance, scaling["beta"], scaling["gamma"], norm.epsilon
            )
        x, *statistics = lean_norm.normalised(x, *scaling.values(), norm.epsilon)
        self._note(norm, *statistics)
        return x

    def _scaling(self, norm):
        return {"gamma": self._read(norm.gamma), "beta": self._read(norm.beta)}

    def _note(self, norm, mean, variance):
        if norm.takes_batch(True):
            self.moved.append(Moved(norm, mean, variance))


def stages(descriptions: Sequence[Description], home: keras.layers.Layer) -> list[Stage] | None:
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


def reader(layer: keras.layers.Layer) -> Read:
    """Returns variable -> its value now, of the variables of a layer."""
    values = {id(weight): tf.convert_to_tensor(weight.value) for weight in layer.weights}
    return lambda variable: values[id(variable)]
