"""What does a classifier compute at inference, in as few stock layers as that takes?

`fold` returns a Keras model of Conv2D, DepthwiseConv2D, Dense, Activation, Add, Multiply
and pooling layers, in float32: batch norm and the division by the pixels' deviation are
in the kernels; dropout, drop-connect and augmentation are gone. Equal to rounding. The
exporters and `equalize` work on it, and need to know no layer of ours.
"""

import keras
import numpy as np
from keras import ops

from effnet_tf import layers
from effnet_tf.errors import InputError, first_line
from effnet_tf.export import graph
from effnet_tf.layers import mbconv

# Of keras.layers. What only training does; not RandomCrop, which crops the centre of others.
_IN_TRAINING = (
    "ActivityRegularization",
    "AlphaDropout",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "AugMix",
    "CutMix",
    "Equalization",
    "MixUp",
    "RandAugment",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomElasticTransform",
    "RandomErasing",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomInvert",
    "RandomPerspective",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomShear",
    "RandomTranslation",
    "RandomZoom",
    "Solarization",
)
_IDENTITIES = (
    layers.DropConnect,
    *(getattr(keras.layers, name) for name in _IN_TRAINING if hasattr(keras.layers, name)),
)  # new Keras has more
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
_SCORES = ("softmax", "softmax_v2", "sigmoid")  # names of functions; the second: tf.nn.softmax


