"""Which hyper-parameters does a training run have, and where does each come from?

`Recipe` holds every one of them once, with the paper's value as its default;
`RECIPES` are the runs we ship, and `ABOUT` says of each what to expect; `add_options`
makes each field a command-line option of the same name. Standard library only.

Sources, by the short names used below:
  paper    arXiv 1905.11946, section 5.2.
  mnasnet  arXiv 1807.11626, section 5 (the paper trains "with similar settings").
  main.py  the original code, tensorflow/tpu models/official/efficientnet/main.py,
           and the files beside it.
"""

import argparse
import dataclasses
import json
import math
import re
import types
import typing

from effnet_tf import errors, programs, variants


def _field(default, text, *, low=None, high=None, choices=None):
    """One hyper-parameter: its default, its help and source, and its legal values."""
    return dataclasses.field(
        default=default, metadata=dict(help=text, low=low, high=high, choices=choices)
    )


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Every hyper-parameter of a training run; the defaults are the paper's.

    The text beside each field says what it is, in which unit, and its source.

    Raises:
        InputError: a value outside its legal range.
    """

    # The network.
    variant: str = _field("b0", "name of the network, see effnet_tf.VARIANTS")
    phi: float | None = _field(
        None,
        "scale `variant` by compound scaling with this phi (any real number; paper, "
        "equation 3); none: take the variant's own hand-set coefficients",
    )
    alpha: float = _field(1.2, "base of the depth for --phi (paper, section 4)", low=1)
    beta: float = _field(1.1, "base of the width for --phi (paper, section 4)", low=1)
    gamma: float = _field(1.15, "base of the resolution for --phi (paper, section 4)", low=1)
    image_size: int | None = _field(
        None, "side of the square input in pixels; none: the variant's own resolution"
    )
    dropout_rate: float | None = _field(
        None,
        "dropout before the classifier; none: the variant's own (paper: 0.2 for B0 to 0.5 for B7)",
        low=0,
        high=1,
    )
    drop_connect_rate: float = _field(
        0.2,
        "end of the linear ramp of stochastic depth (paper: survival probability 0.8)",
        low=0,
        high=1,
    )

    num_classes: int | None = _field(
        None,
        "classes of the classifier; none: as many as the data set has, which is all that "
        "it may be: give it to have it checked",
        low=2,
    )

    # Fine-tuning.
    init_weights: str | None = _field(
        None,
        "weights to start from: a file or run (see effnet_tf.load_weights), or the name of "
        "published ones such as 'imagenet'; none: random",
    )
    freeze_until: str | None = _field(
        None,
        "the first stage that trains (stem, stage_1 to stage_7, head, classifier); those "
        "before it keep their weights; none: all train",
    )
    batch_norm: str = _field(
        "trainable",
        "batch norm of the stages that train: trainable; inference: its statistics "
        "stay; frozen: gamma and beta, too",
        choices=("trainable", "inference", "frozen"),
    )
    body_rate: float = _field(
        1.0, "factor on the learning rate of everything but the classifier", low=0
    )
    layer_decay: float = _field(
        1.0,
        "further factor per stage below the classifier: the head has it once, the stem nine times",
        low=0,
        high=1,
    )

    # The data.
    dataset: str = _field(
        "imagenet2012",
        "'digits' (bundled with scikit-learn), 'folder' (one folder per "
        "class), 'table' (a .csv or .jsonl file with path, label and, if you like, split), "
        "'tfrecord' (train-00000-of-01024 and so on, as the original code reads them), "
        "'synthetic' (coloured noise, for trying things out), or the name of a TFDS "
        "classification data set on disk",
    )
    data_dir: str | None = _field(
        None, "where the data lies: the TFDS directory, the folder, or the table"
    )
    train_split: str | None = _field(
        None,
        "split of TFDS or of the table, sub-folder, or beginning of the files' names, to "
        "train on; none: 'train', or 'Training' and the like",
    )
    eval_split: str | None = _field(
        None,
        "the same, to evaluate on; none: 'validation', 'val', 'valid', 'dev', 'eval' or "
        "'test' in any case, whichever there is first, else a held-out part of the training "
        "images",
    )
    first_label: int = _field(
        1, "label of the first class in the files of 'tfrecord' (main.py: 1)", low=0
    )
    holdout: float = _field(
        0.2,
        "fraction of each class held out when the data set has no split to evaluate on; at "
        "least one image of two or more",
        low=0,
        high=1,
    )
    max_bad_fraction: float = _field(
        0.001,
        "stop when more than this fraction of the images cannot be used; up to it they "
        "are replaced by others, and listed in bad_examples.jsonl",
        low=0,
        high=1,
    )

    # Augmentation.
    crop_area_min: float = _field(
        0.08,
        "smallest area of the random training crop, as a fraction of the image "
        "(main.py: preprocessing.py); 1 turns the random crop off",
        low=0.001,
        high=1,
    )
    eval_crop_padding: int = _field(
        32,
        "the evaluation crop is the central image_size / (image_size + this) of the short "
        "side (main.py: preprocessing.py, CROP_PADDING); 0 takes all of it",
        low=0,
    )
    eval_crop_fraction: float | None = _field(
        None,
        "instead of that: the fraction of the short side (0.875 in the original's last "
        "version, not in the published accuracies)",
        low=0.01,
        high=1,
    )
    exif_rotation: bool = _field(False, "turn photos as their Exif data say (main.py: no)")
    scaled_decode: bool = _field(
        False,
        "decode JPEGs at 1/2, 1/4 or 1/8 where the crop stays as large as image_size: much "
        "quicker for photos of many megapixels, and smoother (main.py: no)",
    )
    flip: bool = _field(True, "mirror half of the training images (main.py: preprocessing.py)")
    augment: str = _field(
        "autoaugment",
        "none, autoaugment (policy v0, as the paper), or randaugment",
        choices=("none", "autoaugment", "randaugment"),
    )
    randaugment_layers: int = _field(2, "operations per image (main.py)", low=1, high=10)
    randaugment_magnitude: float = _field(
        10.0, "strength of the operations (main.py: 10; README.md: B5 17, B7 28)", low=0, high=30
    )
    augment_style: str = _field(
        "original",
        "original: the policies with every quirk of the published code; clean: as their names say",
        choices=("original", "clean"),
    )
    random_erasing: float = _field(
        0.0,
        "fraction of the training images that get a grey rectangle (arXiv 1708.04896; "
        "main.py: none)",
        low=0,
        high=1,
    )
    mixup_alpha: float = _field(
        0.0,
        "of the Beta distribution that mixes each image with another (arXiv 1710.09412; "
        "main.py: 0, off)",
        low=0,
    )
    cutmix_alpha: float = _field(
        0.0,
        "of the Beta distribution of the area pasted from another image (arXiv 1905.04899); "
        "0: off; with mixup_alpha each image draws one of the two",
        low=0,
    )
    start_image_size: int | None = _field(
        None,
        "progressive resizing: side of the training images in the first epochs, in pixels; "
        "it grows to image_size in `size_stages` equal stages (arXiv 2104.00298); none: off",
        low=32,
    )
    size_stages: int = _field(4, "stages of progressive resizing", low=2)

    # Optimisation.
    epochs: int = _field(
        350, "passes over the training images (main.py: 218,949 steps of 2,048)", low=1
    )
    batch_size: int = _field(4096, "images per step, over all replicas (mnasnet: 4K)", low=1)
    base_learning_rate: float = _field(
        0.016,
        "learning rate per 256 images of the batch (main.py; 0.256 at 4,096 as in the paper)",
        low=0,
    )
    warmup_epochs: float = _field(5.0, "linear warm-up from 0 (mnasnet; main.py)", low=0)
    schedule: str = _field(
        "staircase",
        "staircase of --decay_rate (paper), cosine to 0 (main.py: utils.py), or "
        "polynomial to --end_learning_rate (main.py, for LARS)",
        choices=("staircase", "cosine", "polynomial"),
    )
    decay_rate: float = _field(0.97, "factor of the learning-rate staircase (paper)", low=0.001)
    decay_epochs: float = _field(2.4, "epochs per stair, counted from step 0 (paper)", low=0.001)
    decay_power: float = _field(2.0, "of the polynomial schedule (main.py)", low=0.001)
    end_learning_rate: float = _field(0.1, "of the polynomial schedule (main.py)", low=0)
    optimizer: str = _field(
        "rmsprop",
        "rmsprop (paper), sgd, adamw (Keras'), or lars (main.py, large batches)",
        choices=("rmsprop", "sgd", "adamw", "lars"),
    )
    rmsprop_rho: float = _field(0.9, "decay of the mean square of RMSProp (paper)", low=0, high=1)
    momentum: float = _field(
        0.9, "momentum of RMSProp (paper), SGD and LARS; beta_1 of AdamW", low=0, high=1
    )
    rmsprop_epsilon: float = _field(
        1e-3, "added to the mean square inside RMSProp's root (main.py: utils.py)", low=0
    )
    adam_beta_2: float = _field(0.999, "of AdamW (Keras)", low=0, high=1)
    lars_coefficient: float = _field(0.001, "of LARS, its eta (main.py)", low=0)
    weight_decay: float = _field(
        1e-5,
        "times half the sum of squares of every trainable variable outside batch norm "
        "(paper; main.py); lars decays kernels once more in the optimiser (main.py), adamw only "
        "there",
        low=0,
    )
    clip_norm: float | None = _field(
        None,
        "largest global norm of the gradient of a step; none: no clipping (main.py)",
        low=1e-12,
    )
    gradient_accumulation: int = _field(
        1,
        "parts in which every replica works through its share of a batch, one after the other: "
        "less memory, same step; batch norm sees, and moves its statistics by, each part",
        low=1,
    )
    batch_norm_momentum: float = _field(
        0.99,
        "of the moving statistics of batch norm (paper); a run of some hundred steps needs "
        "0.9, or it evaluates with statistics of its first steps",
        low=0,
        high=1,
    )
    bn_sync: str = _field(
        "auto",
        "replicas that share batch statistics: none, all, group:N, or auto, which is none "
        "up to 8 replicas and groups of max(8, replicas / 8) above (main.py: utils.py)",
    )
    label_smoothing: float = _field(0.1, "share of the uniform label (main.py)", low=0, high=1)
    ema_decay: float = _field(
        0.9999,
        "decay of the moving average of all weights, batch-norm statistics included; "
        "0 turns it off (main.py)",
        low=0,
        high=1,
    )

    # The loop.
    precision: str = _field(
        "auto",
        "auto: mixed_bfloat16 on TPU, float32 elsewhere (main.py: bfloat16 on TPU)",
        choices=("auto", "float32", "mixed_bfloat16"),
    )
    steps_per_loop: int = _field(
        100,
        "training steps between two returns to Python, at most an epoch (main.py: 1,251)",
        low=1,
        high=2048,
    )
    eval_batch_size: int | None = _field(
        None, "images per evaluation step, over all replicas; none: as batch_size", low=1
    )
    checkpoint_every: int | None = _field(
        None, "steps between checkpoints within an epoch; none: only its end is saved", low=1
    )
    keep_checkpoints: int = _field(3, "how many checkpoints stay in the workdir", low=1)
    background_saves: bool = _field(True, "write checkpoints while training goes on")
    loss_spike: float = _field(
        10.0,
        "a step whose loss is more than this many times the smoothed loss, and twice that of "
        "guessing, changes nothing, like one that is not finite; 0: off",
        low=0,
    )
    max_bad_steps: int = _field(
        5,
        "after so many steps in a row that changed nothing, go back to the last checkpoint and "
        "skip the batches since",
        low=1,
    )
    max_rollbacks: int = _field(3, "how often to go back before the run stops", low=0)
    seed: int = _field(
        0, "of the initial weights, the order of the images and every draw", low=0, high=2**32 - 1
    )

    def __post_init__(self):
        for field in dataclasses.fields(self):
            _check_range(field.name, getattr(self, field.name), **field.metadata)
        if self.init_weights is None and (
            self.freeze_until not in (None, "stem") or self.batch_norm != "trainable"
        ):
            raise errors.InputError(
                f"freeze_until {self.freeze_until} with batch_norm {self.batch_norm} would freeze "
                "random weights: give --init_weights, a file or 'imagenet'."
            )
        if not re.fullmatch(r"auto|none|all|group:[1-9]\d*", self.bn_sync):
            raise errors.InputError(
                f"bn_sync is {self.bn_sync!r}; it must be auto, none, all, or "
                "group:N with N replicas per group, such as group:8."
            )

    def resolved_variant(self):
        """Returns the `Variant` of this recipe: its row, or the row scaled by phi.

        Raises:
            InputError: unknown variant, phi out of range, or an image below 32 pixels.
        """
        variant = variants.find_variant(self.variant)
        if self.phi is not None:
            scaling = variants.CompoundScaling(self.alpha, self.beta, self.gamma)
            variant = scaling.variant(self.phi, base=variant)
        size = variant.resolution if self.image_size is None else self.image_size
        variants.check_resolution(size, f"variant '{variant.name}'")
        return dataclasses.replace(variant, resolution=size)

    def learning_rate(self):
        """The peak learning rate: `base_learning_rate * batch_size / 256` (main.py)."""
        return self.base_learning_rate * self.batch_size / 256

    def image_size_at(self, epoch):
        """The side of the training images in an epoch, counted from 0: whole multiples of 16.

        Progressive resizing as in arXiv 2104.00298, section 4: stages of equal length, sizes
        in equal steps from `start_image_size` to the recipe's own size.
        """
        final = self.resolved_variant().resolution
        if self.start_image_size is None:
            return final
        stage = min(int(epoch * self.size_stages / self.epochs), self.size_stages - 1)
        if stage == self.size_stages - 1:
            return final
        size = self.start_image_size + stage * (final - self.start_image_size) / (
            self.size_stages - 1
        )
        return max(32, round(size / 16) * 16)

    def to_json(self):
        """Returns the recipe as an indented JSON object, one field per line."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text):
        """Returns the recipe written by `to_json`.

        Raises:
            InputError: no JSON object, or a field this version does not know.
        """
        try:
            values = dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise errors.InputError(
                f"The recipe is not a JSON object: {errors.first_line(error)}."
            ) from error
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise errors.InputError(
                f"The recipe has fields this version does not know: {', '.join(unknown)}."
            )
        return cls(**values)


