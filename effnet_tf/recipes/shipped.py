"""Which recipes are shipped, and what may one expect of each?"""

from effnet_tf.columns import Shown
from effnet_tf.recipes import shipped_v2
from effnet_tf.recipes.recipe import Recipe
from effnet_tf.variants.accuracies import ACCURACIES

# Those for few images have none of the paper's augmentation, which is for ImageNet; those for
# photos expect them as phones write them: large, and turned by their Exif data.
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
        augment="none",
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
        exif_rotation=True,
        scaled_decode=True,
        augment="none",
    ),
    # For some dozens to thousands of images, measured by benchmarks/finetune.py on Lite0: batches
    # of 16 and half an epoch of warm-up, because a few epochs have few steps. AdamW, because
    # RMSProp as published starts its mean square at 1, and needs dozens of steps until its rate
    # means what it says: what suits 10 steps is too high for 100.
    "finetune": Recipe(
        init_weights="imagenet",
        batch_norm="frozen",
        body_rate=0.1,
        dataset="folder",
        schedule="cosine",
        optimizer="adamw",
        base_learning_rate=0.048,
        batch_size=16,
        epochs=20,
        warmup_epochs=0.5,
        crop_area_min=0.25,
        ema_decay=0.99,
        exif_rotation=True,
        scaled_decode=True,
        augment="none",
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
        augment="none",
    ),
}

_NEVER = " Not yet run by us: we have no TPU."


def _on_tpu(recipe, run, tpu="local"):
    """Returns the command of a recipe for a Cloud TPU; `run` is the run's folder."""
    return (
        f"python train_tpu.py --recipe {recipe} --data_dir gs://BUCKET/tfds --tpu {tpu} "
        f"--workdir gs://BUCKET/{run}. "
    )


def _published(weights, variant, remark=""):
    """Returns "77.1 % (paper, table 2)"."""
    found = ACCURACIES[weights].get(variant)
    if found is None:
        return "none published"
    return f"{found.top1} % ({found.source}{remark})"


# What each recipe is for: its command, hardware, hours and accuracy, with the source.
ABOUT = {
    "imagenet": _on_tpu("imagenet", "b0") + "B0 as the paper trains it; --variant takes any "
    "other. Cloud TPU; 23 hours on a v2-8 (arXiv 2011.00071); top-1 "
    f"{_published('autoaugment', 'b0')}." + _NEVER,
    "large_batch": _on_tpu("large_batch", "b5", tpu="NAME")
    + "B5 with LARS and a batch of 65,536; 1,024 TPU v3 cores, 1 h 04 min, 83 % top-1 (arXiv "
    "2011.00071, abstract)." + _NEVER,
    "digits": "python train_tpu.py --recipe digits --workdir runs/digits. 1,797 scans of 8x8 "
    "pixels; 2 CPU cores, about 2 minutes, 98.3 to 99.2 % of 359 held out (seed and processor).",
    "small": "python train_tpu.py --recipe small --data_dir photos --workdir runs/photos. From "
    "scratch on some hundreds to thousands of images; time and accuracy depend on them. Not yet "
    "run on a public set.",
    "finetune": "python train_tpu.py --recipe finetune --data_dir photos --workdir runs/photos. "
    "From published weights on some dozens to thousands of images. Lite0 at 96 pixels on 80 tiles "
    "of 5 photographs: 94 to 96 % of 200 others after 2 epochs, 20 to 24 % from scratch; a minute "
    "on 2 CPU cores (docs/finetune.md).",
    "smoke": "python train_tpu.py --recipe smoke --workdir /tmp/smoke. The whole path in half a "
    "minute on a laptop: it shows that things run, nothing else.",
}


def _add(name, recipe, top1):
    """Ships the recipe of one published network."""
    RECIPES[name] = recipe
    command = _on_tpu(name, name.removeprefix("imagenet-"))
    ABOUT[name] = f"{command}Cloud TPU; hours not known; top-1 {top1}.{_NEVER}"


def _none_published(weights, variant, training):
    return f"none published (with {training} {ACCURACIES[weights][variant].top1} %)"


for _variant in ACCURACIES["autoaugment"]:
    _add(f"imagenet-{_variant}", Recipe(variant=_variant), _published("autoaugment", _variant))
_add("imagenet-b8", Recipe(variant="b8"), _none_published("advprop", "b8", "AdvProp"))
_add("imagenet-l2", Recipe(variant="l2"), _none_published("noisy-student", "l2", "Noisy Student"))
for _variant in ACCURACIES["imagenet"]:
    if _variant.startswith(("lite", "edgetpu")):
        _add(
            f"imagenet-{_variant}",
            Recipe(variant=_variant, augment="none"),
            _published("imagenet", _variant, "; its augmentation is not said"),
        )
for _variant, _magnitude in (("b5", 17.0), ("b7", 28.0)):  # README.md
    _add(
        f"imagenet-{_variant}-randaugment",
        Recipe(variant=_variant, augment="randaugment", randaugment_magnitude=_magnitude),
        _published("randaugment", _variant),
    )
for _variant in shipped_v2.ROWS:
    _add(f"imagenet-{_variant}", shipped_v2.imagenet(_variant), _published("imagenet", _variant))
    _add(f"imagenet-{_variant}-21k", shipped_v2.imagenet21k(_variant), "none published")
    _add(
        f"imagenet-{_variant}-21k-ft1k",
        shipped_v2.fine_tuned(_variant),
        _published("imagenet21k-ft1k", _variant),
    )

# --- how they show at a prompt and in a notebook ------------------------------------------------

_COLUMNS = ("variant", "image_size", "dataset", "batch_size", "epochs", "optimizer", "augment")


def _rows(recipes):
    """The header and a row of text for each recipe."""
    header = ["recipe", *(name.replace("_", " ") for name in _COLUMNS)]
    return [header, *([name, *map(recipe.shown, _COLUMNS)] for name, recipe in recipes.items())]


RECIPES = Shown(RECIPES, _rows)
