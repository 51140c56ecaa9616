"""EfficientNetV2's weights: Google's checkpoints, keras.applications' files, timm's."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import effnet_tf
from effnet_tf import InputError, load_weights
from effnet_tf.variants import EFFICIENTNETS_V2, published_top1
from effnet_tf.weights import loading, pixels, published, timm_names
from effnet_tf.weights.model_names import canonical
from tests.helpers import files, goldens, tiny_net, tiny_v2
from tests.weights.test_families import pytorch_state

SHAPE = (48, 33, 3)
IMAGES = np.random.default_rng(0).uniform(0, 255, (2, *SHAPE)).astype("float32")
KINDS = ("conv", "conv", "fused", "fused", "inverted", "inverted")  # of the tiny one's blocks


def build(name="v2-b0", classes=3, **options):
    options = {"input_shape": SHAPE, "classifier_activation": None} | options
    return effnet_tf.model_fn(tiny_v2.row(name), classes, **options)


@pytest.fixture(scope="module")
def owner():
    keras.utils.set_random_seed(0)
    return tiny_net.randomise_batch_norm(build())


def assert_same(model, owner):
    expected = np.asarray(owner(IMAGES))
    assert np.abs(model(IMAGES) - expected).max() < 1e-5 * expected.std()


class TestGoogles:
    """Of automl's code, whose names are those of the goldens."""

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["v2-b0", "v2-b3", "v2-s"])
    def test_averages_give_the_original_logits(self, name, tmp_path):
        golden = goldens.read(name)
        prefix = files.write_tf1(tmp_path, files.seeded(golden), f"efficientnet{name}")
        model = files.classifier(name, golden)
        report = load_weights(model, prefix)
        assert files.logits_error(model, golden) < 1e-5
        assert report.exact and report.ema is True and report.variants == (name,)

    def checkpoint(self, folder, owner, head="head"):
        found = {}
        for key, variable in canonical(owner).items():
            found[f"x/{_googles(key, head)}"] = variable.numpy()
        return files.write_tf1(folder, found, "efficientnetv2-b0")

    def test_the_head_may_be_counted(self, owner, tmp_path):
        """As today's TensorFlow names it."""
        model = build(weights=self.checkpoint(tmp_path, owner, "head_1"))
        assert_same(model, owner)

    def test_of_21k_the_pixels_are_known(self, tmp_path):
        """Also where its classifier is not taken."""
        prefix = self.checkpoint(tmp_path, build(classes=21_843))
        model = build(classes=5)
        assert pixels.constants_of(model)[0][0] == pytest.approx(123.675)
        load_weights(model, prefix, adapt=True)
        assert pixels.constants_of(model) == ([128.0] * 3, [128.0] * 3)


def _googles(key, head):
    """What automl's code calls a variable of the tiny network."""
    layer, _, leaf = key.rpartition("/")
    block, _, inside = layer.partition("/")
    outside = {"stem": "stem", "top": "head", "predictions": head}
    if not inside:
        part = layer.split("_")[0]
        kinds = {"conv": "conv2d", "bn": "tpu_batch_normalization", "predictions": "dense"}
        return f"{outside[part]}/{kinds[layer.split('_')[-1]]}/{leaf}"
    kind = KINDS[int(block.removeprefix("blocks_"))]
    norms = {"conv": ["project_bn"], "fused": ["expand_bn", "project_bn"]}.get(
        kind, ["expand_bn", "bn", "project_bn"]
    )
    convolutions = ["project_conv"] if kind == "conv" else ["expand_conv", "project_conv"]
    names = dict(zip(norms, _counted("tpu_batch_normalization")))
    names |= zip(convolutions, _counted("conv2d"))
    names |= {"dwconv": "depthwise_conv2d", "se/reduce": "se/conv2d", "se/expand": "se/conv2d_1"}
    if inside == "dwconv":
        leaf = "depthwise_kernel"
    return f"{block}/{names[inside]}/{leaf}"


def _counted(name):
    return [name, f"{name}_1", f"{name}_2"]


class TestKerasApplications:
    @pytest.mark.parametrize("ending, flat", [("a.h5", True), ("a.weights.h5", False)])
    @pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
    def test_their_files(self, ending, flat, tmp_path):
        theirs = tiny_v2.theirs("v2-s", SHAPE)
        save = theirs.save_weights if ending == "a.weights.h5" else theirs.save
        save(tmp_path / ending)
        model = build("v2-s", flat=flat, classifier_activation="softmax")
        report = load_weights(model, tmp_path / ending)
        assert report.exact
        np.testing.assert_allclose(model(IMAGES), theirs(IMAGES), rtol=1e-4, atol=1e-6)

    def test_a_file_without_its_classifier(self, tmp_path):
        theirs = tiny_v2.theirs("v2-b0", SHAPE, include_top=False)
        theirs.save_weights(tmp_path / "a.weights.h5")
        model = build(weights=tmp_path / "a.weights.h5", include_top=False)
        np.testing.assert_allclose(model(IMAGES), theirs(IMAGES), rtol=1e-4, atol=1e-5)


