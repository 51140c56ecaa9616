"""How do batch norm, activation and the convolution after them leave a single map behind?

Autodiff of z = conv(activation(norm(x))) keeps x for the batch norm, y = norm(x) for the activation
and h = activation(y) for the convolution: three maps of a size. But y = x * factor + shift, with
two numbers per channel, and so h costs one cheap pass over x. A `Unit` keeps x alone. Its gradient,
for the gradient d of z:

    h          = activation(x factor + shift)          once more, and only once d is there
    of kernel  = convolution's, of h and d             then h is not needed any more
    dh         = convolution's, of d and the kernel
    dy         = dh activation'(x factor + shift)
    of x, gamma, beta = batch norm's, of dy and x      (lean_statistics.py)

Between activation and convolution there may be squeeze-and-excite: the convolution sees h g, where
the gates g = excite(q) are a function of the mean q of h over the H W pixels. Then, with u the
gradient of h g,

    of g = sum over pixels of u h,   of q and the excitation's weights = autodiff's, of excite,
    dh   = u g + (of q) / (H W),

and where the map is large the gates go into the kernel instead (lean_gates.py).

Batch norm needs sums of dy and dy z, which wait for the gates' gradient. Under XLA they need no
pass of their own: g and (of q) are one number for an image and channel, and so both follow from
sums over pixels that do not wait (`lean_passes.gated_sums`).

In float32 u is then made twice, and neither written nor read: for the sums, and again in the pass
that makes the gradient of x. d is narrow; and what convolutions alone read, as that gradient, a TPU
holds in bfloat16, to which they round it anyway. (In bfloat16 it moves no fewer bytes.)

With `first` a unit takes the input of the convolution before it, and computes x from that once
more, too: what it keeps is as narrow as a block is outside.

Gradients of half a network, or of frozen variables, are as autodiff's: what nobody asks for is
not computed, for TensorFlow drops it from its graph.
"""

import dataclasses
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from effnet_tf.layers import lean_gates, lean_norm, lean_passes, lean_statistics
from effnet_tf.layers.lean_convolutions import LeanConvolution
from effnet_tf.layers.lean_derivatives import derivable
from effnet_tf.layers.lean_places import under_xla
from effnet_tf.layers.replica_group import Group


def held_back(d: tf.Tensor, *tensors: tf.Tensor) -> list[tf.Tensor]:
    """Returns d and the tensors such that what is computed from them waits for d.

    XLA would find that it has computed the same before, and keep that. Elsewhere the control
    dependencies of `Unit` do it.
    """
    if under_xla():
        return list(xla.optimization_barrier(d, *tensors))
    return [d, *tensors]


