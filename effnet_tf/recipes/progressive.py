"""Which hyper-parameters say how images and augmentation grow while a run goes on?

The text beside each field says what it is, in which unit, and its source: `automl` is main.py of
google/automl, efficientnetv2, and the paper is arXiv 2104.00298. stages.py computes with them.
"""

import dataclasses

from effnet_tf.recipes.fields import field


@dataclasses.dataclass(frozen=True)
class Progressive:
    """Progressive learning: training images of another size than image_size, and growing ones."""

    train_image_size: int | None = field(
        None,
        "side of the training images in pixels, in the last stage if there are stages; held-out "
        "images keep image_size; none: as image_size",
    )
    progressive: bool = field(
        False,
        "let the training images, RandAugment's magnitude, mixup and cutmix grow in equal steps "
        "over --size_stages stages of equal length (automl)",
    )
    start_image_size: int | None = field(
        None,
        "side of the training images in the first stage, in pixels; without --progressive only "
        "they grow; none: with it one step above 128, or above half of small images (automl)",
        low=32,
    )
    size_stages: int = field(4, "stages of a run whose images grow (automl)", low=2)
    size_multiple: int = field(
        16,
        "between the first and the last stage, sides are rounded to multiples of this many "
        "pixels, and so is the first (automl: 1)",
        low=1,
    )
    start_randaugment_magnitude: float = field(
        5.0, "magnitude of the first stage of --progressive (automl)", low=0, high=30
    )
    start_dropout_rate: float | None = field(
        None,
        "dropout in the first stage of --progressive (paper, table 6: 0.1); none: as in the last "
        "(automl)",
        low=0,
        high=1,
    )
