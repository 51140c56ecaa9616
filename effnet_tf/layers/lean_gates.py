"""How does a product with a kernel take the gates of channels, where a map is large?

Squeeze-and-excite multiplies a map h by gates g (N, C), and a 1x1 convolution with a kernel
W (C, F) follows. For each image (h g) W = h (g W): the gates go into a kernel of its own, and the
map h g need not exist. With the gradient d of the output, P = h' d (C, F) of each image tells

    of W = sum over images of g P,   of g = sum over F of W P.

Kernel and P are N C F numbers, a map is N H W C: they are worth it where H W is larger than F.
"""

import tensorflow as tf

from effnet_tf.layers.lean_convolutions import LeanConvolution
from effnet_tf.layers.lean_places import under_xla


def folds(convolution: LeanConvolution, h: tf.Tensor, kernel: tf.Tensor) -> bool:
    """Whether a kernel (1, 1, C, F) takes the gates of a map (N, H, W, C)."""
    if not convolution.is_product or under_xla() or None in h.shape[1:3]:
        return False
    return h.dtype.size >= 4 and h.shape[1] * h.shape[2] > kernel.shape[-1]


def forward(h: tf.Tensor, gate: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns the 1x1 convolution (N, H, W, F) of h * gate.

    Args:
        h: (N, H, W, C).
        gate: (N, C).
        kernel: (1, 1, C, F).
    """
    _, height, width, _ = h.shape
    own = gate[:, :, tf.newaxis] * kernel[0]
    return tf.reshape(tf.matmul(_pixels(h), own), (-1, height, width, kernel.shape[-1]))


def gradients(
    h: tf.Tensor, d: tf.Tensor, gate: tf.Tensor, kernel: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients of the kernel (1, 1, C, F) and the gates (N, C).

    Args:
        h: (N, H, W, C).
        d: (N, H, W, F), the gradient of the output of `forward`.
        gate: (N, C).
        kernel: (1, 1, C, F).
    """
    product = tf.matmul(_pixels(h), _pixels(d), transpose_a=True)
    of_kernel = tf.reduce_sum(product * gate[:, :, tf.newaxis], 0)
    return of_kernel[tf.newaxis, tf.newaxis], tf.reduce_sum(product * kernel[0], 2)


def _pixels(x):
    """A map (N, H, W, C) as a matrix (H W, C) for each image."""
    _, height, width, channels = x.shape
    return tf.reshape(x, (-1, height * width, channels))
