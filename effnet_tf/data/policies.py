"""Which operations do AutoAugment and RandAugment draw for an image, and how strong?

Source (autoaugment.py below): tensorflow/tpu models/official/efficientnet. Papers:
arxiv.org/abs/1805.09501 (AutoAugment) and arxiv.org/abs/1909.13719 (RandAugment).
"""

import tensorflow as tf

from effnet_tf.data.operations import NOTHING, OPERATIONS, STYLES
from effnet_tf.errors import InputError

# RandAugment's magnitude is 28 in the recipes of B7 and B8; autoaugment.py advises 5 to 30.
MAX_MAGNITUDE = 30

# The hparams: the table has RandAugment's. Pixels do not follow the size of the image, so
# that policy v0's 225, at level 9, leave nothing of one of 224.
RANDAUGMENT: dict[str, float] = {}
AUTOAUGMENT = {"TranslateX": 250, "TranslateY": 250, "Cutout": 100}
# The paper's 150 of 331 pixels; policy v0 has no Cutout.
CLEAN_AUTOAUGMENT = {"TranslateX": 150 / 331, "TranslateY": 150 / 331}

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


def autoaugment(image: tf.Tensor, seed: tf.Tensor, style: str = "original") -> tf.Tensor:
    """Distorts an image by one of the 25 sub-policies of AutoAugment's policy v0.

    Args:
        image: (H, W, 3) uint8, as the result; H and W, at least 3, may be unknown in graphs.
        seed: (2,) int32 or int64, which draw differently; the same seed draws the same.
        style: "original", or "clean": strength grows with the level, without quirks.
    """
    return _apply(image, *draw_autoaugment(seed, style), seed, style)


def randaugment(
    image: tf.Tensor,
    seed: tf.Tensor,
    layers: int = 2,
    magnitude: float = 10.0,
    style: str = "original",
) -> tf.Tensor:
    """Distorts an image by `layers` operations drawn out of all 16, one after the other.

    Args:
        image, seed, style: as for `autoaugment`.
        layers: how many operations, at least 1; one may be drawn twice.
        magnitude: level of every operation, in [0, 30]; a higher original may be weaker.

    Raises:
        InputError: a value outside its legal range, or an unknown style.
    """
    return _apply(image, *draw_randaugment(seed, layers, magnitude, style), seed, style)


def draw_autoaugment(seed: tf.Tensor, style: str = "original") -> tuple[tf.Tensor, tf.Tensor]:
    """Draws a sub-policy: (operations (2,) int32, arguments (2,) float32).

    Operations are positions in OPERATIONS, or NOTHING for a step that is skipped.
    """
    table = _operations(style)
    at_ten = {"original": AUTOAUGMENT, "clean": CLEAN_AUTOAUGMENT}[style]
    rows = tf.constant([_rows(steps, at_ten, table) for steps in POLICY_V0])
    choice, sign, skip, *_ = _uniform(seed, 2)
    operations, probabilities, arguments = tf.unstack(
        rows[tf.cast(choice[0] * len(POLICY_V0), tf.int32)], axis=-1
    )
    operations = tf.cast(operations, tf.int32)
    # Uniform in [0, 1): a probability of 0 never applies, 1 always does.
    return (
        tf.where(skip >= probabilities, NOTHING, operations),
        _with_signs(table, operations, arguments, sign),
    )


def _rows(steps, at_ten, table):
    """The steps of a sub-policy as numbers: (operation, probability, argument) each."""
    names = list(table)
    return [
        (names.index(name), probability, argument_of(name, level, at_ten, table))
        for name, probability, level in steps
    ]


def draw_randaugment(
    seed: tf.Tensor, layers: int, magnitude: float, style: str = "original"
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draws a distortion: (operations (layers,) int32, arguments (layers,) float32).

    All are equally probable and always applied: the original's probability is unused.
    """
    if layers < 1:
        raise InputError(f"layers is {layers}; it must be at least 1.")
    if not 0 <= magnitude <= MAX_MAGNITUDE:
        raise InputError(f"magnitude is {magnitude}; it must be in [0, {MAX_MAGNITUDE}].")
    table = _operations(style)
    choice, sign, *_ = _uniform(seed, layers)
    operations = tf.cast(choice * len(table), tf.int32)
    arguments = tf.constant([argument_of(name, magnitude, RANDAUGMENT, table) for name in table])
    return operations, _with_signs(table, operations, tf.gather(arguments, operations), sign)


def argument_of(
    name: str, level: float, at_ten: dict[str, float], table: dict[str, tuple] | None = None
) -> float:
    """Returns the float that an operation takes at a level; `at_ten` goes before the table."""
    _, default, kind = (table or OPERATIONS)[name]
    argument = level / 10 * at_ten.get(name, default)
    if kind == "factor":
        return argument + 0.1  # level 5 gives 1: the image as it is
    if kind == "whole":
        return float(int(argument))
    return argument


def _operations(style):
    if style not in STYLES:
        raise InputError(f"style is {style!r}; it must be one of {', '.join(STYLES)}.")
    return STYLES[style]


def _uniform(seed, steps):
    """The numbers of an image, in [0, 1): choice, sign, skip, top, left, (steps,) each."""
    # One draw: every splitting of the seed would cost as much.
    return tf.unstack(tf.random.stateless_uniform((5, steps), seed))


def _with_signs(table, operations, arguments, sign):
    """Turns the argument of a signed operation round in half of the draws."""
    signed = tf.gather([kind == "signed" for *_, kind in table.values()], operations)
    return tf.where(signed & (sign < 0.5), -arguments, arguments)


def _apply(image, operations, arguments, seed, style):
    """Applies drawn operations to an image, one after the other."""
    switch = _switch(_branches(style), image.shape)
    places = _uniform(seed, operations.shape[0])[3:]
    for number, *inputs in zip(*map(tf.unstack, (operations, arguments, *places))):
        image = switch(number, image, *inputs)
    return image


def _branches(style):
    """By number: functions of an image, an argument and the place, top and left, of a hole."""
    table = _operations(style)
    branches = {
        name: (lambda f: lambda image, argument, *place: f(image, argument))(function)
        for name, (function, *_) in table.items()
    }
    branches["Cutout"] = table["Cutout"][0]
    return [*branches.values(), lambda image, *others: tf.identity(image)]  # the last: NOTHING


def _switch(branches, shape):
    """Returns a function of (number, *inputs of a branch) that runs one branch."""
    if tf.executing_eagerly():
        return lambda number, *inputs: branches[int(number)](*inputs)
    specs = [tf.TensorSpec(shape, tf.uint8), *[tf.TensorSpec(())] * 3]
    traced = [
        tf.function(branch, autograph=False).get_concrete_function(*specs) for branch in branches
    ]
    # tf.switch_case would spread every branch over the graph, and run longer.
    return lambda number, *inputs: tf.raw_ops.StatelessCase(
        branch_index=number, input=inputs, branches=traced, Tout=[tf.uint8], output_shapes=[shape]
    )[0]