def _check_range(name, value, low, high, choices, help):
    del help
    if choices and value not in choices:
        raise errors.InputError(f"{name} is {value!r}; it must be one of {', '.join(choices)}.")
    if value is None or isinstance(value, str):
        return
    if not math.isfinite(value):
        raise errors.InputError(f"{name} is {value}; it must be a finite number.")
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low}" if high is None else f"between {low} and {high}"
        raise errors.InputError(f"{name} is {value}; it must be {bounds}.")


_OWN = dict(augment="none")  # from scratch on few images: the paper's policy is for ImageNet
_PHOTOS = dict(exif_rotation=True, scaled_decode=True, **_OWN)  # as phones write them

RECIPES = {
    "imagenet": Recipe(),
    # Batch, optimiser and hardware: arXiv 2011.00071, abstract. Its table of rates could not be
    # had: 0.081 and 43 epochs are from memory, not verified.
    "large_batch": Recipe(
        variant="b5",
        optimizer="lars",
        schedule="polynomial",
        batch_size=65536,
        base_learning_rate=0.081,
        warmup_epochs=43.0,
    ),
    # The paper's schedule shrunk to 16 epochs; digits have no mirror image.
    "digits": Recipe(
        phi=-4.0,
        image_size=32,
        dataset="digits",
        batch_size=32,
        epochs=16,
        warmup_epochs=1.0,
        decay_epochs=0.16,
        crop_area_min=0.85,
        eval_crop_padding=0,
        flip=False,
        ema_decay=0.995,
        batch_norm_momentum=0.9,
        drop_connect_rate=0.1,
        **_OWN,
    ),
    # The paper's schedule shrunk to 60 epochs.
    "small": Recipe(
        dataset="folder",
        image_size=128,
        batch_size=16,
        epochs=60,
        warmup_epochs=2.0,
        decay_epochs=0.5,
        crop_area_min=0.25,
        ema_decay=0.99,
        batch_norm_momentum=0.9,
        **_PHOTOS,
    ),
    "finetune": Recipe(
        init_weights="imagenet",
        batch_norm="frozen",
        body_rate=0.1,
        dataset="folder",
        schedule="cosine",
        base_learning_rate=0.064,
        batch_size=32,
        epochs=20,
        warmup_epochs=1.0,
        crop_area_min=0.25,
        ema_decay=0.99,
        **_PHOTOS,
    ),
    "smoke": Recipe(
        phi=-8.0,
        image_size=32,
        dataset="digits",
        batch_size=64,
        epochs=2,
        warmup_epochs=0.5,
        decay_epochs=1.0,
        eval_crop_padding=0,
        flip=False,
        ema_decay=0.9,
        holdout=0.5,
        batch_norm_momentum=0.9,
        **_OWN,
    ),
}

