"""In which stage is a run at a step, and what are its images and augmentation like there?

Progressive learning (arXiv 2104.00298, section 4) as main.py of google/automl, efficientnetv2, does
it: stages of equal length, in which the sides of the training images and the strength of what
distorts them grow in equal steps. Every number is a function of recipe and step: a resumed run is
in the stage in which it was. Where we differ from the original, the line says so.
"""

import dataclasses
from collections.abc import Sequence

from effnet_tf import variants
from effnet_tf.errors import InputError
from effnet_tf.recipes.recipe import Recipe

# main.py: config.data.ibase, and what it falls back to: half of the size.
BASE_SIZE = 128


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a run, in which all training images have one size.

    Attributes:
        number: from 1 on.
        count: how many stages the run has.
        first_step: the step with which it begins.
        end: the step after its last one.
        image_size: side of the training images in pixels.
        recipe: the run's, with the stage's augmentation and dropout.
    """

    number: int
    count: int
    first_step: int
    end: int
    image_size: int
    recipe: Recipe

    def __str__(self) -> str:
        recipe, parts = self.recipe, [f"{self.image_size} pixels"]
        if recipe.augment == "randaugment":
            parts.append(f"RandAugment {recipe.randaugment_magnitude:.3g}")
        for name, alpha in (("mixup", recipe.mixup_alpha), ("cutmix", recipe.cutmix_alpha)):
            if alpha:
                parts.append(f"{name} {alpha:.3g}")
        if recipe.start_dropout_rate is not None:
            parts.append(f"dropout {recipe.dropout_rate:.3g}")
        return ", ".join(parts)

    def metrics(self) -> dict[str, int]:
        """Returns what metrics and trackers are told of it; nothing where a run has but one."""
        if self.count == 1:
            return {}
        return {"stage": self.number, "train_image_size": self.image_size}


def of_run(recipe: Recipe, steps_per_epoch: float) -> tuple[Stage, ...]:
    """Returns the stages of a run, in order; one if nothing grows.

    Those of an extended run begin anew where it was extended, over the epochs that are left, as
    its learning rate does.

    Args:
        recipe: a `Recipe`.
        steps_per_epoch: images of an epoch / images of a batch, not rounded.

    Raises:
        InputError: images or dropout would shrink, or images are too small for the network.
    """
    sizes = _sizes(recipe)
    count = len(sizes)
    begun = recipe.extended_at / steps_per_epoch
    ends = [begun + (recipe.epochs - begun) * number / count for number in range(count + 1)]
    # As the ends of epochs are rounded; the original cuts off, and may end a step before.
    steps = [round(epochs * steps_per_epoch) for epochs in ends]
    recipes = [_recipe_of(recipe, number, count) for number in range(count)]
    return tuple(
        Stage(number, count, *rest)
        for number, rest in enumerate(zip(steps, steps[1:], sizes, recipes), 1)
    )


def at(stages: Sequence[Stage], step: int) -> Stage:
    """Returns the stage to which a step belongs; that of the step after the last is the last."""
    begun = [stage for stage in stages if stage.first_step <= step]
    return (begun or stages[:1])[-1]


def work_left(stages: Sequence[Stage], step: int, image_size: int) -> float:
    """Returns how many steps with images of a size take as long as all that are left.

    A step's time grows as the number of its pixels.

    Args:
        stages: of the run.
        step: how many have been made.
        image_size: side in pixels.
    """
    return sum(
        max(stage.end - max(step, stage.first_step), 0) * (stage.image_size / image_size) ** 2
        for stage in stages
    )


def _sizes(recipe):
    """The sides of the images of all stages, in pixels."""
    last, count = recipe.train_size(), recipe.size_stages
    if not recipe.progressive and recipe.start_image_size is None:
        return [last]
    first = recipe.start_image_size
    if first is None:
        first = _published_start(last, count)
    if first > last:
        raise InputError(
            f"start_image_size is {first}, and must be at most the {last} pixels of the last "
            "stage: images do not shrink."
        )
    least = variants.resolve(recipe.resolved_variant()).least_side
    grown = [_grown(first, last, number, count) for number in range(count - 1)]
    rounded = [max(least, _rounded(size, recipe.size_multiple)) for size in grown]
    return [*(min(size, last) for size in rounded), last]


def _published_start(last, count):
    """The first stage of the original is one step above its base, not at it."""
    base = BASE_SIZE
    if last <= BASE_SIZE:  # the original's images would shrink
        base = last / 2
    return base + (last - base) / count


def _grown(first, last, number, count):
    if number == count - 1:
        return last  # to the last bit
    return first + (last - first) * number / (count - 1)


def _rounded(size, multiple):
    """The original cuts off instead: the sizes of its variants are whole numbers."""
    return round(size / multiple) * multiple


def _recipe_of(recipe, number, count):
    """The recipe with the augmentation and dropout of a stage, which counts from 0."""
    if not recipe.progressive or count == 1:
        return recipe
    # The original's would shrink to a magnitude below 5.
    weakest = min(recipe.start_randaugment_magnitude, recipe.randaugment_magnitude)
    changes = {
        "randaugment_magnitude": _grown(weakest, recipe.randaugment_magnitude, number, count),
        "mixup_alpha": _grown(0.0, recipe.mixup_alpha, number, count),
        "cutmix_alpha": _grown(0.0, recipe.cutmix_alpha, number, count),
    }
    if recipe.start_dropout_rate is not None:
        changes["dropout_rate"] = _dropout(recipe, number, count)
    return dataclasses.replace(recipe, **changes)


def _dropout(recipe, number, count):
    """The paper's dropout grows (table 6); the original's line for it is commented out."""
    first, last = recipe.start_dropout_rate, recipe.dropout_rate
    if last is None:
        last = recipe.resolved_variant().dropout_rate
    if first > last:
        raise InputError(
            f"start_dropout_rate is {first}, and must be at most the {last} of the last stage."
        )
    return _grown(first, last, number, count)
