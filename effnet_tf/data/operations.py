"""What does each operation of AutoAugment and RandAugment do to an image?

The published ones, with every quirk of the code that trained the published weights. Some are
not what their names say: the comments tell where. The style "clean" mends them.

Source (autoaugment.py below): tensorflow/tpu models/official/efficientnet.
"""

import functools
import math

import tensorflow as tf

from effnet_tf.data.compiling import compiled

# autoaugment.py: the grey where geometric operations and Cutout leave no image.
FILL = 128

# Of a (H, W, 3) uint8 image and a () float32 argument, to such an image; fast in tf.data.


@compiled
def autocontrast(image: tf.Tensor, level: float = 0.0) -> tf.Tensor:
    """Stretches every channel to the full range; a channel of one value stays."""
    rows, width = _rows(image), tf.shape(image)[1]
    low, high = (
        _float(reduce(tf.reshape(reduce(rows, 0), (-1, 3)), 0))
        for reduce in (tf.reduce_min, tf.reduce_max)
    )
    constant = low == high
    low, high = tf.where(constant, 0.0, low), tf.where(constant, 255.0, high)
    scale = 255.0 / (high - low)
    stretched = _product(_float(rows), tf.tile(scale, [width])) + tf.tile(-low * scale, [width])
    return tf.reshape(tf.saturate_cast(stretched, tf.uint8), tf.shape(image))