@dataclasses.dataclass(frozen=True)
class Unit:
    """A function of a map and of variables, given as tensors by name, that keeps little.

    Attributes:
        epsilon: of the batch norm.
        activation: one that `lean_passes.knows`.
        convolution: what follows, with the weight "kernel".
        excite: (mean (N, C), *weights) -> gates (N, C); its weights are all that have other names
            than those that are mentioned here. None: there are no gates.
        first: the convolution before the batch norm, with the weight "first"; None: it is no part
            of the unit.
        given: (mean, variance), each (C,), of a batch norm that does not take the map's own.
        pivot: of `lean_statistics.measured`.
        group: the replicas that share the map's own statistics, or None.
    """

    epsilon: float
    activation: str | None
    convolution: LeanConvolution
    excite: Callable[..., tf.Tensor] | None = None
    first: LeanConvolution | None = None
    given: tuple[tf.Tensor, tf.Tensor] | None = None
    pivot: tf.Tensor | None = None
    group: Group | None = None

    def __call__(
        self, x: tf.Tensor, weights: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns (output, mean (C,), variance (C,)); the statistics have no gradient.

        Args:
            x: (N, H, W, C), the output of a convolution, or the input of `first`.
            weights: "gamma" and "beta", each (C,), and those of the attributes.
        """

        @tf.custom_gradient
        def run(x, *values):
            named = dict(zip(weights, values))
            output, statistics, gates = self._forward(x, named)

            def gradient(d, *_):
                def first(d):
                    found = self._backward(d, x, named, statistics, gates)
                    return [found[name] for name in ("x", *weights)]

                return derivable(first, self.plain, d, x, named)

            return (output, statistics.mean, statistics.variance), gradient

        return run(x, *weights.values())

    def plain(self, x: tf.Tensor, weights: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Returns the output as TensorFlow's own operations compute it, for autodiff."""
        x, scaling = self._wide(x, weights), (weights["gamma"], weights["beta"])
        if self.given is None:
            y, *_ = lean_norm.by_moments(x, *scaling, self.epsilon, self.group)
        else:
            y = lean_norm.normalised_by(x, *self.given, *scaling, self.epsilon)
        h = keras.activations.get(self.activation)(y)
        if self.excite is not None:
            gate = self.excite(_mean(h), *_excitation(weights).values())
            h *= tf.cast(gate, h.dtype)[:, tf.newaxis, tf.newaxis]
        return self.convolution.forward(h, weights["kernel"])

    def _forward(self, x, weights):
        """Returns the output, the statistics, and the mean and the gates if there are any."""
        x, gates = self._wide(x, weights), None
        if self.given is None:
            scaling = weights["gamma"], weights["beta"]
            statistics = lean_statistics.measured(x, *scaling, self.epsilon, self.pivot, self.group)
        else:
            statistics = lean_statistics.Statistics(*self.given, own=False)
        h = self._activated(x, weights, statistics)
        if self.excite is not None:
            mean = _mean(h)
            gates = mean, self.excite(mean, *_excitation(weights).values())
            if lean_gates.folds(self.convolution, h, weights["kernel"]):
                return lean_gates.forward(h, gates[1], weights["kernel"]), statistics, gates
            h = lean_passes.gated(h, gates[1])
        return self.convolution.forward(h, weights["kernel"]), statistics, gates

    def _backward(self, d, x, weights, statistics, gates):
        """Returns the gradients of x and of the weights, by name."""
        narrow, sums = x, None
        if self.first is not None:
            d, narrow = held_back(d, x)
        with tf.control_dependencies([d]):
            x = self._wide(narrow, weights)
        if gates is None:
            found, dy = self._of_convolution(d, x, weights, statistics)
        else:
            found, dy, sums = self._of_gated(d, x, weights, statistics, gates)
        dx, found["gamma"], found["beta"] = lean_statistics.gradients(
            dy, x, weights["gamma"], statistics, self.epsilon, sums
        )
        if gates is not None and self._makes_twice(d):
            [dx] = held_back(dx)  # as a whole, or u would be read wherever dx is
        if self.first is None:
            return {**found, "x": dx}
        found["first"] = self.first.to_kernel(narrow, dx, weights["first"])
        return {**found, "x": self.first.to_input(dx, weights["first"], narrow)}

    def _of_convolution(self, d, x, weights, statistics):
        scaling = statistics.scaling(weights["gamma"], weights["beta"], self.epsilon)
        with tf.control_dependencies([d]):
            h = self._activated(x, weights, statistics)
        found = {"kernel": self.convolution.to_kernel(h, d, weights["kernel"])}
        # One after the other: by then h has gone, and its place is free.
        with tf.control_dependencies([found["kernel"]]):
            dh = self.convolution.to_input(d, weights["kernel"], h)
            return found, lean_passes.slope(self.activation, x, *scaling, dh)

    def _of_gated(self, d, x, weights, statistics, gates):
        scaling = statistics.scaling(weights["gamma"], weights["beta"], self.epsilon)
        mean, gate = gates
        with tf.control_dependencies([d]):
            h = self._activated(x, weights, statistics)
        u, of_kernel, of_gate = self._of_gated_product(d, h, gate, weights["kernel"])
        later = ()
        if under_xla():
            z = statistics.normal(x, self.epsilon)
            of_gate, *later = lean_passes.gated_sums(self.activation, x, *scaling, u, z)
        found, of_mean = self._of_gates(mean, tf.cast(of_gate, gate.dtype), weights, x)
        found["kernel"] = of_kernel
        if self._makes_twice(d):
            of_mean, kernel = held_back(of_mean, weights["kernel"])
            u = self.convolution.to_input(d, kernel, h)
        dy = lean_passes.gated_slope(self.activation, x, *scaling, u, gate, of_mean)
        return found, dy, _sums(later, gate, of_mean)

    def _makes_twice(self, d):
        """Whether the gradient of a gated map is computed twice rather than written and read."""
        return under_xla() and self.convolution.is_pointwise and d.dtype.size >= 4

    def _of_gated_product(self, d, h, gate, kernel):
        """Returns the gradients of h * gate, of the kernel, and of the gates."""
        if lean_gates.folds(self.convolution, h, kernel):
            of_kernel, of_gate = lean_gates.gradients(h, d, gate, kernel)
            with tf.control_dependencies([of_kernel, of_gate]):  # by then h has gone
                return self.convolution.to_input(d, kernel, h), of_kernel, of_gate
        of_kernel = self.convolution.to_kernel(lean_passes.gated(h, gate), d, kernel)
        with tf.control_dependencies([of_kernel]):
            u = self.convolution.to_input(d, kernel, h)
        return u, of_kernel, lean_passes.gate_gradient(u, h)

    def _of_gates(self, mean, of_gate, weights, x):
        """Returns the gradients of the excitation's weights, by name, and of the mean's pixels."""
        excitation = _excitation(weights)
        inputs = [mean, *excitation.values()]
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            gate = self.excite(*inputs)
        of_mean, *others = tape.gradient(gate, inputs, of_gate)
        return dict(zip(excitation, others)), of_mean / _pixels(x, of_mean.dtype)

    def _wide(self, x, weights):
        if self.first is None:
            return x
        return self.first.forward(x, weights["first"])

    def _activated(self, x, weights, statistics):
        scaling = statistics.scaling(weights["gamma"], weights["beta"], self.epsilon)
        return lean_passes.activated(self.activation, x, *scaling)


def _excitation(weights):
    """The weights that `excite` takes."""
    others = ("gamma", "beta", "kernel", "first")
    return {name: value for name, value in weights.items() if name not in others}


def _sums(later, gate, of_mean):
    """Returns (sum dy z, sum dy), each (C,); None where there is nothing to make them of."""
    if not later:
        return None
    by_gate, by_mean, by_gate_z, by_mean_z = later
    gate, of_mean = (tf.cast(each, by_gate.dtype) for each in (gate, of_mean))
    of_gamma = tf.reduce_sum(gate * by_gate_z + of_mean * by_mean_z, 0)
    return of_gamma, tf.reduce_sum(gate * by_gate + of_mean * by_mean, 0)


def _mean(h):
    """The mean (N, C) of a map over its pixels, in float32 at least."""
    if h.dtype.size < 4:
        h = tf.cast(h, tf.float32)
    return tf.reduce_mean(h, (1, 2))


def _pixels(x, dtype):
    """How many pixels a map has."""
    shape = tf.shape(x)
    return tf.cast(shape[1] * shape[2], dtype)