_TPU = (
    "python train_tpu.py --recipe {} --data_dir gs://BUCKET/tfds --tpu local --workdir "
    "gs://BUCKET/{}. "
)
_NEVER = " Not yet run by us: we have no TPU."

# What each recipe is for: its command, hardware, hours and accuracy, with the source.
ABOUT = {
    "imagenet": _TPU.format("imagenet", "b0") + "B0 as the paper trains it; --variant takes any "
    "other. Cloud TPU; 23 hours on a v2-8 (arXiv 2011.00071); 77.1 % top-1 (paper, table 2)."
    + _NEVER,
    "large_batch": _TPU.format("large_batch", "b5").replace("--tpu local", "--tpu NAME")
    + "B5 with LARS and a batch of 65,536; 1,024 TPU v3 cores, 1 h 04 min, 83 % top-1 (arXiv "
    "2011.00071, abstract)." + _NEVER,
    "digits": "python train_tpu.py --recipe digits --workdir runs/digits. 1,797 scans of 8x8 "
    "pixels; 2 CPU cores, about 2 minutes, 98.3 to 98.9 % of 359 held out (seeds 0 to 2).",
    "small": "python train_tpu.py --recipe small --data_dir photos --workdir runs/photos. From "
    "scratch on some hundreds to thousands of images; time and accuracy depend on them. Not yet "
    "run on a public set.",
    "finetune": "python train_tpu.py --recipe finetune --data_dir photos --workdir runs/photos. "
    "From published weights on some hundreds to thousands of images; time and accuracy depend on "
    "them. Not yet run with published weights: we have no network.",
    "smoke": "python train_tpu.py --recipe smoke --workdir /tmp/smoke. The whole path in half a "
    "minute on a laptop: it shows that things run, nothing else.",
}