class TestTimms:
    @pytest.fixture(scope="class")
    def folder(self, owner, tmp_path_factory):
        """What timm saves of its tf_efficientnetv2_s, whose pixels are x / 127.5 - 1."""
        folder = tmp_path_factory.mktemp("timm")
        save_file(pytorch_state(owner, _timms), folder / "model.safetensors")
        constants = {"mean": [0.5] * 3, "std": [0.5] * 3}
        said = {"architecture": "tf_efficientnetv2_s", "pretrained_cfg": constants}
        (folder / "config.json").write_text(json.dumps(said))
        return folder

    def test_they_are_of_the_original_family(self, folder, owner):
        model = build(weights=folder)
        assert pixels.constants_of(model) == ([127.5] * 3, [127.5] * 3)
        pixels.set_constants(model, pixels.constants_of(owner))
        assert_same(model, owner)

    @pytest.mark.parametrize(
        "name, said",
        [
            ("tf_efficientnetv2_b3.in21k_ft_in1k", ("tf",)),
            ("hf_hub:timm/tf_efficientnetv2_xl.in21k", ("tf",)),
            ("tf_efficientnetv2_s_in21ft1k", ("tf",)),  # before 2023
            ("efficientnetv2_m", ("timm",)),
        ],
    )
    def test_names(self, name, said):
        assert timm_names.families("a.pth", name) == said

    @pytest.mark.parametrize("name", ["efficientnetv2_rw_s.ra2_in1k", "gc_efficientnetv2_rw_t"])
    def test_others_of_timms_are_no_ours(self, name, folder, tmp_path):
        if name.startswith("gc"):
            assert timm_names.families("a.pth", name) == ()
            return
        with pytest.raises(InputError, match="which is another network"):
            timm_names.families("a.pth", name)


def _timms(layer):
    outside = {"stem_conv": "conv_stem", "stem_bn": "bn1", "top_conv": "conv_head"}
    outside |= {"top_bn": "bn2", "predictions": "classifier"}
    block, _, inside = layer.partition("/")
    if not inside:
        return outside[layer]
    number = int(block.removeprefix("blocks_"))
    names = {
        "conv": {"project_conv": "conv", "project_bn": "bn1"},
        "fused": {"expand_conv": "conv_exp", "expand_bn": "bn1"},
        "inverted": {
            "expand_conv": "conv_pw",
            "expand_bn": "bn1",
            "dwconv": "conv_dw",
            "bn": "bn2",
        },
    }[KINDS[number]]
    ends = {"project_conv": "conv_pwl", "project_bn": f"bn{2 + (KINDS[number] == 'inverted')}"}
    ends |= {"se/reduce": "se.conv_reduce", "se/expand": "se.conv_expand"}
    return f"blocks.{number // 2}.{number % 2}.{({**ends, **names})[inside]}"


class TestPublished:
    """Nothing can be downloaded here: what is asked for, and where."""

    @pytest.fixture
    def asked(self, monkeypatch, tmp_path):
        found = {}
        monkeypatch.setattr(
            keras.utils, "get_file", lambda **options: found.update(options) or str(tmp_path)
        )
        return found

    @pytest.mark.parametrize(
        "name, variant, file, mean, md5",
        [
            (
                "imagenet",
                "v2-b0",
                "efficientnetv2-b0.h5",
                123.675,
                "21ecbf6da12460d5c40bb2f29ceb2188",
            ),
            ("imagenet", "v2-l", "efficientnetv2-l.h5", 128.0, "27e6d408b53c7ebc868fefa357689935"),
            ("imagenet21k", "v2-b3", "efficientnetv2-b3-21k.tgz", 128.0, None),
            ("imagenet21k-ft1k", "v2-xl", "efficientnetv2-xl-21k-ft1k.tgz", 127.5, None),
        ],
    )
    def test_places_and_pixels(self, asked, name, variant, file, mean, md5):
        _, constants = published.fetch(name, variant)
        assert asked["origin"].endswith(f"/{file}") and asked.get("file_hash") == md5
        assert constants[0][0] == pytest.approx(mean)

    def test_each_has_those_that_there_are(self):
        for name, row in EFFICIENTNETS_V2.items():
            found = {
                weights
                for weights in published.PUBLISHED
                if any(row.name in each.variants for each in published.PUBLISHED[weights])
            }
            expected = {"imagenet", "imagenet21k", "imagenet21k-ft1k"}
            assert found == expected - ({"imagenet"} if name.endswith("XL") else set())

    def test_accuracies(self):
        assert published_top1("imagenet", "v2-s") == 83.9
        assert published_top1("imagenet21k-ft1k", "v2-xl") == 87.2

    @pytest.mark.parametrize("classes, top", [(21_843, True), (1000, False)])
    def test_the_classifier_of_21k(self, asked, monkeypatch, classes, top):
        """Which of two files is needed depends on the classes of these weights."""
        row = dataclasses.replace(
            published.PUBLISHED["imagenet21k"][0], md5={"v2-b0": ("with", "without")}
        )
        monkeypatch.setitem(published.PUBLISHED, "imagenet21k", (row,))
        model = build(classes=classes)
        variables = canonical(model)
        loading._fetch("imagenet21k", model, variables, ["v2-b0"], None)
        assert asked["file_hash"] == ("with" if top else "without")

    @pytest.mark.slow
    def test_the_largest_has_none_of_imagenet_alone(self):
        with pytest.raises(InputError, match="'v2-xl'; it has 'imagenet21k'"):
            effnet_tf.EfficientNetV2XL(weights="imagenet", include_top=False)
