"""shipped.py: what is shipped, and what one may expect of it."""

import pytest

from effnet_tf.recipes import ABOUT, RECIPES, stages
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


class TestEfficientNetV2:
    """Against google/automl efficientnetv2: hparams.py, effnetv2_configs.py and datasets.py."""

    @pytest.mark.parametrize(
        "variant, sizes, magnitudes, alpha, held_out",
        [
            ("b0", (144, 160, 176, 192), None, 0, 224),
            ("b1", (144, 160, 176, 192), None, 0, 240),
            ("b2", (148, 168, 188, 208), None, 0, 260),
            ("b3", (156, 184, 212, 240), None, 0, 300),
            ("s", (171, 214, 257, 300), (5, 20 / 3, 25 / 3, 10), 0, 384),
            ("m", (192, 256, 320, 384), (5, 25 / 3, 35 / 3, 15), 0.2, 480),
            ("l", (192, 256, 320, 384), (5, 10, 15, 20), 0.5, 480),
            ("xl", (192, 256, 320, 384), (5, 10, 15, 20), 0.5, 512),
        ],
    )
    def test_on_imagenet(self, variant, sizes, magnitudes, alpha, held_out):
        recipe = RECIPES[f"imagenet-v2-{variant}"]
        found = stages.of_run(recipe, 1_281_167 / 4096)
        assert tuple(stage.image_size for stage in found) == sizes
        assert recipe.resolved_variant().resolution == held_out
        first, last = found[0].recipe, found[-1].recipe
        assert (first.mixup_alpha, first.cutmix_alpha) == (0, 0)
        assert (last.mixup_alpha, last.cutmix_alpha) == (alpha, alpha)
        if magnitudes is None:
            assert (recipe.augment, recipe.crop_area_min) == ("autoaugment", 0.08)
        else:
            assert (recipe.augment, recipe.crop_area_min) == ("randaugment", 0.05)
            found = [stage.recipe.randaugment_magnitude for stage in found]
            assert found == pytest.approx(magnitudes)

    @pytest.mark.parametrize("name", ["", "-21k", "-21k-ft1k"])
    def test_what_all_have(self, name):
        for variant in ("b0", "b1", "b2", "b3", "s", "m", "l", "xl"):
            recipe = RECIPES[f"imagenet-v2-{variant}{name}"]
            assert recipe.variant == f"v2-{variant}" and recipe.optimizer == "rmsprop"
            assert not recipe.decay_biases and recipe.weight_decay == 1e-5
            assert (recipe.batch_norm_momentum, recipe.bn_sync) == (0.9, "group:8")

    def test_on_imagenet_the_rest_is_efficientnets(self):
        recipe = RECIPES["imagenet-v2-s"]
        assert (recipe.epochs, recipe.batch_size, recipe.base_learning_rate) == (350, 4096, 0.016)
        assert (recipe.schedule, recipe.decay_rate, recipe.decay_epochs) == ("staircase", 0.97, 2.4)
        assert (recipe.warmup_epochs, recipe.ema_decay, recipe.label_smoothing) == (5, 0.9999, 0.1)
        assert (recipe.drop_connect_rate, recipe.clip_norm) == (0.2, None)

    def test_on_imagenet21k(self):
        recipe = RECIPES["imagenet-v2-m-21k"]
        assert (recipe.epochs, recipe.base_learning_rate, recipe.schedule) == (60, 0.008, "cosine")
        assert (recipe.warmup_epochs, recipe.label_smoothing, recipe.augment) == (1, 0, "none")
        assert (recipe.dropout_rate, recipe.drop_connect_rate) == (1e-6, 0)
        assert (recipe.num_classes, recipe.crops, recipe.crop_area_min) == (21_843, "v2", 0.05)
        (stage,) = stages.of_run(recipe, 100.0)
        assert stage.image_size == recipe.resolved_variant().resolution == 224

    @pytest.mark.parametrize("variant, size", [("b0", 224), ("b2", 256), ("b3", 288), ("xl", 512)])
    def test_from_one_to_the_other(self, variant, size):
        recipe = RECIPES[f"imagenet-v2-{variant}-21k-ft1k"]
        (stage,) = stages.of_run(recipe, 100.0)
        assert stage.image_size == size  # main.py: int(260 * 1.0) // 16 * 16
        assert (recipe.epochs, recipe.batch_size, recipe.schedule) == (15, 512, "constant")
        assert recipe.learning_rate() == pytest.approx(0.001)
        assert (recipe.ema_decay, recipe.label_smoothing) == (0.9996, 0.1)
        assert (recipe.dropout_rate, recipe.drop_connect_rate) == (1e-6, 0.2)
        assert (recipe.crops, recipe.crop_area_min, recipe.cutout) == ("whole", 1, 0.5)
        assert recipe.init_weights == "imagenet21k"

    def test_say_what_was_published(self):
        assert "top-1 83.9 % (google/automl" in ABOUT["imagenet-v2-s"]
        assert "top-1 87.2 % (google/automl" in ABOUT["imagenet-v2-xl-21k-ft1k"]
        assert "top-1 none published." in ABOUT["imagenet-v2-xl"]