# variant, augmentation and magnitude, published top-1 in % with its source.
_PUBLISHED = (
    *(
        (f"b{number}", "autoaugment", 10.0, f"{top1} % (paper, table 2)")
        for number, top1 in enumerate((77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0, 84.3))
    ),
    ("b8", "autoaugment", 10.0, "none published (with AdvProp 85.5 %)"),
    ("l2", "autoaugment", 10.0, "none published (with Noisy Student 88.4 %)"),
    *(
        (f"lite{number}", "none", 10.0, f"{top1} % (lite/README.md; its augmentation is not said)")
        for number, top1 in enumerate((75.1, 76.7, 77.6, 79.8, 81.5))
    ),
    *(
        (
            f"edgetpu-{size}",
            "none",
            10.0,
            f"{top1} % (edgetpu/README.md; its augmentation is not said)",
        )
        for size, top1 in (("s", 77.23), ("m", 78.69), ("l", 80.62))
    ),
    ("b5", "randaugment", 17.0, "83.7 % (README.md)"),
    ("b7", "randaugment", 28.0, "84.7 % (README.md)"),
)
for _variant, _augment, _magnitude, _top1 in _PUBLISHED:
    _name = f"imagenet-{_variant}" + ("-randaugment" if _augment == "randaugment" else "")
    RECIPES[_name] = Recipe(variant=_variant, augment=_augment, randaugment_magnitude=_magnitude)
    ABOUT[_name] = (
        f"{_TPU.format(_name, _variant)}Cloud TPU; hours not known; top-1 {_top1}.{_NEVER}"
    )


