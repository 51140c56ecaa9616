"""Which hyper-parameters say what is trained, and on which images?

The text beside each field says what it is, in which unit, and its source (recipe.py has the
sources' short names).
"""

import dataclasses

from effnet_tf.recipes.fields import field
from effnet_tf.variants import BATCH_NORM_MODES, CROPS, FAMILIES


@dataclasses.dataclass(frozen=True)
class Network:
    """The network: its variant, its size, and its dropout."""

    variant: str = field(
        "b0", "name of the network, see effnet_tf.VARIANTS; or a file of one, such as plan.json"
    )
    family: str | None = field(
        None,
        "whose network of this shape, which decides on padding and constants: that of the weights "
        "in --init_weights; none: the original's, tf",
        choices=tuple(FAMILIES),
    )
    phi: float | None = field(
        None,
        "scale `variant` by compound scaling with this phi (any real number; paper, "
        "equation 3); none: take the variant's own hand-set coefficients",
    )
    alpha: float = field(1.2, "base of the depth for --phi (paper, section 4)", low=1)
    beta: float = field(1.1, "base of the width for --phi (paper, section 4)", low=1)
    gamma: float = field(1.15, "base of the resolution for --phi (paper, section 4)", low=1)
    image_size: int | None = field(
        None, "side of the square input in pixels; none: the variant's own resolution"
    )
    dropout_rate: float | None = field(
        None,
        "dropout before the classifier; none: the variant's own (paper: 0.2 for B0 to 0.5 for B7)",
        low=0,
        high=1,
    )
    drop_connect_rate: float = field(
        0.2,
        "end of the linear ramp of stochastic depth (paper: survival probability 0.8)",
        low=0,
        high=1,
    )

    num_classes: int | None = field(
        None,
        "classes of the classifier, which must be as many as the data set has: give it to have "
        "that checked; none: take the data set's number",
        low=2,
    )


@dataclasses.dataclass(frozen=True)
class FineTuning:
    """Fine-tuning: the weights to start from, and which of them train."""

    init_weights: str | None = field(
        None,
        "weights to start from: a file or run (see effnet_tf.load_weights), or the name of "
        "published ones such as 'imagenet'; none: random",
    )
    freeze_until: str | None = field(
        None,
        "the first stage that trains (stem, stage_1 to stage_7, head, classifier); those "
        "before it keep their weights; none: all train",
    )
    batch_norm: str = field(
        "trainable",
        "batch norm of the stages that train: trainable; inference: its statistics stay fixed; "
        "frozen: so do gamma and beta",
        choices=BATCH_NORM_MODES,
    )
    body_rate: float = field(
        1.0, "factor on the learning rate of everything but the classifier", low=0
    )
    layer_decay: float = field(
        1.0,
        "further factor per stage below the classifier: it applies once to the head, nine times "
        "to the stem",
        low=0,
        high=1,
    )


