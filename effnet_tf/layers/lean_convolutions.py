"""How is a convolution of a training step computed, forward and backward, as a CPU likes it?

- 1x1 convolutions are products of matrices, both ways; not under XLA, which fuses convolutions with
  what comes before and after them.
- The gradient of a large depthwise kernel gets its padding explicitly. Where the padding is SAME,
  oneDNN's own kernel takes it, which for 5x5 is 2.4 times as slow as TensorFlow's.

What a layer of Keras' computes does not change but for rounding.
"""

import dataclasses

import keras
import tensorflow as tf

from effnet_tf.layers.lean_places import under_xla
from effnet_tf.layers.shapes import same_padding

_ONEDNN_IS_QUICK = 3  # side of the depthwise kernels whose gradient oneDNN computes quickly


@dataclasses.dataclass(frozen=True)
class LeanConvolution:
    """What a convolution does with a map (N, H, W, C) and a kernel.

    Attributes:
        depthwise: whether each channel has a kernel (k, k, C, 1) of its own; else one is
            (k, k, C, F).
        size: side of the kernel k, in pixels.
        strides: in pixels.
        padding: "SAME" or "VALID".
        dilation: spacing of the kernel's taps, in pixels.
    """

    depthwise: bool
    size: int
    strides: int = 1
    padding: str = "SAME"
    dilation: int = 1

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a linear function of each pixel."""
        return not self.depthwise and self.size == self.strides == 1

    @property
    def is_product(self) -> bool:
        """Whether it is computed as a product of matrices."""
        return self.is_pointwise and not under_xla()

    @property
    def has_gradients(self) -> bool:
        """Whether `to_input` and `to_kernel` are known."""
        return self.dilation == 1

    def __call__(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the output (N, H', W', F), in the best form that there is for it."""
        if not self.depthwise or self.size <= _ONEDNN_IS_QUICK or not self.has_gradients:
            return self.forward(x, kernel)

        @tf.custom_gradient
        def convolve(x, kernel):
            def gradient(d):
                return self.to_input(d, kernel, x), self.to_kernel(x, d, kernel)

            return self.forward(x, kernel), gradient

        return convolve(x, kernel)

    def forward(self, x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the output (N, H', W', F)."""
        if self.is_product:
            return _with_sides(tf.matmul(_pixels(x), kernel[0, 0]), x)
        dilation = (self.dilation,) * 2
        if self.depthwise:
            strides = (1, self.strides, self.strides, 1)
            return tf.nn.depthwise_conv2d(x, kernel, strides, self.padding, dilations=dilation)
        return tf.nn.conv2d(x, kernel, self.strides, self.padding, dilations=dilation)

    def to_input(self, d: tf.Tensor, kernel: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Returns the gradient of the input x, by that of the output."""
        if self.is_product:
            return _with_sides(tf.matmul(_pixels(d), kernel[0, 0], transpose_b=True), x)
        shared = dict(filter=kernel, out_backprop=d, strides=self._strides, padding=self.padding)
        sides = tf.shape(x)
        if self.depthwise:
            found = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(input_sizes=sides, **shared)
        else:
            found = tf.raw_ops.Conv2DBackpropInput(input_sizes=sides, **shared)
        return tf.ensure_shape(found, x.shape)

    def to_kernel(self, x: tf.Tensor, d: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns the gradient of the kernel, by that of the output."""
        if self.is_product:
            return tf.matmul(_pixels(x), _pixels(d), transpose_a=True)[tf.newaxis, tf.newaxis]
        shared = dict(input=x, filter_sizes=kernel.shape, out_backprop=d, strides=self._strides)
        if not self.depthwise:
            return tf.raw_ops.Conv2DBackpropFilter(padding=self.padding, **shared)
        return tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(**self._paddings(x), **shared)

    @property
    def _strides(self):
        return [1, self.strides, self.strides, 1]

    def _paddings(self, x):
        """The arguments that say how the gradient of a depthwise kernel pads the input."""
        sides = x.shape[1:3]
        if self.strides == 1:
            sides = [self.size if side is None else side for side in sides]  # it is always the same
        if self.padding != "SAME" or self.size <= _ONEDNN_IS_QUICK or None in sides:
            return dict(padding=self.padding)
        zeros = [each for side in sides for each in same_padding(side, self.size, self.strides)]
        return dict(padding="EXPLICIT", explicit_paddings=[0, 0, *zeros, 0, 0])


def convolution(layer: keras.layers.Layer) -> LeanConvolution | None:
    """Returns what a layer of Keras' computes, without its bias; None where it is another thing."""
    if type(layer) not in (keras.layers.Conv2D, keras.layers.DepthwiseConv2D):
        return None
    squares = (layer.kernel_size, layer.strides, layer.dilation_rate)
    if any(height != width for height, width in squares) or getattr(layer, "groups", 1) != 1:
        return None
    size, strides, dilation = (height for height, _ in squares)
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return LeanConvolution(depthwise, size, strides, layer.padding.upper(), dilation)


def _pixels(x):
    """A map (N, H, W, C) as a matrix (N H W, C)."""
    return tf.reshape(x, (-1, x.shape[-1]))


def _with_sides(rows, x):
    """A matrix (N H W, F) as a map (N, H, W, F), of the sides of x."""
    known = x.shape[:3]
    shape = tf.shape(x)
    sides = [shape[axis] if side is None else side for axis, side in enumerate(known)]
    return tf.ensure_shape(tf.reshape(rows, (*sides, rows.shape[-1])), (*known, rows.shape[-1]))
