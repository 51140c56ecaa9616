"""shipped.py: what is shipped, and what one may expect of it."""

from effnet_tf.recipes import ABOUT, RECIPES
from effnet_tf.variants import published_top1
from effnet_tf.variants.efficientnet import EFFICIENTNETS


def test_finetune_is_gentle_with_the_body():
    recipe = RECIPES["finetune"]
    assert (recipe.schedule, recipe.batch_norm, recipe.init_weights) == (
        "cosine",
        "frozen",
        "imagenet",
    )
    assert recipe.body_rate < 1
    # A few epochs on dozens of images are few steps, and most of them must count.
    assert recipe.optimizer == "adamw" and recipe.batch_size <= 16 and recipe.warmup_epochs < 1


def test_each_recipe_says_what_to_expect():
    assert list(ABOUT) == list(RECIPES)
    for name, text in ABOUT.items():
        assert text.startswith(f"python train_tpu.py --recipe {name} "), name
        assert text.endswith("."), name


def test_each_released_variant_has_a_recipe():
    for variant in EFFICIENTNETS.values():
        assert RECIPES[f"imagenet-{variant.name}"].variant == variant.name


def test_published_accuracies_are_those_of_the_table():
    assert f"top-1 {published_top1('autoaugment', 'b3')} % (paper, table 2)" in ABOUT["imagenet-b3"]
    assert f"top-1 {published_top1('imagenet', 'lite2')} % (lite/READ" in ABOUT["imagenet-lite2"]
    assert "none published (with AdvProp 85.5 %)" in ABOUT["imagenet-b8"]
    assert "83.7 % (README.md)" in ABOUT["imagenet-b5-randaugment"]
