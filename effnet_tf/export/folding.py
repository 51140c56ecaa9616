"""What does a model compute at inference, in as few stock layers as that takes?

`fold` returns a Keras model of Conv2D, DepthwiseConv2D, Dense, Activation, Add, Multiply
and pooling layers, in float32: batch norm and the division by the pixels' deviation are
in the kernels; dropout, drop-connect and augmentation are gone. Equal to rounding, and the
same for both forms of a network: that of composite blocks and that of stock layers. The
exporters and `equalize` work on it, and need to know no layer of ours.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from effnet_tf import layers
from effnet_tf.errors import InputError, first_line
from effnet_tf.export import graph, inputs, merging, pixels
from effnet_tf.export.emitting import Emitter
from effnet_tf.export.identities import IDENTITIES
from effnet_tf.layers.blocks import ConvolutionalBlock
from effnet_tf.layers.convolutions import zero_padding


def fold(model: keras.Model) -> keras.Model:
    """Returns a `keras.Model` that computes what `model` does at inference.

    Args:
        model: a built functional or sequential `keras.Model`, of this package or one that
            contains such a model. It stays as it is.

    Returns:
        A functional model with copies of the weights: same inputs, outputs and shapes,
        float32, nested models taken apart. Layers it does not know are copied as they are;
        those that cannot be copied, such as a subclassed model inside, are called.

    Raises:
        InputError: a subclassed model, which has no graph of layers; a layer that cannot be
            taken over.
    """
    model = graph.functional(model)
    layers.allow_depth(len(model.weights))  # more than there are layers
    names = inputs.names(model)
    taken = [
        keras.Input(batch_shape=tensor.shape, dtype=inputs.dtype(tensor), name=name)
        for name, tensor in zip(names, model.inputs)
    ]
    if len(taken) == 1:
        taken = taken[0]
    try:
        return keras.Model(taken, _Folder(names).run(model, taken), name=model.name)
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise InputError(
            f"The model '{model.name}' has a layer that the exporter cannot take: "
            f"{first_line(error)}."
        ) from error


@dataclasses.dataclass(frozen=True)
class _Scaled:
    """A tensor x * factor + shift, and what a convolution with the factor inside takes."""

    tensor: keras.KerasTensor  # held: others go by its id
    x: keras.KerasTensor
    scaling: pixels.Scaling
    centred: keras.KerasTensor  # x - mean


@dataclasses.dataclass(frozen=True)
class _Convolved:
    """What a convolution gives, and how it was made."""

    tensor: keras.KerasTensor
    x: keras.KerasTensor
    layer: keras.Layer
    weights: list[np.ndarray]
    made: dict  # name, padding, key and routing, see `Emitter.convolution`


class _Folder:
    """Goes through a graph, and remembers the tensors whose layer may vanish in the next one."""

    def __init__(self, names):
        self._emit = Emitter(names)
        # By id of a tensor. The last two: that tensor, and what it was made of.
        self._scaled, self._convolved = {}, {}
        self._padded, self._pooled = {}, {}
        self._released = set()

    def run(self, model, tensors):
        """Returns what a functional model gives on the tensors `tensors`."""
        # What keras.models.clone_model calls; it would copy the graph of nested models.
        return model._run_through_graph(
            tensors, operation_fn=lambda layer: layer, call_fn=self._call
        )

    def _call(self, layer, *args, **kwargs):
        x = None
        if args:
            x = args[0]
        if isinstance(layer, IDENTITIES):
            return x
        if graph.has_graph(layer):
            return self.run(graph.functional(layer), x)
        if isinstance(layer, keras.layers.Pipeline):
            for each in layer.layers:
                x = self._call(each, x)
            return x
        if isinstance(layer, keras.layers.TimeDistributed) and graph.has_graph(layer.layer):
            if None not in x.shape[1:]:
                return self._frames(layer, x)
        if isinstance(layer, ConvolutionalBlock):
            return self._block(layer, x)
        if isinstance(layer, layers.SqueezeExcite):
            return self._squeeze_excite(layer, x, layer.name)
        if type(layer) in merging.CONVOLUTIONS:
            return self._convolution(layer, x, layer.name)
        if type(layer) in merging.MIXED and not layer.own_routing:
            return self._convolution(layer, x, layer.name, routing=args[1:])
        folded = None
        if isinstance(x, keras.KerasTensor):
            folded = self._merged(layer, x)
        if folded is None:
            return self._call_copy(layer, args, kwargs)
        return folded

    def _call_copy(self, layer, args, kwargs):
        if getattr(layer, "_call_has_training_arg", False):
            kwargs["training"] = False  # RandomCrop draws by default
        return self._emit.copy(layer)(*args, **kwargs)

    def _frames(self, layer, x):
        """Emits what a network makes of every frame: all of them are one batch for it."""
        frames = ops.reshape(x, (-1, *x.shape[2:]))
        outputs = self.run(graph.functional(layer.layer), frames)
        return ops.reshape(outputs, (-1, x.shape[1], *outputs.shape[1:]))

    def _merged(self, layer, x):
        """Returns what a layer gives that may vanish in another one; None for other layers."""
        scaling = pixels.scaling_of(layer, len(x.shape))
        if scaling is not None:
            return self._scale(scaling, x)
        if isinstance(layer, keras.layers.BatchNormalization):
            return self._batch_norm(layer, x)
        if type(layer) is keras.layers.ZeroPadding2D and layer.data_format == "channels_last":
            return self._pad(layer, x)
        if type(layer) is keras.layers.GlobalAveragePooling2D:
            return self._pool(layer, x)
        if type(layer) is keras.layers.Reshape:
            return self._unpool(layer, x)
        return None

    def _scale(self, scaling, x):
        """Emits x * factor + shift; a convolution that follows does without the factor."""
        if id(x) in self._scaled:
            before = self._scaled[id(x)]
            x, scaling = before.x, before.scaling.then(scaling)
        centred = scaled = x
        if scaling.shift.any():
            centred = ops.subtract(x, _for_rows(scaling.centre.astype("float32"), x.shape))
        scaled = ops.multiply(centred, scaling.factor.astype("float32"))
        self._scaled[id(scaled)] = _Scaled(scaled, x, scaling, centred)
        return scaled

    def _pad(self, layer, x):
        if not np.any(layer.padding):
            return x
        padded = self._emit.copy(layer)(x)
        self._padded[id(padded)] = padded, x, layer
        return padded

    def _pool(self, layer, x):
        pooled = self._emit.copy(layer)(x)
        if layer.data_format == "channels_last" and not layer.keepdims:
            self._pooled[id(pooled)] = pooled, x, layer
        return pooled

    def _unpool(self, layer, x):
        """Emits a mean over a map that keeps its sides, for one that is shaped so afterwards."""
        if id(x) not in self._pooled or layer.target_shape[:-1] != (1, 1):
            return None
        _, x, pooling = self._pooled[id(x)]
        self._release(pooling)
        return self._emit.mean(x, pooling.name)

    def _release(self, layer):
        """Frees the name of a layer that vanishes, unless another one may read its result."""
        if len(layer._outbound_nodes) < 2 and id(layer) not in self._released:
            self._released.add(id(layer))  # in a later call the name is another one's
            self._emit.release(layer.name)

    def _convolution(self, layer, x, name, batch_norm=None, routing=()):
        """Emits a convolution and its activation."""
        weights = [np.asarray(layer.kernel)]
        if layer.use_bias:
            weights.append(np.asarray(layer.bias))
        padding, key = layer.padding, (id(layer),)
        _, bare, zeros = self._padded.get(id(x), (x, x, None))
        if zeros is not None and merging.is_same(layer, zeros.padding, bare.shape[1:3]):
            x, padding, zeros = bare, "same", None
        if id(bare) in self._scaled and merging.takes_factor(layer):
            scaled = self._scaled[id(bare)]
            weights = merging.with_factor(weights, scaled.scaling.factor, x.shape[-1])
            x, key = scaled.centred, (*key, scaled.scaling.factor.tobytes())
            if zeros is not None:
                x = self._emit.copy(zeros)(x)
        made = {"name": name, "padding": padding, "key": key, "routing": routing}
        outputs = self._convolve(_Convolved(None, x, layer, weights, made), batch_norm)
        return self._emit.activation(layer.activation, outputs, f"{name}_activation")

    def _convolve(self, given, batch_norm=None):
        """Emits the convolution that is described, with the batch norm inside."""
        weights, made = given.weights, given.made
        if batch_norm is not None:
            weights = merging.with_batch_norm(given.layer, weights, batch_norm)
            made = {**made, "key": (*made["key"], id(batch_norm))}
        outputs = self._emit.convolution(given.layer, given.x, weights, **made)
        self._convolved[id(outputs)] = dataclasses.replace(
            given, tensor=outputs, weights=weights, made=made
        )
        return outputs

    def _batch_norm(self, layer, x):
        """Emits the convolution again whose result is x, with the batch norm inside."""
        before = self._convolved.get(id(x))
        if before is None or not merging.takes_batch_norm(before.layer, layer):
            return None
        self._release(before.layer)
        return self._convolve(before, layer)

    def _block(self, block, before):
        """Emits the convolutions of a block in the order of their description."""
        x, added, routing = before, before, ()
        for convolution in block.convolutions:
            if convolution.routes:
                routing = (self._emit.copy(block.routing, f"{block.name}_routing")(before),)
            elif convolution.name == "se/reduce":
                x = self._squeeze_excite(block.se, x, f"{block.name}_se")  # with se/expand
            elif convolution.shortcut:
                added = self._part(block, convolution, before, routing)
            elif not convolution.pooled:
                x = self._part(block, convolution, x, routing)
        if block.adds_input:
            x = self._emit.sum([x, added], f"{block.name}_add")
        if convolution.after_sum:
            x = self._activation(block, convolution, x)
        return x

    def _part(self, block, described, x, routing):
        """Emits a convolution of a block, its batch norm inside, and its activation."""
        layer, batch_norm = getattr(block, described.name), getattr(block, described.batch_norm)
        if any(described.explicit_padding):
            zeros = zero_padding(described, f"{block.name}_{described.name}_pad")
            x = self._pad(zeros, x)
        x = self._convolution(layer, x, f"{block.name}_{described.name}", batch_norm, routing)
        if described.after_sum:
            return x
        return self._activation(block, described, x)

    def _activation(self, block, described, x):
        name = f"{block.name}_{described.activation_name}"
        return self._emit.activation(described.activation, x, name)

    def _squeeze_excite(self, layer, x, name):
        gate = self._emit.mean(x, f"{name}_squeeze")
        gate = self._convolution(layer.reduce, gate, f"{name}_reduce")
        gate = self._emit.activation(layer.activation, gate, f"{name}_reduce_activation")
        gate = self._convolution(layer.expand, gate, f"{name}_expand")
        gate = self._emit.activation(layer.gate, gate, f"{name}_expand_activation")
        return self._emit.product([x, gate], f"{name}_excite")


def _for_rows(centre, shape):
    """Returns a number per channel (C,) as one for each of a row's (1, 1, W, C), where W is known.

    TFLite's kernels take as much at once as lies side by side: an int8 B0 takes 0.88 of the time.
    """
    if len(shape) != 4 or shape[2] is None or centre.ndim != 1:
        return centre
    return np.broadcast_to(centre, (1, 1, shape[2], shape[3]))
