"""What do AutoAugment and RandAugment do to one image?

The published augmentation, with every quirk of the code that trained the published
weights. Some operations are not what their names say: the comments tell where.

Source (autoaugment.py below): tensorflow/tpu models/official/efficientnet. Papers:
arxiv.org/abs/1805.09501 (AutoAugment) and arxiv.org/abs/1909.13719 (RandAugment).
"""

import functools
import math

import tensorflow as tf

from effnet_tf.config import InputError

# RandAugment's magnitude is 28 in the recipes of B7 and B8; autoaugment.py advises 5 to 30.
MAX_MAGNITUDE = 30
# autoaugment.py: the grey where geometric operations and Cutout leave no image.
FILL = 128


def autoaugment(image, seed):
    """Distorts an image by one of the 25 sub-policies of AutoAugment's policy v0.

    Args:
        image: (H, W, 3) uint8; H and W, at least 3, may be unknown while tracing.
        seed: (2,) int32 or int64, which draw differently; the same seed draws the same.

    Returns:
        (H, W, 3) uint8.
    """
    choice_seed, seed = _split(seed, 2)
    return _apply(image, *draw_autoaugment(choice_seed), seed)


def randaugment(image, seed, layers=2, magnitude=10.0):
    """Distorts an image by `layers` operations drawn out of all 16, one after the other.

    Args:
        image: (H, W, 3) uint8; H and W, at least 3, may be unknown while tracing.
        seed: (2,) int32 or int64, which draw differently; the same seed draws the same.
        layers: how many operations, at least 1; one may be drawn twice.
        magnitude: level of every operation, in [0, 30]; a higher one may be weaker.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: a value outside its legal range.
    """
    choice_seed, seed = _split(seed, 2)
    return _apply(image, *draw_randaugment(choice_seed, layers, magnitude), seed)


def draw_autoaugment(seed):
    """Draws a sub-policy: (operations (2,) int32, arguments (2,) float32).

    Operations are positions in OPERATIONS, or NOTHING for a step that is skipped.
    """
    row_seed, skip_seed, sign_seed = _split(seed, 3)
    row = tf.random.stateless_uniform((), row_seed, 0, len(POLICY_V0), tf.int32)
    numbers = {name: number for number, name in enumerate(OPERATIONS)}
    table = tf.constant([[(numbers[name], probability, argument_of(name, level, AUTOAUGMENT))
                          for name, probability, level in steps] for steps in POLICY_V0])
    operations, probabilities, arguments = tf.unstack(table[row], axis=-1)
    operations = tf.cast(operations, tf.int32)
    arguments = _with_random_signs(operations, arguments, sign_seed)
    # Uniform in [0, 1): a probability of 0 never applies, 1 always does.
    skipped = tf.random.stateless_uniform((2,), skip_seed) >= probabilities
    return tf.where(skipped, NOTHING, operations), arguments


def draw_randaugment(seed, layers, magnitude):
    """Draws a distortion: (operations (layers,) int32, arguments (layers,) float32).

    All are equally probable and always applied: the original's probability is unused.
    """
    if layers < 1:
        raise InputError(f"layers is {layers}; it must be at least 1.")
    if not 0 <= magnitude <= MAX_MAGNITUDE:
        raise InputError(f"magnitude is {magnitude}; it must be in [0, {MAX_MAGNITUDE}].")
    operation_seed, sign_seed = _split(seed, 2)
    operations = tf.random.stateless_uniform((layers,), operation_seed, 0, NOTHING, tf.int32)
    arguments = tf.constant([argument_of(name, magnitude, RANDAUGMENT) for name in OPERATIONS])
    return operations, _with_random_signs(operations, tf.gather(arguments, operations), sign_seed)


def argument_of(name, level, at_ten):
    """Returns the float that an operation takes at a level; `at_ten` goes before the table."""
    _, default, kind = OPERATIONS[name]
    argument = level / 10 * at_ten.get(name, default)
    if kind == "factor":
        return argument + 0.1  # level 5 gives 1: the image as it is
    return float(int(argument)) if kind == "whole" else argument