def default_recipe_name(dataset):
    """Returns the name of the recipe that suits a data set, for a user who named none."""
    return {"digits": "digits", "folder": "small", "table": "small"}.get(dataset, "imagenet")


def _option_type(annotation):
    """Returns a parser for an annotation such as `int` or `float | None`."""
    if not isinstance(annotation, types.UnionType):
        return annotation
    inner = next(kind for kind in typing.get_args(annotation) if kind is not type(None))

    def optional(text):
        return None if text.lower() == "none" else inner(text)

    optional.__name__ = inner.__name__  # argparse names it in its messages
    return optional


def add_options(parser):
    """Adds `--recipe` and one option per field of `Recipe` to an argparse parser."""
    parser.add_argument(
        "--recipe",
        choices=sorted(RECIPES),
        default=None,
        help="the recipe that the other options change; by default the one that suits "
        "--dataset (printed)",
    )
    hints = typing.get_type_hints(Recipe)
    for field in dataclasses.fields(Recipe):
        # A default would hide whether the user gave the option: leave it out.
        options = dict(default=argparse.SUPPRESS, help=field.metadata["help"].replace("%", "%%"))
        if hints[field.name] is bool:
            options["action"] = argparse.BooleanOptionalAction
        else:
            options.update(type=_option_type(hints[field.name]), choices=field.metadata["choices"])
            if not field.metadata["choices"]:
                options["metavar"] = field.name.upper()
        parser.add_argument(f"--{field.name}", **options)


