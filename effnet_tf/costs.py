"""What does a network cost: one that is built, or one that is only a row?"""

from typing import Any

from effnet_tf import faces, variants
from effnet_tf.errors import InputError
from effnet_tf.variants import Cost, Variant


def cost(
    network: str | Variant | Any,
    *,
    resolution: int | None = None,
    num_classes: int | None = None,
    batch_size: int = 1,
    dtype: str = "float32",
    remat: str = "none",
) -> Cost:
    """Counts what a network costs.

    Args:
        network: a name of `VARIANTS` or a `Variant`, counted in a millisecond without TensorFlow;
            or a built `keras.Model` in either form, with what the user put around it, counted
            from its graph in about a second.
        resolution: side of the square RGB image in pixels; by default the variant's, or the size
            that the model was built for.
        num_classes: classes of a variant's classifier; by default the variant's. A built model has
            its own.
        batch_size: images in a batch, for the memory of inference and training.
        dtype: of the maps of activations, for the same: "float32", "bfloat16" or "float16".
        remat: what training computes again instead of keeping it: "none", "expansion" or "block",
            see `set_remat`.

    Returns:
        A `Cost`. Of a model, what is frozen is not among `trainable_params`; the pixel constants
        of its network are among neither; and its memory, which its graph does not tell, is None.

    Raises:
        InputError: unknown name or dtype, a resolution that is less than the network's strides
            leave a pixel of (32 for B0), no class, no image; a model that is not built, takes any
            size where no resolution is given, or holds a loop.

    Example:
        >>> cost("b0").trainable_params
        5288548
    """
    if isinstance(network, (str, Variant)):
        size = dict(resolution=resolution, num_classes=num_classes)
        return variants.cost(network, batch_size=batch_size, dtype=dtype, remat=remat, **size)
    if num_classes is not None:
        raise InputError("num_classes goes with a variant's name: a built model has its classes.")
    counting = faces.load("effnet_tf.models.counting", "cost")
    return counting.cost_of_model(network, resolution=resolution)