def _with_random_signs(operations, arguments, seed):
    """Turns geometric operations the other way in half of the draws."""
    signed = tf.gather([kind == "signed" for *_, kind in OPERATIONS.values()], operations)
    negative = tf.random.stateless_uniform(arguments.shape, seed) < 0.5
    return tf.where(signed & negative, -arguments, arguments)


def _split(seed, count):
    """Independent seeds: two draws from the same one would be correlated."""
    return tf.unstack(tf.random.experimental.stateless_split(seed, count))


def _apply(image, operations, arguments, seed):
    """Applies drawn operations to an image, one after the other."""
    seeds = _split(seed, operations.shape[0])
    for operation, argument, own in zip(tf.unstack(operations), tf.unstack(arguments), seeds):
        branches = {name: functools.partial(function, image, argument)
                    for name, (function, *_) in OPERATIONS.items()}
        # The only operation that draws: where the hole is.
        branches["Cutout"] = functools.partial(branches["Cutout"], own)
        # One switch: a chain of tf.cond, as in the original, takes longer.
        result = tf.switch_case(operation, list(branches.values()),
                                default=functools.partial(tf.identity, image))
        image = tf.ensure_shape(result, image.shape)
    return image


# The operations: of a (H, W, 3) uint8 image and a () float32 argument, to such an image.
# Their forms are those that were measured to be fast in tf.data.

def autocontrast(image, _=None):
    """Stretches every channel to the full range; a channel of one value stays."""
    # One flattened reduction: one per channel takes ten times as long.
    pixels = tf.reshape(image, (-1, 3))
    low, high = _float(tf.reduce_min(pixels, 0)), _float(tf.reduce_max(pixels, 0))
    constant = low == high
    low, high = tf.where(constant, 0.0, low), tf.where(constant, 255.0, high)
    scale = 255.0 / (high - low)
    # Whole rows: three numbers broadcast over pixels take twice as long.
    width = tf.shape(image)[1]
    rows = _float(tf.reshape(image, (-1, 3 * width)))
    stretched = rows * tf.tile(scale, [width]) + tf.tile(-low * scale, [width])
    return tf.reshape(tf.saturate_cast(stretched, tf.uint8), tf.shape(image))


def equalize(image, _=None):
    """Flattens the histogram of every channel, as PIL does."""
    planes = tf.unstack(tf.cast(tf.transpose(image, (2, 0, 1)), tf.int32))
    equal = [tf.gather(_equalizing_table(plane), plane) for plane in planes]
    return tf.transpose(tf.stack(equal), (1, 2, 0))