def equalize(image: tf.Tensor, level: float = 0.0) -> tf.Tensor:
    """Flattens the histogram of every channel, as PIL does."""
    # A level and its channel in one number: one histogram and one table for all.
    levels = tf.tile(256 * tf.range(3), [tf.shape(image)[1]]) + tf.cast(_rows(image), tf.int32)
    histogram = tf.reshape(tf.histogram_fixed_width(levels, (0, 767), 768), (3, 256))
    # PIL does not count the brightest level that occurs.
    present = tf.where(histogram > 0, tf.range(256), -1)
    counted = present < tf.reduce_max(present, 1, keepdims=True)
    step = tf.reduce_sum(tf.where(counted, histogram, 0), 1, keepdims=True) // 255
    # A level becomes the number of darker pixels, in steps, rounded.
    divisor, darker = tf.maximum(step, 1), tf.cumsum(histogram, axis=1, exclusive=True)
    table = tf.minimum((darker + divisor // 2) // divisor, 255)
    # No step, in a small or nearly plain image: nothing changes.
    table = tf.cast(tf.where(step > 0, table, tf.range(256)), tf.uint8)
    levels = tf.reshape(levels, tf.shape(image))[..., tf.newaxis]
    return tf.gather_nd(tf.reshape(table, (-1,)), levels)


def rotate(image: tf.Tensor, degrees: tf.Tensor) -> tf.Tensor:
    """Rotates about the centre."""
    radians = degrees * (math.pi / 180)
    cos, sin = tf.cos(radians), tf.sin(radians)
    bottom, right = tf.unstack(_float(tf.shape(image)[:2] - 1))
    return _warp(
        image,
        (
            cos,
            -sin,
            (right - (cos * right - sin * bottom)) / 2,
            sin,
            cos,
            (bottom - (sin * right + cos * bottom)) / 2,
        ),
    )


def posterize(image: tf.Tensor, bits: tf.Tensor) -> tf.Tensor:
    """Keeps the upper bits: the higher the level, the weaker.

    0 bits (below level 2.5) keep one: shifts end at 7. Above 8 bits (from level 22.5) keep
    one, too: 8 - bits is negative and wraps around in uint8.
    """
    shift = tf.minimum(_wrapped(8 - bits), 7)
    return image & tf.bitwise.left_shift(tf.constant(255, tf.uint8), shift)


def solarize(image: tf.Tensor, threshold: tf.Tensor) -> tf.Tensor:
    """Inverts the pixels from the threshold on.

    The threshold wraps around in uint8: level 10 gives 256, which wraps to 0, and inverts
    all; 17 and 28 give 435 and 716, which wrap to 179 and 204.
    """
    # 255 - x is x ^ 255; tf.where takes three times as long.
    return image ^ (255 * tf.cast(image >= _wrapped(threshold), tf.uint8))


@compiled
def solarize_add(image: tf.Tensor, addition: tf.Tensor) -> tf.Tensor:
    """Brightens the pixels below 128."""
    dark = tf.cast(image < 128, tf.uint8)
    # Clipped before it overflows; with int64 and tf.where this takes six times as long.
    return image + dark * tf.minimum(255 - image, tf.saturate_cast(addition, tf.uint8))


@compiled
def color(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with the image in grey, which rounds as tf.image.rgb_to_grayscale."""
    planes = tf.transpose(tf.reshape(image, (-1, 3)))
    red, green, blue = tf.unstack(_product(_float(planes), 1 / 255))
    grey = _product(red, 0.2989) + _product(green, 0.587) + _product(blue, 0.114)
    grey = _float(tf.cast(grey * 255.5, tf.uint8))
    return tf.reshape(tf.transpose(_blend(grey, planes, factor)), tf.shape(image))


def contrast(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with a plain grey that depends on the size of the image alone.

    Where PIL takes the mean, the original divides the sum of the histogram, the number of
    pixels, by 256: 196 for 224 x 224, and 255, the most, from 256 x 256 on.
    """
    grey = tf.minimum(tf.reduce_prod(tf.shape(image)[:2]) // 256, 255)
    return _blend(_float(grey), image, factor)


@compiled
def sharpness(image: tf.Tensor, factor: tf.Tensor) -> tf.Tensor:
    """Blends with the image smoothed over 3 x 3 pixels, all but its border, as PIL does."""
    rows = _rows(image)
    around, middle = (_product(_float(rows), -weight / 13) for weight in (1, 5))
    columns = [tf.roll(around, 3 * x, 1) for x in (1, 0, -1)]  # what comes round is border
    # Rounds as a depthwise convolution, which takes five times as long: a whole number may
    # come out just below itself. TensorFlow reorders sums, but not differences of negatives.
    smooth = functools.reduce(
        tf.subtract,
        [
            (middle if y == x == 1 else columns[x])[y : y - 2 or None]
            for y in range(3)
            for x in range(3)
        ],
        0.0,
    )
    inner = _blend(tf.floor(smooth), rows[1:-1], factor)[:, 3:-3]
    inner = tf.concat([rows[1:-1, :3], inner, rows[1:-1, -3:]], 1)
    return tf.reshape(tf.concat([rows[:1], inner, rows[-1:]], 0), tf.shape(image))


def cutout(image: tf.Tensor, half: tf.Tensor, top: tf.Tensor, left: tf.Tensor) -> tf.Tensor:
    """Cuts a square of side 2 * half around the pixel at (top, left), both in [0, 1)."""
    inside = []
    for side, share in zip(tf.unstack(tf.shape(image)[:2]), (top, left)):
        offset = _float(tf.range(side) - tf.cast(share * _float(side), tf.int32))
        inside.append((offset >= -half) & (offset < half))
    # Whole rows and arithmetic: tf.where over pixels takes twice as long.
    rows = tf.cast(inside[0][:, tf.newaxis] & tf.repeat(inside[1], 3), tf.uint8)
    hole = tf.reshape(rows, tf.shape(image))
    return image * (1 - hole) + FILL * hole


_float = functools.partial(tf.cast, dtype=tf.float32)


def _rows(image):
    """(H, W, 3) -> (H, 3 W): loops of three numbers are slow."""
    return tf.reshape(image, (-1, 3 * tf.shape(image)[1]))


def _product(left, right):
    """The product, rounded: XLA would fuse it with a sum, and round once."""
    return tf.minimum(left * right, 1e9)  # changes nothing, but keeps product and sum apart


def _wrapped(number):
    """A number modulo 256, as uint8."""
    return tf.cast(tf.cast(number, tf.int32) & 255, tf.uint8)


def _blend(other, image, factor):
    """Factor 0 gives `other`, 1 the image; above, their difference grows. Rounds down."""
    return tf.saturate_cast(other + _product(factor, _float(image) - other), tf.uint8)


def _warp(image, transform):
    """Takes pixel (x, y) from the one nearest to (a x + b y + c, d x + e y + f), or FILL."""
    height, width = tf.unstack(tf.shape(image)[:2])
    x, y = tf.range(_float(width)), tf.range(_float(height))[:, tf.newaxis]
    a, b, c, d, e, f = transform
    # TensorFlow would reorder the sums: _product(1.0, ...) prevents it.
    column, in_width = _nearest(_product(1.0, a * x + b * y) + c, width)
    row, in_height = _nearest(_product(1.0, d * x + e * y) + f, height)
    place = tf.where(in_width & in_height, row * width + column, height * width)
    # After the last pixel comes FILL. ImageProjectiveTransformV3 and tf.gather take longer.
    pixels = tf.pad(tf.reshape(image, (-1, 3)), ((0, 1), (0, 0)), constant_values=FILL)
    return tf.gather_nd(pixels, place[..., tf.newaxis])


def _nearest(place, side):
    """Rounds places half away from zero: (pixels, whether they are in the image)."""
    below = tf.floor(place)
    nearest = tf.cast(below, tf.int32) + tf.cast(place - below >= 0.5, tf.int32)
    return nearest, (place > -0.5) & (place < _float(side) - 0.5)


def _translate(image, pixels, axis):
    """Takes every pixel from `pixels` further along an axis. By _warp this takes longer."""
    rows = _rows(image)
    shape, along = tf.shape(rows), tf.one_hot(axis, 2, dtype=tf.int32)
    side, unit = shape[axis], 1 + 2 * axis
    # Half up, as nearest neighbours.
    move = tf.clip_by_value(unit * tf.cast(tf.floor(pixels + 0.5), tf.int32), -side, side)
    wide = tf.pad(rows, tf.stack((along * side, along * side), 1), constant_values=FILL)
    return tf.reshape(tf.slice(wide, along * (side + move), shape), tf.shape(image))


_brightness = functools.partial(_blend, 0.0)

# autoaugment.py, level_to_arg. Rows: name -> (function, its argument at level 10, kind).
# A "factor" is 0.1 at level 0, a "whole" argument is rounded down, and the sign of a
# "signed" one is drawn.
OPERATIONS = {
    "AutoContrast": (autocontrast, 0, "none"),
    "Equalize": (equalize, 0, "none"),
    "Invert": (lambda image, level: 255 - image, 0, "none"),
    "Rotate": (rotate, 30, "signed"),
    "Posterize": (posterize, 4, "whole"),
    "Solarize": (solarize, 256, "whole"),
    "SolarizeAdd": (solarize_add, 110, "whole"),
    "Color": (color, 1.8, "factor"),
    "Contrast": (contrast, 1.8, "factor"),
    "Brightness": (_brightness, 1.8, "factor"),
    "Sharpness": (sharpness, 1.8, "factor"),
    "ShearX": (lambda image, level: _warp(image, (1.0, level, 0.0, 0.0, 1.0, 0.0)), 0.3, "signed"),
    "ShearY": (lambda image, level: _warp(image, (1.0, 0.0, 0.0, level, 1.0, 0.0)), 0.3, "signed"),
    "TranslateX": (functools.partial(_translate, axis=1), 100, "signed"),
    "TranslateY": (functools.partial(_translate, axis=0), 100, "signed"),
    "Cutout": (cutout, 40, "whole"),
}
NOTHING = len(OPERATIONS)


# What "clean" does instead: level 0 changes nothing, levels past the end as much as can be.


def _inverting(image, inverted):
    """Inverts that many of the 256 levels, the brightest."""
    return image ^ (255 * tf.cast(_float(image) >= 256 - inverted, tf.uint8))


@compiled
def _contrast_of_mean(image, factor):
    """Blends with the mean of the image in grey, both rounded as PIL does."""
    red, green, blue = tf.unstack(tf.cast(image, tf.int32), axis=-1)
    grey = (19595 * red + 38470 * green + 7471 * blue + 0x8000) // 0x10000
    mean = (tf.reduce_sum(grey) + tf.size(grey) // 2) // tf.size(grey)
    return _blend(_float(mean), image, factor)


def _by_change(function):
    """Of an operation that takes a factor: at level 10, 1.9 or 0.1, and never below 0."""
    return lambda image, change: function(image, tf.maximum(1 + change, 0))


def _by_share(axis):
    return lambda image, share: _translate(image, share * _float(tf.shape(image)[axis]), axis)


def _cutout_of_share(image, share, *place):
    return cutout(image, tf.floor(share * _float(tf.reduce_min(tf.shape(image)[:2]))), *place)


# Pixels become shares of 224, the side for which autoaugment.py chose them.
CLEAN = OPERATIONS | {
    # Keeps 8 bits at level 0, 4 at 10, and 1, the least, from 17.5 on.
    "Posterize": (lambda image, bits: posterize(image, tf.maximum(8 - bits, 1)), 4, "whole"),
    "Solarize": (_inverting, 256, "whole"),
    "Color": (_by_change(color), 0.9, "signed"),
    "Contrast": (_by_change(_contrast_of_mean), 0.9, "signed"),
    "Brightness": (_by_change(_brightness), 0.9, "signed"),
    "Sharpness": (_by_change(sharpness), 0.9, "signed"),
    "TranslateX": (_by_share(1), 100 / 224, "signed"),
    "TranslateY": (_by_share(0), 100 / 224, "signed"),
    "Cutout": (_cutout_of_share, 40 / 224, "share"),
}
STYLES = {"original": OPERATIONS, "clean": CLEAN}
