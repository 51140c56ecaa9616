"""What is a block of a network?

Convolutions in a row, squeeze-and-excite among them, and the residual, as a description in
`variants/convolutions.py` says. `MBConv` and `FusedMBConv` are made of a few numbers; a block of
any other kind is a `DescribedBlock`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from effnet_tf.errors import InputError
from effnet_tf.layers import lean, lean_again, lean_norm
from effnet_tf.layers.convolutions import conv_layer
from effnet_tf.layers.lean_places import is_for_a_file, obstacle
from effnet_tf.layers.norm import batch_norm as new_batch_norm
from effnet_tf.layers.norm import check_batch_norm_mode
from effnet_tf.layers.routing import Routing
from effnet_tf.layers.shapes import Shape, channels_of, output_side
from effnet_tf.layers.squeeze_excite import SqueezeExcite
from effnet_tf.layers.stochastic import DropConnect
from effnet_tf.variants import BATCH_NORM_EPSILON, BATCH_NORM_MOMENTUM, Convolution


class ConvolutionalBlock(keras.layers.Layer):
    """What all kinds of blocks share; each says in `describe` what it consists of.

    Args:
        skip: add the input to the output where strides and channels allow it.
        drop_connect_rate: probability in [0, 1) that the residual branch of an image
            is dropped in training; without an addition nothing is dropped.
        batch_norm: mode of the batch norms, see `BatchNorm`.
        batch_norm_momentum: of their moving statistics, in [0, 1).
        batch_norm_epsilon: added to the variance in them, > 0.
        sync_replicas: how many replicas share the statistics of a batch, see `BatchNorm`.
        **kwargs: of `keras.layers.Layer`: name, dtype, trainable.
    """

    def __init__(
        self,
        skip: bool = True,
        drop_connect_rate: float = 0.0,
        batch_norm: str = "trainable",
        batch_norm_momentum: float = BATCH_NORM_MOMENTUM,
        batch_norm_epsilon: float = BATCH_NORM_EPSILON,
        sync_replicas: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_batch_norm_mode(batch_norm)
        self.skip = bool(skip)
        self.drop_connect_rate = float(drop_connect_rate)
        self._batch_norm = batch_norm
        self._batch_norm_momentum = float(batch_norm_momentum)
        self.batch_norm_epsilon = float(batch_norm_epsilon)
        self._sync_replicas = int(sync_replicas)
        self._convolutions: tuple[Convolution, ...] = ()  # known once it is built
        self.remat = "none"  # what training computes again, see `set_remat`; in no file

    def describe(self, input_filters: int) -> tuple[Convolution, ...]:
        """Returns the convolutions of the block on maps of so many channels, in order."""
        raise NotImplementedError

    @property
    def batch_norm(self) -> str:
        """The mode of the block's batch norms, see `BatchNorm`."""
        return self._batch_norm

    @batch_norm.setter
    def batch_norm(self, mode: str) -> None:
        check_batch_norm_mode(mode)
        self._batch_norm = mode
        self._apply_batch_norm()

    @property
    def batch_norm_momentum(self) -> float:
        """The momentum of the block's batch norms: also one that was set in them."""
        if self.built:
            return self.project_bn.momentum
        return self._batch_norm_momentum

    def _batch_norms(self):
        names = (convolution.batch_norm for convolution in self.convolutions)
        return [getattr(self, name) for name in names if name is not None]

    def _apply_batch_norm(self):
        for layer in self._batch_norms():
            layer.mode = self._batch_norm

    @property
    def convolutions(self) -> tuple[Convolution, ...]:
        """What the block consists of, in order, once it is built.

        Their layers are attributes of the same names, such as `expand_conv` and `expand_bn`;
        those of squeeze-and-excite are in `se`.
        """
        return self._convolutions

    def build(self, input_shape: Shape) -> None:
        input_filters = channels_of(input_shape)
        self._convolutions = self.describe(input_filters)
        # Not every block has these.
        self.expand_conv = self.shortcut_conv = self.se = self.routing = None
        for convolution in self.convolutions:
            self._add_layers(convolution)
        self.adds_input = self.skip and self._keeps_shape(input_filters)
        self.drop_connect = DropConnect(
            self.drop_connect_rate, name="drop_connect", dtype=self.dtype_policy
        )
        # A block that was frozen before it was built, as one loaded from a file, hands that on.
        # (TensorFlow would skip self.trainable = self.trainable.)
        keras.layers.Layer.trainable.fset(self, self.trainable)
        self._apply_batch_norm()
        self.built = True

    def _keeps_shape(self, input_filters):
        if self.shortcut_conv is not None:
            return True  # what is added has the output's shape
        strides = {convolution.strides for convolution in self.convolutions}
        return strides == {1} and self.convolutions[-1].filters == input_filters

    def _add_layers(self, convolution):
        """Makes and builds what computes one convolution of the description."""
        dtype = self.dtype_policy
        if convolution.name == "se/reduce":
            (gate,) = {each.activation for each in self.convolutions if each.name == "se/expand"}
            self.se = SqueezeExcite(
                convolution.filters, convolution.activation, gate, name="se", dtype=dtype
            )
            self.se.build((None, None, None, convolution.input_filters))
        elif convolution.routes:
            self.routing = Routing(convolution.filters, name=convolution.name, dtype=dtype)
            self.routing.build((None, None, None, convolution.input_filters))
        elif convolution.batch_norm is not None:
            shape = (None, None, None, convolution.input_filters)
            setattr(self, convolution.name, conv_layer(convolution, shape, dtype))
            layer = new_batch_norm(
                convolution.batch_norm,
                dtype,
                momentum=self._batch_norm_momentum,
                epsilon=self.batch_norm_epsilon,
            )
            layer.sync_replicas = self._sync_replicas
            layer.build((None, None, None, convolution.filters))
            setattr(self, convolution.batch_norm, layer)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        x, added = self._convolved(inputs, training)
        if self.adds_input:
            x = self.drop_connect(x, training=training) + added
        if self.convolutions[-1].after_sum:
            x = keras.activations.get(self.convolutions[-1].activation)(x)
        return x

    def _convolved(self, inputs, training):
        """Returns the map before the sum, and what is to be added to it."""
        if training and self._can_be_lean():
            stages = lean.stages(self.convolutions, self) or ()
            x, added, moved = lean_again.computed(stages, self.weights, inputs, self.remat)
            for each in moved:
                lean_norm.follow(*each)
            return x, added
        x, added, routing = inputs, inputs, ()
        for convolution in self.convolutions:
            if convolution.routes:
                routing = (self.routing(inputs),)
            elif convolution.shortcut:
                added = self._apply(convolution, inputs, training, routing)
            else:
                x = self._apply(convolution, x, training, routing)
        return x, added

    def _can_be_lean(self):
        """Of a frozen block nothing is kept anyway: it is what it is in inference, to the bit."""
        return bool(self.trainable_weights) and self.plain_because() is None

    def plain_because(self) -> str | None:
        """Returns why a training step is computed by Keras' own layers; None: it is lean.

        Where something is to be computed once more, it is lean on every device, but not in files.
        """
        if self.routing is not None:
            return "kernels are mixed of experts, for each image its own"
        if lean.stages(self.convolutions, self) is None:
            return "a layer inside a block is not the one that it was built with"
        if self.remat == "none" or is_for_a_file():
            return obstacle(self.compute_dtype)
        return None

    def _apply(self, convolution, x, training, routing):
        """Returns a map after a convolution, its batch norm and activation; see `Routing`."""
        if convolution.name == "se/reduce":
            return self.se(x)
        if convolution.name == "se/expand":
            return x  # `se` has done it
        zeros = convolution.explicit_padding
        if any(zeros):
            x = ops.pad(x, [(0, 0), zeros, zeros, (0, 0)])
        x = getattr(self, convolution.name)(x, *routing)
        x = getattr(self, convolution.batch_norm)(x, training=training)
        if convolution.after_sum:
            return x
        return keras.activations.get(convolution.activation)(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        n, height, width, channels = input_shape
        for convolution in self.convolutions or self.describe(channels_of(input_shape)):
            if not (convolution.pooled or convolution.shortcut):
                height = output_side(height, convolution)
                width = output_side(width, convolution)
                channels = convolution.filters
        return n, height, width, channels

    def get_config(self) -> dict:
        names = "drop_connect_rate skip batch_norm batch_norm_momentum batch_norm_epsilon".split()
        config = {**super().get_config(), **{name: getattr(self, name) for name in names}}
        config["sync_replicas"] = self._sync_replicas
        if self.built:  # what was set in the block's layers since then
            config["batch_norm"] = self.project_bn.mode
            config["sync_replicas"] = self.project_bn.sync_replicas
            config["drop_connect_rate"] = self.drop_connect.rate
        return config


@keras.saving.register_keras_serializable(package="effnet_tf")
class DescribedBlock(ConvolutionalBlock):
    """A block of any kind, by the description of its convolutions.

    Args:
        convolutions: in order, such as `variants.describe_separable` returns; or as dicts, as
            they are in saved models.
        **kwargs: of `ConvolutionalBlock`: skip, drop_connect_rate, batch_norm,
            batch_norm_momentum, batch_norm_epsilon, sync_replicas; and of `keras.layers.Layer`.

    Call arguments:
        inputs: a float feature map.
        training: whether batch norm and drop-connect are in training mode.

    Input shape:
        (N, H, W, C), with C the input channels of the first convolution.

    Output shape:
        (N, H / strides, W / strides, filters), rounded up, of the last convolution.

    Raises:
        InputError: the input has other channels than the description says.

    Example:
        >>> from effnet_tf.variants import describe_conv
        >>> block = DescribedBlock(describe_conv(16, 16, 24, strides=2))
        >>> block(np.ones((1, 8, 8, 16))).shape
        TensorShape([1, 4, 4, 24])
    """

    def __init__(self, convolutions: Sequence[Convolution | Mapping[str, Any]], **kwargs):
        super().__init__(**kwargs)
        self._described = tuple(map(_convolution, convolutions))

    def describe(self, input_filters: int) -> tuple[Convolution, ...]:
        wanted = self._described[0].input_filters
        if input_filters != wanted:
            raise InputError(
                f"The block '{self.name}' is described for {wanted} channels; received a map of "
                f"{input_filters}."
            )
        return self._described

    def get_config(self) -> dict:
        described = [dataclasses.asdict(convolution) for convolution in self._described]
        return {**super().get_config(), "convolutions": described}


def _convolution(described):
    if isinstance(described, Convolution):
        return described
    return Convolution(**described)