@dataclasses.dataclass(frozen=True)
class Data:
    """The data: where the images are, and how they are split."""

    dataset: str = field(
        "imagenet2012",
        "'digits' (bundled with scikit-learn), 'folder' (one folder per "
        "class), 'table' (a .csv or .jsonl file with path, label and, if you like, split), "
        "'tfrecord' (train-00000-of-01024 and so on, as the original code reads them), "
        "'synthetic' (coloured noise, for trying things out), or the name of a TFDS "
        "classification data set on disk",
    )
    labels: str = field(
        "single",
        "single: an image has one class; multi: any number of them, several names in a cell of the "
        "table's column `label` or `labels`, with | or ; or , between them, and none in an empty "
        "one",
        choices=("single", "multi"),
    )
    data_dir: str | None = field(
        None, "where the data lies: the TFDS directory, the folder, or the table"
    )
    train_split: str | None = field(
        None,
        "split of TFDS or of the table, sub-folder, or beginning of the files' names, to "
        "train on; none: 'train', or 'Training' and the like",
    )
    eval_split: str | None = field(
        None,
        "the same, to evaluate on; none: the first there is of 'validation', 'val', 'valid', "
        "'dev', 'eval' and 'test' (in upper or lower case), else a held-out part of the training "
        "images",
    )
    first_label: int = field(
        1, "label of the first class in the files of 'tfrecord' (main.py: 1)", low=0
    )
    holdout: float = field(
        0.2,
        "fraction of each class held out when the data set has no split to evaluate on; at "
        "least one image of every class that has two",
        low=0,
        high=1,
    )
    sampling: str = field(
        "natural",
        "natural: every image once in an epoch (main.py); balanced: every class equally often, "
        "the images of small ones several times",
        choices=("natural", "balanced"),
    )
    max_bad_fraction: float = field(
        0.001,
        "stop when more than this fraction of the images cannot be used; until then such images "
        "are replaced by others and listed in bad_examples.jsonl",
        low=0,
        high=1,
    )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Augmentation: how images are cropped, flipped, coloured and mixed."""

    crops: str | None = field(
        None,
        "how images are cut and resized. v1: random crops, in evaluation the central square, TF1's "
        "bicubic (main.py); v2: TF2's bilinear, and evaluation squeezes the whole image from 320 "
        "pixels up (google/automl efficientnetv2); whole: it always does, as fine-tuning there; "
        "none: as the variant was trained",
        choices=CROPS,
    )
    crop_area_min: float = field(
        0.08,
        "smallest area of the random training crop, as a fraction of the image "
        "(main.py: preprocessing.py); 1 turns the random crop off",
        low=0.001,
        high=1,
    )
    eval_crop_padding: int = field(
        32,
        "the evaluation crop is the central image_size / (image_size + this) of the short "
        "side (main.py: preprocessing.py, CROP_PADDING); 0 takes all of it; it means nothing where "
        "the whole image is squeezed",
        low=0,
    )
    eval_crop_fraction: float | None = field(
        None,
        "instead of --eval_crop_padding: the central fraction of the short side (0.875 in the "
        "original's last version, but not for the published accuracies)",
        low=0.01,
        high=1,
    )
    exif_rotation: bool = field(False, "turn photos as their Exif data say (main.py: no)")
    scaled_decode: bool = field(
        False,
        "decode JPEGs at 1/2, 1/4 or 1/8 where the crop stays as large as image_size: much "
        "quicker for photos of many megapixels, and smoother (main.py: no)",
    )
    flip: bool = field(True, "mirror half of the training images (main.py: preprocessing.py)")
    augment: str = field(
        "autoaugment",
        "none, autoaugment (policy v0, as the paper), or randaugment",
        choices=("none", "autoaugment", "randaugment"),
    )
    randaugment_layers: int = field(2, "operations per image (main.py)", low=1, high=10)
    randaugment_magnitude: float = field(
        10.0, "strength of the operations (main.py: 10; README.md: B5 17, B7 28)", low=0, high=30
    )
    augment_style: str = field(
        "original",
        "original: the policies with every quirk of the published code; clean: as their names say",
        choices=("original", "clean"),
    )
    random_erasing: float = field(
        0.0,
        "fraction of the training images that get a grey rectangle (arXiv 1708.04896; "
        "main.py: none)",
        low=0,
        high=1,
    )
    cutout: float = field(
        0.0,
        "side of a square of noise in every training image, as a share of the image's side; its "
        "middle may be anywhere (fine-tuning of EfficientNetV2: 0.5); 0: none",
        low=0,
        high=1,
    )
    mixup_alpha: float = field(
        0.0,
        "of the Beta distribution that mixes each image with another (arXiv 1710.09412; "
        "main.py: 0, off)",
        low=0,
    )
    cutmix_alpha: float = field(
        0.0,
        "of the Beta distribution of the area pasted from another image (arXiv 1905.04899); "
        "0: off; with mixup_alpha each image draws one of the two",
        low=0,
    )
