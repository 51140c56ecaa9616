"""How does the gradient of a gated projection need two wide maps at a time, instead of three?

That of a `Unit` goes from the narrow d of its output over u, of the gated map, and dy, of the
normalised one, to that of the wide input x. The last step waits for the sums of dy and dy z over
all of the batch, and so x, dy and the result exist at once. But once the gradient of the gates is
known, all else treats images by themselves, and by `lean_statistics.share_of_statistics` the result
is the gradient by given statistics less x slope + shift, where slope and shift are made of the
sums. So dy comes some images at a time, each piece is replaced by the gradient by given statistics,
and that by the result.
"""

import tensorflow as tf

from effnet_tf.layers import lean_gates, lean_passes, lean_statistics
from effnet_tf.layers.lean_pieces import joined, pieces
from effnet_tf.layers.lean_units import Unit


class Projection(Unit):
    """A `Unit` with gates and the map's own statistics, whose convolution is a product."""

    def _backward(self, d, x, weights, statistics, gates):
        if not lean_gates.folds(self.convolution, x, weights["kernel"]):
            return super()._backward(d, x, weights, statistics, gates)
        mean, gate = gates
        with tf.control_dependencies([d]):
            h = self._activated(x, weights, statistics)
        of_kernel, of_gate = lean_gates.gradients(h, d, gate, weights["kernel"])
        found, of_mean = self._of_gates(mean, of_gate, weights, x)
        with tf.control_dependencies([of_kernel, of_mean]):  # by then h has gone
            d = tf.identity(d)
        found |= self._of_map(d, x, weights, statistics, (gate, of_mean))
        return {**found, "kernel": of_kernel}

    def _of_map(self, d, x, weights, statistics, gating):
        """Returns the gradients of x, gamma and beta, by name."""
        gamma, images, found = weights["gamma"], pieces(x, x.shape[-1]), []
        given, before = statistics._replace(kept=(), own=False), [d]
        for first, last in images:
            with tf.control_dependencies(before):  # one after the other
                piece = x[first:last]
                part = [each[first:last] for each in (d, *gating)]
            dy = self._of_piece(piece, *part, weights, statistics)
            found.append(lean_statistics.gradients(dy, piece, gamma, given, self.epsilon))
            before = found[-1]
        parts, *sums = zip(*found)
        sums = [tf.add_n(each) for each in sums]
        line = lean_statistics.share_of_statistics(x, gamma, statistics, self.epsilon, sums)
        of_x = [
            lean_passes.less(part, x[first:last], *line)
            for part, (first, last) in zip(parts, images)
        ]
        return {"x": joined(of_x), "gamma": sums[0], "beta": sums[1]}

    def _of_piece(self, x, d, gate, of_mean, weights, statistics):
        """Returns the gradient of the normalised map, for some images."""
        scaling = statistics.scaling(weights["gamma"], weights["beta"], self.epsilon)
        u = self.convolution.to_input(d, weights["kernel"], x)
        return lean_passes.gated_slope(self.activation, x, *scaling, u, gate, of_mean)
