"""CondConv's weights: Google's checkpoints with averages, timm's, and names of published ones."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from effnet_tf import InputError, load_weights, model_fn
from effnet_tf.variants import CONDCONVS, published_top1
from effnet_tf.weights import pixels, published, timm_names
from effnet_tf.weights.model_names import canonical
from tests.helpers import files, goldens, tiny_condconv
from tests.helpers.tiny_condconv import IMAGES, SHAPE, build

# Our names of a block's convolutions, and of batch norms by whether it expands.
NORMS = {True: ["expand_bn", "bn", "project_bn"], False: ["bn", "project_bn"]}
BATCH_NORM = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean"}
BATCH_NORM |= {"moving_variance": "running_var"}


@pytest.fixture(scope="module")
def owner():
    return build()


def assert_same(model, owner):
    expected = np.asarray(owner(IMAGES))
    assert np.abs(model(IMAGES) - expected).max() < 1e-5 * expected.std()


def places(owner):
    """Yields (canonical name, block or None, layer, leaf, whether its block expands)."""
    keys = list(canonical(owner))
    for key in keys:
        layer, _, leaf = key.rpartition("/")
        block, _, inside = layer.partition("/")
        if not inside:
            yield key, None, layer, leaf, False
        else:
            number = int(block.removeprefix("blocks_"))
            yield key, number, inside, leaf, f"{block}/expand_conv/kernel" in keys


class TestGoogles:
    @pytest.mark.slow
    @pytest.mark.parametrize("name", goldens.condconvs())
    def test_averages_give_the_original_logits(self, name, tmp_path):
        golden = goldens.read(name)
        prefix = files.write_tf1(tmp_path, files.seeded(golden), f"efficientnet-{name}")
        model = files.classifier(name, golden)
        report = load_weights(model, prefix)
        assert files.logits_error(model, golden) < 1e-5
        assert report.exact and report.ema is True and report.variants == (name,)

    def checkpoint(self, folder, owner):
        """As the original names them: Keras' layers of a class are numbered over the network."""
        variables, counts, found = canonical(owner), {}, {}
        for key, number, layer, leaf, expands in places(owner):
            name = f"x/{_googles(number, layer, leaf, expands, variables[key], counts)}"
            found[name] = variables[key].numpy()
        assert len(found) == len(variables)
        return files.write_tf1(folder, found, "efficientnet-condconv-b0-4e")

    @pytest.mark.parametrize("flat", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_kernels_are_matched_by_their_order(self, owner, flat, tmp_path):
        model = build(flat=flat)
        for weight in pixels.network_weights(model):
            weight.assign(0 * weight)
        report = load_weights(model, self.checkpoint(tmp_path, owner))
        assert report.exact and report.ema is True
        pixels.set_constants(model, pixels.constants_of(owner))
        assert_same(model, owner)


def _googles(number, layer, leaf, expands, variable, counts):
    """What the original calls a variable; `counts` are the numbers of kernels so far."""
    if number is None:
        part = {"stem": "stem", "top": "head", "predictions": "head"}[layer.split("_")[0]]
        kinds = {"conv": "conv2d", "bn": "tpu_batch_normalization", "predictions": "dense"}
        return f"{part}/{kinds[layer.split('_')[-1]]}/{leaf}"
    place = f"blocks_{number}"
    if layer == "routing":
        return f"{place}/dense/{leaf}"
    if len(variable.shape) == 2 and layer == "dwconv":
        count = counts["dw"] = counts.get("dw", -1) + 1
        kind = f"depthwise_cond_conv2d_{count}".removesuffix("_0")
        return f"model/{place}/{kind}/depthwise_condconv_kernel"
    if len(variable.shape) == 2:
        counts["full"] = counts.get("full", 0) + (2 if layer == "expand_conv" else 1)
        return f"model/{place}/cond_conv2d_{counts['full']}/condconv_kernel"
    if layer == "dwconv":
        return f"{place}/depthwise_conv2d/depthwise_kernel"
    if layer in NORMS[expands]:
        kind = f"tpu_batch_normalization_{NORMS[expands].index(layer)}".removesuffix("_0")
        return f"{place}/{kind}/{leaf}"
    convolutions = {"se/reduce": "se/conv2d", "se/expand": "se/conv2d_1", "expand_conv": "conv2d"}
    convolutions["project_conv"] = "conv2d_1" if expands else "conv2d"
    return f"{place}/{convolutions[layer]}/{leaf}"


class TestTimms:
    """Of tf_efficientnet_cc_*, whose blocks all expand where they have experts."""

    @pytest.fixture(scope="class")
    def owner(self):
        return build()

    def folder(self, folder, owner, **said):
        state = {}
        for key, number, layer, leaf, expands in places(owner):
            value = canonical(owner)[key].numpy()
            state[_timms(number, layer, leaf, expands)] = _pytorch(value, layer, owner, number)
        save_file(state, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(said))
        return folder

    @pytest.mark.parametrize("flat", [False, pytest.param(True, marks=pytest.mark.slow)])
    def test_kernels_are_turned_round(self, owner, flat, tmp_path):
        constants = {"mean": [0.5] * 3, "std": [0.5] * 3}
        folder = self.folder(
            tmp_path, owner, architecture="tf_efficientnet_cc_b0_4e", pretrained_cfg=constants
        )
        model = build(flat=flat)
        for weight in pixels.network_weights(model):
            weight.assign(0 * weight)
        report = load_weights(model, folder)
        assert not (report.missing or report.unused or report.reshaped)
        np.testing.assert_allclose(pixels.constants_of(model), np.full((2, 3), 127.5), rtol=1e-5)
        pixels.set_constants(model, pixels.constants_of(owner))
        assert_same(model, owner)

    @pytest.mark.slow
    def test_who_says_nothing_is_of_the_original_family(self, owner, tmp_path):
        """Of timm's own there are no weights."""
        folder = self.folder(tmp_path, owner)
        model = model_fn(
            tiny_condconv.row(), 3, input_shape=SHAPE, classifier_activation=None, weights=folder
        )
        assert_same(model, owner)

    @pytest.mark.parametrize(
        "name, said",
        [
            ("tf_efficientnet_cc_b0_4e.in1k", ("tf",)),
            ("hf_hub:timm/tf_efficientnet_cc_b1_8e.in1k", ("tf",)),
            ("efficientnet_cc_b0_8e", ("timm",)),
        ],
    )
    def test_names(self, name, said):
        assert timm_names.families("a.pth", name) == said

    def test_others_are_none_of_ours(self):
        with pytest.raises(InputError, match="which is another network"):
            timm_names.families("a.pth", "tf_efficientnet_cc_b2_8e")


def _timms(number, layer, leaf, expands):
    if layer.endswith("bn"):
        leaf = BATCH_NORM[leaf]
    leaf = {"kernel": "weight"}.get(leaf, leaf)
    if number is None:
        outside = {"stem_conv": "conv_stem", "stem_bn": "bn1", "top_conv": "conv_head"}
        outside |= {"top_bn": "bn2", "predictions": "classifier"}
        return f"{outside[layer]}.{leaf}"
    names = {bn: f"bn{index}" for index, bn in enumerate(NORMS[expands], 1)}
    names |= {"expand_conv": "conv_pw", "dwconv": "conv_dw", "routing": "routing_fn"}
    names |= {"project_conv": "conv_pwl" if expands else "conv_pw"}
    names |= {"se/reduce": "se.conv_reduce", "se/expand": "se.conv_expand"}
    stage, index = ((0, 0), (1, 0), (1, 1), (2, 0))[number]
    return f"blocks.{stage}.{index}.{names[layer]}.{leaf}"


def _pytorch(value, layer, owner, number):
    """A variable in PyTorch's layout; of experts each row is a kernel, (O, I, H, W) in C order."""
    if layer in ("expand_conv", "dwconv", "project_conv") and value.ndim == 2:
        norm = {"expand_conv": "expand_bn", "dwconv": "bn", "project_conv": "project_bn"}[layer]
        filters = canonical(owner)[f"blocks_{number}/{norm}/gamma"].shape[0]
        kernels = value.reshape(len(value), -1, filters)  # (experts, h w in, out)
        return np.ascontiguousarray(kernels.transpose(0, 2, 1).reshape(value.shape))
    if value.ndim == 4:
        value = value.transpose((2, 3, 0, 1) if layer == "dwconv" else (3, 2, 0, 1))
    return np.ascontiguousarray(value.T if value.ndim == 2 else value)


class TestPublished:
    @pytest.mark.parametrize(
        "variant, top1", [("b0-4e", 77.8), ("b0-8e", 78.3), ("b0-8e-depth", 79.5)]
    )
    def test_places_pixels_and_accuracies(self, variant, top1, monkeypatch, tmp_path):
        asked = {}
        monkeypatch.setattr(
            keras.utils, "get_file", lambda **options: asked.update(options) or str(tmp_path)
        )
        _, constants = published.fetch("imagenet", f"condconv-{variant}")
        assert asked["origin"] == (
            "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientnet/condconv/"
            f"efficientnet-condconv-{variant}.tar.gz"
        )
        assert constants == ((127.0,) * 3, (128.0,) * 3)
        assert published_top1("imagenet", f"condconv-{variant}") == top1

    def test_all_have_those_of_imagenet(self):
        for row in CONDCONVS.values():
            assert published.find("imagenet", row.name).preprocessing == "lite"


@pytest.mark.slow
def test_a_kernel_of_other_experts_is_refused(owner, tmp_path):
    owner.save_weights(tmp_path / "a.weights.h5")
    row = tiny_condconv.row()
    stages = tuple(dataclasses.replace(stage, experts=2 * stage.experts) for stage in row.stages)
    other = model_fn(dataclasses.replace(row, stages=stages), 3, input_shape=SHAPE)
    with pytest.raises(InputError, match="reshaped"):
        load_weights(other, tmp_path / "a.weights.h5")