def _equalizing_table(plane):
    """What each grey level becomes: (H, W) int32 -> (256,) uint8."""
    histogram = tf.histogram_fixed_width(plane, (0, 255), 256)
    # PIL does not count the brightest level that occurs.
    step = (tf.size(plane) - histogram[tf.reduce_max(plane)]) // 255
    # A level becomes the number of darker pixels, in steps, rounded.
    divisor = tf.maximum(step, 1)
    table = (tf.cumsum(histogram, exclusive=True) + divisor // 2) // divisor
    # No step, in a small or nearly plain image: nothing changes.
    table = tf.where(step > 0, tf.minimum(table, 255), tf.range(256))
    return tf.cast(table, tf.uint8)


def rotate(image, degrees):
    """Rotates about the centre."""
    radians = degrees * (math.pi / 180)
    cos, sin = tf.cos(radians), tf.sin(radians)
    bottom, right = tf.unstack(_float(tf.shape(image)[:2] - 1))
    return _warp(image, (cos, -sin, (right - (cos * right - sin * bottom)) / 2,
                         sin, cos, (bottom - (sin * right + cos * bottom)) / 2))


def posterize(image, bits):
    """Keeps the upper bits: the higher the level, the weaker.

    0 bits (below level 2.5) keep one: shifts end at 7. Above 8 bits (from level 22.5) keep
    one, too: 8 - bits is negative and wraps around in uint8.
    """
    shift = tf.minimum(_wrapped(8 - bits), 7)
    return image & tf.bitwise.left_shift(tf.constant(255, tf.uint8), shift)


def solarize(image, threshold):
    """Inverts the pixels from the threshold on.

    The threshold wraps around in uint8: level 10 gives 256, which wraps to 0, and inverts
    all; 17 and 28 give 435 and 716, which wrap to 179 and 204.
    """
    bright = tf.cast(image >= _wrapped(threshold), tf.uint8)
    # 255 - x is x ^ 255; tf.where takes three times as long.
    return image ^ (255 * bright)


def solarize_add(image, addition):
    """Brightens the pixels below 128."""
    dark = tf.cast(image < 128, tf.uint8)
    # Clipped before it overflows; with int64 and tf.where this takes six times as long.
    return image + dark * tf.minimum(255 - image, tf.saturate_cast(addition, tf.uint8))


def color(image, factor):
    """Blends with the image in grey."""
    grey = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
    return _blend(_float(grey), image, factor)


def contrast(image, factor):
    """Blends with a plain grey that depends on the size of the image alone.

    Where PIL takes the mean, the original divides the sum of the histogram, the number of
    pixels, by 256: 196 for 224 x 224, and 255, the most, from 256 x 256 on.
    """
    grey = tf.minimum(tf.reduce_prod(tf.shape(image)[:2]) // 256, 255)
    return _blend(_float(grey), image, factor)


def sharpness(image, factor):
    """Blends with the image smoothed over 3 x 3 pixels, all but its border."""
    pixels = _float(image)
    height, width = tf.unstack(tf.shape(image)[:2] - 2)
    around, middle = pixels * (1 / 13), pixels * (5 / 13)
    # A depthwise convolution takes five times as long. The sum must round as its sum does:
    # a whole number may come out just below itself, and is then rounded down.
    shifted = [(middle if y == x == 1 else around)[y:y + height, x:x + width]
               for y in range(3) for x in range(3)]
    change = tf.floor(functools.reduce(tf.add, shifted)) - pixels[1:-1, 1:-1]
    return _blend(pixels + tf.pad(change, ((1, 1), (1, 1), (0, 0))), image, factor)


def cutout(image, half, seed):
    """Cuts a square of side 2 * half around a random pixel."""
    inside = []
    for side, side_seed in zip(tf.unstack(tf.shape(image)[:2]), _split(seed, 2)):
        centre = tf.random.stateless_uniform((), side_seed, 0, side, tf.int32)
        offset = _float(tf.range(side) - centre)
        inside.append((offset >= -half) & (offset < half))
    # Whole rows and arithmetic: tf.where over pixels takes twice as long.
    rows = tf.cast(inside[0][:, tf.newaxis] & tf.repeat(inside[1], 3), tf.uint8)
    hole = tf.reshape(rows, tf.shape(image))
    return image * (1 - hole) + FILL * hole


def _float(tensor):
    return tf.cast(tensor, tf.float32)


def _wrapped(number):
    """A number modulo 256, as uint8."""
    return tf.cast(tf.cast(number, tf.int32) & 255, tf.uint8)


def _blend(other, image, factor):
    """Factor 0 gives `other`, 1 the image; above, their difference grows. Rounds down."""
    return tf.saturate_cast(other + factor * (_float(image) - other), tf.uint8)


def _warp(image, transform):
    """Takes pixel (x, y) from the one nearest to (a x + b y + c, d x + e y + f), or FILL."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis], transforms=[[*transform, 0.0, 0.0]],
        output_shape=tf.shape(image)[:2], interpolation="NEAREST", fill_mode="CONSTANT",
        fill_value=FILL)[0]


def _translate(image, y, x):
    """Takes every pixel from y below and x to the right. By _warp this takes longer."""
    shape = tf.shape(image)
    # Half up, as nearest neighbours are rounded.
    move = tf.cast(tf.floor(tf.stack((y, x, 0.0)) + 0.5), tf.int32)
    move = tf.clip_by_value(move, -shape, shape)
    kept = tf.slice(image, tf.maximum(move, 0), shape - tf.abs(move))
    margins = tf.stack((tf.maximum(-move, 0), tf.maximum(move, 0)), 1)
    return tf.pad(kept, margins, constant_values=FILL)


# autoaugment.py, level_to_arg. Rows: name -> (function, its argument at level 10, kind).
# A "factor" is 0.1 at level 0, a "whole" argument is rounded down, and the sign of a
# "signed" one is drawn.
OPERATIONS = {
    "AutoContrast": (autocontrast, 0, "none"),
    "Equalize": (equalize, 0, "none"),
    "Invert": (lambda image, _: 255 - image, 0, "none"),
    "Rotate": (rotate, 30, "signed"),
    "Posterize": (posterize, 4, "whole"),
    "Solarize": (solarize, 256, "whole"),
    "SolarizeAdd": (solarize_add, 110, "whole"),
    "Color": (color, 1.8, "factor"),
    "Contrast": (contrast, 1.8, "factor"),
    "Brightness": (lambda image, factor: _blend(0.0, image, factor), 1.8, "factor"),
    "Sharpness": (sharpness, 1.8, "factor"),
    "ShearX": (lambda image, level: _warp(image, (1, level, 0, 0, 1, 0)), 0.3, "signed"),
    "ShearY": (lambda image, level: _warp(image, (1, 0, 0, level, 1, 0)), 0.3, "signed"),
    "TranslateX": (lambda image, pixels: _translate(image, 0.0, pixels), 100, "signed"),
    "TranslateY": (lambda image, pixels: _translate(image, pixels, 0.0), 100, "signed"),
    "Cutout": (cutout, 40, "whole"),
}
NOTHING = len(OPERATIONS)

# The hparams: the table has RandAugment's. Pixels do not follow the size of the image, so
# that policy v0's 225, at level 9, leave nothing of one of 224.
RANDAUGMENT = {}
AUTOAUGMENT = {"TranslateX": 250, "TranslateY": 250, "Cutout": 100}

# autoaugment.py, policy_v0: steps of (operation, probability, level).
POLICY_V0 = (
    (("Equalize", 0.8, 1), ("ShearY", 0.8, 4)),
    (("Color", 0.4, 9), ("Equalize", 0.6, 3)),
    (("Color", 0.4, 1), ("Rotate", 0.6, 8)),
    (("Solarize", 0.8, 3), ("Equalize", 0.4, 7)),
    (("Solarize", 0.4, 2), ("Solarize", 0.6, 2)),
    (("Color", 0.2, 0), ("Equalize", 0.8, 8)),
    (("Equalize", 0.4, 8), ("SolarizeAdd", 0.8, 3)),
    (("ShearX", 0.2, 9), ("Rotate", 0.6, 8)),
    (("Color", 0.6, 1), ("Equalize", 1.0, 2)),
    (("Invert", 0.4, 9), ("Rotate", 0.6, 0)),
    (("Equalize", 1.0, 9), ("ShearY", 0.6, 3)),
    (("Color", 0.4, 7), ("Equalize", 0.6, 0)),
    (("Posterize", 0.4, 6), ("AutoContrast", 0.4, 7)),
    (("Solarize", 0.6, 8), ("Color", 0.6, 9)),
    (("Solarize", 0.2, 4), ("Rotate", 0.8, 9)),
    (("Rotate", 1.0, 7), ("TranslateY", 0.8, 9)),
    (("ShearX", 0.0, 0), ("Solarize", 0.8, 4)),
    (("ShearY", 0.8, 0), ("Color", 0.6, 4)),
    (("Color", 1.0, 0), ("Rotate", 0.6, 2)),
    (("Equalize", 0.8, 4), ("Equalize", 0.0, 8)),
    (("Equalize", 1.0, 4), ("AutoContrast", 0.6, 2)),
    (("ShearY", 0.4, 7), ("SolarizeAdd", 0.6, 7)),
    (("Posterize", 0.8, 2), ("Solarize", 0.6, 10)),
    (("Solarize", 0.6, 8), ("Equalize", 0.6, 1)),
    (("Color", 0.8, 6), ("Rotate", 0.4, 5)),
)
