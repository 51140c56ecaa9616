"""What does a network cost: one that is built, or one that is only a row?"""

from typing import Any

from effnet_tf import faces, variants
from effnet_tf.errors import InputError
from effnet_tf.variants import Cost, Variant


def cost(
    network: str | Variant | Any, *, resolution: int | None = None, num_classes: int | None = None
) -> Cost:
    """Counts what a network costs for one image.

    Args:
        network: a name of `VARIANTS` or a `Variant`, counted in a millisecond without TensorFlow;
            or a built `keras.Model` in either form, with what the user put around it, counted
            from its graph in about a second.
        resolution: side of the square RGB image in pixels; by default the variant's, or the size
            that the model was built for.
        num_classes: classes of a variant's classifier; by default the variant's. A built model has
            its own.

    Returns:
        A `Cost`. Of a model, what is frozen is not among `trainable_params`; the pixel constants
        of its network are among neither.

    Raises:
        InputError: unknown name, resolution below 32, no class; a model that is not built, takes
            any size where no resolution is given, or holds a loop.

    Example:
        >>> cost("b0").trainable_params
        5288548
    """
    if isinstance(network, (str, Variant)):
        return variants.cost(network, resolution=resolution, num_classes=num_classes)
    if num_classes is not None:
        raise InputError("num_classes goes with a variant's name: a built model has its classes.")
    counting = faces.load("effnet_tf.models.counting", "cost")
    return counting.cost_of_model(network, resolution=resolution)