def from_options(options):
    """Returns the `Recipe` that parsed options describe, and says which was chosen.

    Args:
        options: the namespace of a parser that `add_options` filled.

    Raises:
        InputError: a value outside its legal range.
    """
    name = options.recipe
    if name is None:
        name = default_recipe_name(getattr(options, "dataset", None))
        print(f"Recipe '{name}' (chosen for the data set; --recipe takes another one).")
    print(programs.as_called(f"{name}: {ABOUT[name]}"))
    given = {
        field.name: getattr(options, field.name)
        for field in dataclasses.fields(Recipe)
        if hasattr(options, field.name)
    }
    return dataclasses.replace(RECIPES[name], **given)


# Fields that may change when a run is resumed: they do not change what is computed.
FREE_TO_CHANGE = (
    "data_dir",
    "steps_per_loop",
    "eval_batch_size",
    "checkpoint_every",
    "keep_checkpoints",
    "background_saves",
    "max_bad_fraction",
    "max_bad_steps",
    "max_rollbacks",
)


def differences(old, new):
    """Returns "epochs: 10 -> 20" and so on for the fields that make two another run."""
    return [
        f"{field.name}: {getattr(old, field.name)} -> {getattr(new, field.name)}"
        for field in dataclasses.fields(Recipe)
        if field.name not in FREE_TO_CHANGE and getattr(old, field.name) != getattr(new, field.name)
    ]
