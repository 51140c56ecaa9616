"""How is EfficientNetV2 trained: on ImageNet, on ImageNet-21k, and from one to the other?

Source: google/automl efficientnetv2/, by the names of its files: effnetv2_configs.py (what differs
between variants), datasets.py (what differs between data sets), hparams.py, preprocessing.py and
main.py. Where a recipe differs from it, docs/fidelity.md says so.
"""

import dataclasses

from effnet_tf.recipes.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class _Row:
    """What differs between variants in training on ImageNet.

    Attributes:
        size: of the training images in the last stage, in pixels.
        magnitude: of RandAugment in the last stage; 0: AutoAugment.
        alpha: of mixup and of cutmix in the last stage.
        tuned: pixels of the training images in fine-tuning: those of evaluation, rounded down to a
            multiple of 16 (main.py).
    """

    size: int
    magnitude: float
    alpha: float
    tuned: int


# effnetv2_configs.py: efficientnetv2_params. B0 to B3 are trained as EfficientNet, but in stages.
ROWS = {
    "v2-b0": _Row(192, 0.0, 0.0, 224),
    "v2-b1": _Row(192, 0.0, 0.0, 240),
    "v2-b2": _Row(208, 0.0, 0.0, 256),
    "v2-b3": _Row(240, 0.0, 0.0, 288),
    "v2-s": _Row(300, 10.0, 0.0, 384),
    "v2-m": _Row(384, 15.0, 0.2, 480),
    "v2-l": _Row(384, 20.0, 0.5, 480),
    "v2-xl": _Row(384, 20.0, 0.5, 512),
}

# hparams.py; utils.py: groups of min(8, replicas).
_COMMON = Recipe(batch_norm_momentum=0.9, bn_sync="group:8", decay_biases=False)


def imagenet(variant: str) -> Recipe:
    """Returns the recipe of a variant on ImageNet: main.py with the data set `imagenet`."""
    row = ROWS[variant]
    recipe = dataclasses.replace(
        _COMMON,
        variant=variant,
        train_image_size=row.size,
        progressive=True,
        size_multiple=1,
        mixup_alpha=row.alpha,
        cutmix_alpha=row.alpha,
    )
    if not row.magnitude:
        return recipe
    return dataclasses.replace(
        recipe,
        augment="randaugment",
        randaugment_magnitude=row.magnitude,
        crop_area_min=0.05,  # preprocessing.py; B0 to B3: preprocess_legacy.py, 0.08
    )


def imagenet21k(variant: str) -> Recipe:
    """Returns the recipe of a variant on ImageNet-21k: the data set `imagenet21k`."""
    return dataclasses.replace(
        _COMMON,
        variant=variant,
        image_size=224,
        dropout_rate=1e-6,
        drop_connect_rate=0.0,
        num_classes=21_843,
        dataset="tfrecord",
        first_label=0,
        crops="v2",
        crop_area_min=0.05,
        augment="none",
        epochs=60,
        base_learning_rate=0.008,
        warmup_epochs=1.0,
        schedule="cosine",
        label_smoothing=0.0,
    )


def fine_tuned(variant: str) -> Recipe:
    """Returns the recipe from ImageNet-21k to ImageNet: the data set `imagenetft`."""
    return dataclasses.replace(
        _COMMON,
        variant=variant,
        dropout_rate=1e-6,
        init_weights="imagenet21k",
        crops="whole",
        crop_area_min=1.0,
        augment="none",
        cutout=0.5,
        train_image_size=ROWS[variant].tuned,
        epochs=15,
        batch_size=512,
        base_learning_rate=0.0005,
        warmup_epochs=1.0,
        schedule="constant",
        ema_decay=0.9996,
    )