def fold(model: keras.Model) -> keras.Model:
    """Returns a `keras.Model` that computes what `model` does at inference.

    Args:
        model: a built functional or sequential `keras.Model`, of this package or one that
            contains such a model. It stays as it is.

    Returns:
        A functional model with copies of the weights: same inputs, outputs and shapes,
        float32, nested models taken apart. Layers it does not know are copied as they are.

    Raises:
        InputError: a subclassed model, which has no graph of layers; a layer that cannot be
            copied.
    """
    model = graph.functional(model)
    inputs = [
        keras.Input(batch_shape=tensor.shape, dtype="float32", name=f"images{number or ''}")
        for number, tensor in enumerate(model.inputs)
    ]
    if len(inputs) == 1:
        inputs = inputs[0]
    try:
        return keras.Model(inputs, _Folder().run(model, inputs), name=model.name)
    except (ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise InputError(
            f"The model '{model.name}' has a layer that the exporter cannot take: "
            f"{first_line(error)}."
        ) from error


def score_name(folded: keras.Model) -> str:
    """Returns what a model of `fold` gives: "probabilities" (softmax or sigmoid) or "logits"."""
    last, _ = graph.source_of(folded.outputs[0])
    if gives_scores(last):
        return "probabilities"
    return "logits"


def gives_scores(operation: keras.Operation) -> bool:
    """Whether an operation ends in softmax or sigmoid: a layer, or a function of keras.ops."""
    activation = getattr(getattr(operation, "activation", None), "__name__", "")
    return type(operation).__name__ in ("Softmax", "Sigmoid") or activation in _SCORES


def without_scores(layer: keras.Layer) -> keras.Layer:
    """Returns a copy of a layer with weights that leaves its softmax or sigmoid out."""
    copy = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    copy.build_from_config(layer.get_build_config())
    copy.set_weights(layer.get_weights())
    return copy


class _Folder:
    """Emits layer after layer, and remembers which tensors wait for their multiplication."""

    def __init__(self):
        self._unscaled = {}  # id of (x - mean) / std: that, x - mean, 1 / std
        self._copies = {}
        self._names, self._kept = set(), set()

    def run(self, model, inputs):
        """Returns what a functional model gives on the tensors `inputs`."""
        # What keras.models.clone_model calls; it would copy the graph of nested models.
        return model._run_through_graph(
            inputs, operation_fn=lambda layer: layer, call_fn=self._emit
        )

    def _emit(self, layer, *args, **kwargs):
        x = None
        if args:
            x = args[0]
        if isinstance(layer, _IDENTITIES):
            return x
        if isinstance(layer, keras.Model):
            return self.run(graph.functional(layer), x)
        if isinstance(layer, keras.layers.Pipeline):
            for each in layer.layers:
                x = self._emit(each, x)
            return x
        if isinstance(layer, layers.Normalize):
            return self._normalize(layer, x)
        if isinstance(layer, (mbconv.MBConv, mbconv.FusedMBConv)):
            return self._block(layer, x)
        if isinstance(layer, layers.SqueezeExcite):
            return self._squeeze_excite(layer, x, layer.name)
        if type(layer) in _CONVOLUTIONS:
            return self._conv(layer, x, layer.name)
        if isinstance(layer, keras.layers.BatchNormalization) and _fits(layer, x):
            return self._batch_norm(layer, x)
        return self._call_copy(layer, args, kwargs)

    def _call_copy(self, layer, args, kwargs):
        if getattr(layer, "_call_has_training_arg", False):
            kwargs["training"] = False  # RandomCrop draws by default
        return self._copy(layer)(*args, **kwargs)

    def _copy(self, layer):
        """Returns a float32 copy of a layer, once; operations such as x + y are themselves."""
        if not isinstance(layer, keras.layers.Layer):
            return layer
        if id(layer) not in self._copies:
            copy = type(layer).from_config(
                {**layer.get_config(), "dtype": "float32", "name": self._name(layer.name)}
            )
            if layer.weights:
                copy.build_from_config(layer.get_build_config())
                copy.set_weights(layer.get_weights())
                if isinstance(copy, keras.layers.Normalization):
                    copy.finalize_state()
            self._copies[id(layer)] = copy
        return self._copies[id(layer)]

    def _name(self, name):
        """Returns `name`, or the first free name_2, name_3 ..: shared layers come again."""
        free, number = name, 1
        while free in self._names:
            number += 1
            free = f"{name}_{number}"
        self._names.add(free)
        return free

    def _normalize(self, layer, x):
        centred = ops.subtract(x, np.asarray(layer.mean, "float32"))
        scale = (1 / np.asarray(layer.std)).astype("float32")
        scaled = ops.multiply(centred, scale)
        self._unscaled[id(scaled)] = (scaled, centred, scale)
        return scaled

    def _conv(self, layer, x, name, batch_norm=None):
        """Emits a convolution that takes pixels before their division by the deviation."""
        weights = [np.asarray(weight) for weight in layer.get_weights()]
        if id(x) in self._unscaled:
            _, x, scale = self._unscaled[id(x)]
            weights[0] = weights[0] * scale[:, np.newaxis]  # both kernels: (k, k, C_in, F)
        if batch_norm is not None:
            weights = _folded(layer, weights, batch_norm)
        return self._emit_conv(layer, x, name, weights)

    def _emit_conv(self, layer, x, name, weights):
        config = {
            **layer.get_config(),
            "dtype": "float32",
            "name": self._name(name),
            "use_bias": len(weights) == 2,
        }
        # To draw numbers that are replaced at once would be a third of all work here.
        config |= {key: "zeros" for key in config if key.endswith("_initializer")}
        copy = type(layer).from_config(config)
        if len(layer._outbound_nodes) > 1:
            self._kept.add(copy.name)  # several layers may read it
        outputs = copy(x)
        copy.set_weights(weights)
        return outputs

    def _batch_norm(self, layer, x):
        """Emits the convolution again whose result is x, with the batch norm inside.

        The former one has no way to the outputs any more, unless another layer uses it.
        """
        conv = x._keras_history.operation
        if conv.name not in self._kept:
            self._names.discard(conv.name)
        return self._emit_conv(
            conv, conv.input, conv.name, _folded(conv, conv.get_weights(), layer)
        )

    def _activation(self, activation, x, name):
        return keras.layers.Activation(activation, name=self._name(name), dtype="float32")(x)

    def _block(self, block, inputs):
        """Emits the convolutions of a block in the order of their description."""
        x = inputs
        for convolution in block.convolutions:
            if convolution.name == "se/reduce":
                x = self._squeeze_excite(block.se, x, f"{block.name}_se")  # with se/expand
            elif not convolution.pooled:
                x = self._convolution(block, convolution, x)
        if block.adds_input:
            x = keras.layers.Add(name=self._name(f"{block.name}_add"), dtype="float32")([x, inputs])
        return x

    def _convolution(self, block, described, x):
        """Emits a convolution of a block, its batch norm inside, and its activation."""
        name = f"{block.name}_{described.name}"
        batch_norm = getattr(block, described.batch_norm)
        x = self._conv(getattr(block, described.name), x, name, batch_norm)
        if described.activation is None:
            return x
        return self._activation(block.activation, x, f"{name}_activation")

    def _squeeze_excite(self, layer, x, name):
        gate = keras.layers.GlobalAveragePooling2D(
            data_format="channels_last",
            keepdims=True,
            name=self._name(f"{name}_squeeze"),
            dtype="float32",
        )(x)
        gate = self._conv(layer.reduce, gate, f"{name}_reduce")
        gate = self._activation(layer.activation, gate, f"{name}_reduce_activation")
        gate = self._conv(layer.expand, gate, f"{name}_expand")
        gate = self._activation("sigmoid", gate, f"{name}_gate")
        return keras.layers.Multiply(name=self._name(f"{name}_excite"), dtype="float32")([x, gate])


def _fits(batch_norm, x):
    """Whether x is the result of a linear convolution whose channels a batch norm scales."""
    conv = x._keras_history.operation
    return (
        type(conv) in _CONVOLUTIONS
        and conv.activation is keras.activations.linear
        and conv.data_format == "channels_last"
        and batch_norm.axis in (-1, 3)
    )


def _folded(conv, weights, batch_norm):
    """Returns kernel and bias of a convolution that is followed by a batch norm."""
    kernel, *bias = weights
    gamma, beta, mean, variance = _affine(batch_norm)
    with np.errstate(invalid="ignore"):  # soundness.py names what comes of a variance below 0
        scale = gamma / np.sqrt(variance + batch_norm.epsilon)
    scale_of_kernel = scale
    if isinstance(conv, keras.layers.DepthwiseConv2D):
        scale_of_kernel = scale.reshape(kernel.shape[2:])
    kernel = kernel * scale_of_kernel
    return [kernel.astype("float32"), (beta + (sum(bias) - mean) * scale).astype("float32")]


def _affine(layer):
    """Returns gamma, beta, moving mean and variance of a batch norm, as float64 vectors."""
    mean, variance = np.asarray(layer.moving_mean), np.asarray(layer.moving_variance)
    gamma, beta = np.ones_like(mean), np.zeros_like(mean)
    if layer.scale:
        gamma = np.asarray(layer.gamma)
    if layer.center:
        beta = np.asarray(layer.beta)
    return [np.asarray(value, "float64") for value in (gamma, beta, mean, variance)]
