"""Whose weights a file holds, and that no model gets those of a network that computes otherwise.

With state dicts and files of tiny networks, as their owners would write them; test_peers.py has the
real ones.
"""

import dataclasses
import json

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import effnet_tf
from effnet_tf import InputError, variants
from effnet_tf.recipes import Recipe
from effnet_tf.weights import agreement, names, reading, tf_checkpoints
from effnet_tf.weights.model_names import canonical
from tests.helpers import flat_net, tiny_net
from tests.helpers.files import assert_untouched
from tests.helpers.torch_pickles import Writer

B0 = variants.VARIANTS["b0"]
TINY = dataclasses.replace(
    B0,
    name="tiny",
    stem_filters=8,
    head_filters=16,
    stages=(B0.stages[0], dataclasses.replace(B0.stages[2], filters=8, input_filters=16)),
)
SIZE = (38, 33)  # sides even and odd before strides
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3)).astype("float32")
BATCH_NORM = dict(zip(names.BATCH_NORM, ("weight", "bias", "running_mean", "running_var")))


def build(family=None, **options):
    options = {"input_shape": (*SIZE, 3), "classifier_activation": None} | options
    return effnet_tf.model_fn(TINY, 3, family=family, **options)


@pytest.fixture(scope="module")
def owners():
    """{family: a network of it with statistics}."""
    keras.utils.set_random_seed(0)
    return {family: tiny_net.randomise_batch_norm(build(family)) for family in ("tf", "timm")}


def pytorch_state(model, name):
    """A state dict of a model; `name` says what a layer is called, by our canonical name."""
    found = {}
    for key, variable in canonical(model).items():
        layer, _, leaf = key.rpartition("/")
        value = variable.numpy()
        if value.ndim == 4:
            value = value.transpose((2, 3, 0, 1) if layer.endswith("dwconv") else (3, 2, 0, 1))
        leaf = BATCH_NORM.get(leaf, {"kernel": "weight"}.get(leaf, leaf))
        found[f"{name(layer)}.{leaf}"] = np.ascontiguousarray(value.T if value.ndim == 2 else value)
    return found


def timm_layer(layer):
    block, _, inside = layer.rpartition("/") if "se/" not in layer else layer.partition("/")
    outside = {"stem_conv": "conv_stem", "stem_bn": "bn1", "top_conv": "conv_head", "top_bn": "bn2"}
    if not block:
        return outside.get(layer, "classifier")
    expanding = ("bn1", "bn2", "bn3") if block != "blocks_0" else ("", "bn1", "bn2")
    theirs = dict(zip(("expand_bn", "bn", "project_bn"), expanding))
    theirs |= {"expand_conv": "conv_pw", "dwconv": "conv_dw", "project_conv": "conv_pwl"}
    theirs |= {"se/reduce": "se.conv_reduce", "se/expand": "se.conv_expand"}
    if block == "blocks_0":
        theirs["project_conv"] = "conv_pw"
    place = {"blocks_0": "0.0", "blocks_1": "1.0", "blocks_2": "1.1"}[block]
    return f"blocks.{place}.{theirs[inside]}"


def torchvision_layer(layer):
    block, _, inside = layer.rpartition("/") if "se/" not in layer else layer.partition("/")
    outside = {
        "stem_conv": "features.0.0",
        "stem_bn": "features.0.1",
        "top_conv": "features.3.0",
        "top_bn": "features.3.1",
    }
    if not block:
        return outside.get(layer, "classifier.1")
    parts = [("expand_conv", "expand_bn"), ("dwconv", "bn"), ("se/reduce", "se/expand")]
    parts.append(("project_conv", "project_bn"))
    if block == "blocks_0":
        del parts[0]
    (part,) = (number for number, pair in enumerate(parts) if inside in pair)
    own = parts[part].index(inside)
    if "se/" in inside:
        own = f"fc{own + 1}"
    place = {"blocks_0": "1.0", "blocks_1": "2.0", "blocks_2": "2.1"}[block]
    return f"features.{place}.block.{part}.{own}"


def assert_same(model, owner):
    expected = np.asarray(owner(IMAGES))
    assert np.abs(model(IMAGES) - expected).max() < 1e-5 * expected.std()


class TestRows:
    def test_tf_is_what_the_rows_are(self):
        for name, row in variants.VARIANTS.items():
            assert variants.in_family(name, "tf") == variants.in_family(name, None) == row

    @pytest.mark.parametrize(
        "family, name, epsilon, classes, side",
        [
            ("timm", "b5", 1e-5, 1000, 456),
            ("timm", "edgetpu-s", 1e-5, 1000, 224),
            ("torchvision", "b2", 1e-5, 1000, 288),
            ("torchvision", "b4", 1e-5, 1000, 380),
            ("torchvision", "b5", 1e-3, 1000, 456),
            ("torchvision", "b7", 1e-3, 1000, 600),
            ("keras_hub", "lite0", 1e-5, 1000, 224),
        ],
    )
    def test_others(self, family, name, epsilon, classes, side):
        row = variants.in_family(name, family)
        assert (row.padding, row.batch_norm_epsilon) == ("symmetric", epsilon)
        assert (row.num_classes, row.resolution) == (classes, side)
        assert (row.mean, row.std) == (variants.IMAGENET_MEAN, variants.IMAGENET_STD)

    def test_an_unknown_family(self):
        with pytest.raises(InputError, match="'lukemelas'; it must be one of 'tf', 'timm', 'torch"):
            effnet_tf.model_fn("b0", family="lukemelas")
        with pytest.raises(InputError, match="family is 'x'; it must be one of tf, timm"):
            Recipe(family="x")

    def test_a_recipe_has_it(self):
        assert Recipe(variant="b5").resolved_variant().padding == "same"
        row = Recipe(variant="b5", family="torchvision").resolved_variant()
        assert (row.padding, row.batch_norm_epsilon) == ("symmetric", 1e-3)

    def test_the_constructors_have_it(self):
        options = dict(weights=None, input_shape=(32, 32, 3))
        model = effnet_tf.EfficientNetEdgeTPUSmall(family="timm", **options)
        assert model.output.shape[-1] == 1000
        assert model.get_layer("stem_conv_pad").padding == ((1, 1), (1, 1))


class TestTimmsNames:
    @pytest.fixture(scope="class")
    def bare(self, owners, tmp_path_factory):
        """A file that says nothing of the networks that it may be of."""
        path = tmp_path_factory.mktemp("timm") / "model.safetensors"
        save_file(pytorch_state(owners["timm"], timm_layer), path)
        return path

    @pytest.mark.parametrize("strict", [True, False])
    def test_the_user_is_asked(self, bare, strict):
        model = build()
        before = model.get_weights()
        with pytest.raises(InputError, match="does not say whether .*family='timm'.*family='tf'"):
            effnet_tf.load_weights(model, bare, strict=strict)
        assert_untouched(model, before)

    def test_who_builds_a_model_is_asked(self, bare):
        with pytest.raises(InputError, match="does not say whether .*--family"):
            build(weights=bare)

    @pytest.mark.parametrize("flat", [True, False])
    def test_what_the_user_says_is_built(self, bare, flat, owners):
        assert_same(build("timm", weights=bare, flat=flat), owners["timm"])
        other = np.asarray(build("tf", weights=bare, flat=flat)(IMAGES))
        expected = np.asarray(owners["timm"](IMAGES))
        assert np.abs(other - expected).max() > 0.01 * expected.std()  # hence the question

    def test_a_model_that_can_only_be_timms_says_it(self, bare, owners):
        model = build("timm")
        assert effnet_tf.load_weights(model, bare).exact
        assert_same(model, owners["timm"])

    def test_a_model_of_the_other_family_is_refused(self, bare):
        for family, other, padding in (("timm", "tf", "same"), ("tf", "timm", "symmetric")):
            model = build(other)
            before = model.get_weights()
            with pytest.raises(
                InputError,
                match=f"of family '{family}'.*this model has padding '{padding}'.*would compute "
                f"something else .*model_fn\\(..., family='{family}', weights=...\\)",
            ):
                effnet_tf.load_weights(model, bare, family=family)
            assert_untouched(model, before)

    @pytest.mark.parametrize(
        "said",
        ["efficientnet_b0", "efficientnet_b0.ra_in1k", "hf_hub:timm/efficientnet_b0.ra_in1k"],
    )
    def test_a_file_that_says_it_is_timms_own(self, said, owners, tmp_path, capsys):
        writer, path = Writer(), tmp_path / "model.pth.tar"
        state = writer.state(pytorch_state(owners["timm"], timm_layer))
        path.write_bytes(writer.file({"state_dict": state, "arch": said}))
        assert_same(build(weights=path), owners["timm"])
        line = "the model is built with family='timm', of which these are."
        assert f"{path}: {line}" in capsys.readouterr().out
        with pytest.raises(InputError, match="of family 'timm', not of 'tf': leave family="):
            build("tf", weights=path)

    def test_pixels_of_its_configuration(self, owners, tmp_path):
        save_file(pytorch_state(owners["timm"], timm_layer), tmp_path / "model.safetensors")
        constants = {"mean": [0.5] * 3, "std": [0.5] * 3}
        said = {"architecture": "efficientnet_b0", "pretrained_cfg": constants}
        (tmp_path / "config.json").write_text(json.dumps(said))
        model = build(weights=tmp_path)
        owner = build("timm", preprocessing="inception")
        owner.set_weights(owners["timm"].get_weights())
        for layer, mine in zip(owner.layers, model.layers):
            if isinstance(layer, effnet_tf.layers.Normalize):
                layer.set_weights(mine.get_weights())
                np.testing.assert_allclose(mine.mean, 127.5)
        assert_same(model, owner)

    @pytest.mark.parametrize(
        "said", ["efficientnet_b3_pruned", "efficientnetv2_rw_s.ra2_in1k", "efficientnet_b0_gn"]
    )
    def test_networks_that_are_none_of_ours_are_named(self, said, owners, tmp_path):
        writer, path = Writer(), tmp_path / "model.pth"
        state = writer.state(pytorch_state(owners["timm"], timm_layer))
        path.write_bytes(writer.file({"state_dict": state, "arch": said}))
        with pytest.raises(InputError, match=f"of timm's {said.partition('.')[0]}, which is anoth"):
            build(weights=path)

    def test_a_name_that_says_nothing(self, owners, tmp_path):
        writer, path = Writer(), tmp_path / "model.pth"
        state = writer.state(pytorch_state(owners["timm"], timm_layer))
        path.write_bytes(writer.file({"state_dict": state, "arch": "efficientnet"}))
        with pytest.raises(InputError, match="does not say whether"):
            build(weights=path)

    def test_another_network_is_called_so(self, bare):
        with pytest.raises(
            InputError, match=r"\.safetensors of timm\) holds a network that is none of .*is b0"
        ):
            effnet_tf.load_weights(effnet_tf.model_fn("b0", include_top=False), bare, family="tf")


class TestTorchvision:
    @pytest.mark.parametrize("flat", [True, False])
    def test_the_right_network_is_built(self, flat, owners, tmp_path, capsys):
        path = tmp_path / "efficientnet.pth"
        writer = Writer()
        state = pytorch_state(owners["timm"], torchvision_layer)
        state["features.0.1.num_batches_tracked"] = np.zeros((), "int64")
        path.write_bytes(writer.file(writer.state(state)))
        assert reading.families(str(path), 1 << 30) == ("torchvision",)
        assert_same(build(weights=path, flat=flat), owners["timm"])
        assert "built with family='torchvision'" in capsys.readouterr().out
        with pytest.raises(
            InputError, match="of family 'torchvision', whose networks have padding"
        ):
            effnet_tf.load_weights(build(), path)


class TestKerasHub:
    RENAMED = {"_bn": "_dwconv_bn", "_project_conv": "_project"}

    @pytest.fixture(scope="class")
    def hub(self, owners):
        """A flat network under the names of keras_hub, with nothing that scales pixels."""
        model = build("timm", flat=True, preprocessing=False)
        wanted = owners["timm"].weights[-len(model.weights) :]
        for mine, theirs in zip(model.weights, wanted, strict=True):
            mine.assign(theirs)
        for layer in model.layers:
            for ours, theirs in self.RENAMED.items():
                if layer.name.startswith("block") and layer.name[7:] == ours:
                    layer.name = layer.name[:7] + theirs
        return model

    def test_weights(self, hub, owners, tmp_path, capsys):
        hub.save_weights(tmp_path / "m.weights.h5")
        assert_same(build(weights=tmp_path / "m.weights.h5"), owners["timm"])
        assert "built with family='keras_hub'" in capsys.readouterr().out
        with pytest.raises(InputError, match="of family 'keras_hub', whose networks"):
            effnet_tf.load_weights(build(), tmp_path / "m.weights.h5")

    def test_the_folder_of_a_preset(self, hub, owners, tmp_path):
        backbone = keras.Model(hub.input, hub.get_layer("top_activation").output)
        backbone.save_weights(tmp_path / "model.weights.h5")
        scores = hub.get_layer("predictions")
        head = keras.Sequential([keras.Input((16,)), keras.layers.Dense(3, name="predictions")])
        head.set_weights(scores.get_weights())
        head.save_weights(tmp_path / "task.weights.h5")
        self.write_configurations(tmp_path)
        model = build(weights=tmp_path, preprocessing="inception")
        assert_same(model, owners["timm"])  # the pixels are the preset's

    @pytest.mark.parametrize(
        "change",
        [
            {"stackwise_block_types": ["fused", "unfused"]},
            {"batch_norm_epsilon": 1e-3},
            {"stem_conv_padding": "same"},
        ],
    )
    def test_other_networks_of_keras_hub(self, change, hub, tmp_path):
        hub.save_weights(tmp_path / "model.weights.h5")
        self.write_configurations(tmp_path, **change)
        with pytest.raises(
            InputError, match="keras_hub's that is no EfficientNet-B0 to B5 or Lite"
        ):
            build(weights=tmp_path)

    def write_configurations(self, folder, **change):
        settings = {
            "stackwise_block_types": ["v1", "v1"],
            "include_stem_padding": True,
            "stem_conv_padding": "valid",
            "batch_norm_epsilon": 1e-5,
        }
        backbone = {
            "class_name": "EfficientNetBackbone",
            "registered_name": "keras_hub>EfficientNetBackbone",
            "config": settings | change,
        }
        (folder / "config.json").write_text(json.dumps(backbone))
        mean, std = np.array(variants.IMAGENET_MEAN), np.array(variants.IMAGENET_STD)
        converter = {
            "class_name": "EfficientNetImageConverter",
            "config": {"scale": list(1 / std), "offset": list(-mean / std)},
        }
        said = {"config": {"image_converter": converter}}
        (folder / "preprocessor.json").write_text(json.dumps(said))


class TestWhatAModelComputes:
    """`agreement.require`: silent where it is the family's, else an error."""

    @staticmethod
    def fits(model, family, row=TINY):
        try:
            agreement.require(model, "file", (family,), None, row)
        except InputError:
            return False
        return True

    @pytest.mark.parametrize("flat", [True, False])
    @pytest.mark.parametrize("sides", [(None, None), (33, 64)])
    def test_by_padding_and_epsilon(self, flat, sides):
        for padding, epsilon, family in (
            ("same", 1e-3, "tf"),
            ("symmetric", 1e-5, "timm"),
            ("same", 1e-5, None),
            ("symmetric", 1e-3, None),
        ):
            row = dataclasses.replace(TINY, padding=padding, batch_norm_epsilon=epsilon)
            model = effnet_tf.model_fn(row, 3, input_shape=(*sides, 3), flat=flat)
            for each in ("tf", "timm"):
                assert self.fits(model, each) == (each == family), (padding, epsilon, each)

    def test_odd_sides_are_padded_alike(self):
        row = dataclasses.replace(TINY, batch_norm_epsilon=1e-5)
        model = effnet_tf.model_fn(row, 3, input_shape=(33, 65, 3), flat=True)
        assert self.fits(model, "timm")

    @pytest.mark.parametrize("side", [None, 64])
    def test_networks_of_keras_applications(self, side):
        model = flat_net.tiny(side)
        assert self.fits(model, "tf", "b0") and not self.fits(model, "timm", "b0")

    def test_inside_other_models(self):
        inputs = keras.Input((64, 64, 3))
        x = keras.layers.BatchNormalization(epsilon=0.1)(inputs)  # the user's own
        for flat in (True, False):
            inner = build("timm", input_shape=(64, 64, 3), flat=flat)
            assert self.fits(keras.Model(inputs, inner(x)), "timm")


class TestOtherSources:
    def test_published_weights_are_googles(self):
        with pytest.raises(InputError, match="'imagenet' holds weights of family 'tf', not of 'ti"):
            effnet_tf.model_fn("b0", weights="imagenet", family="timm")
        model = effnet_tf.model_fn("b0", family="timm", include_top=False)
        with pytest.raises(InputError, match="'imagenet' holds weights of family 'tf', whose netw"):
            effnet_tf.load_weights(model, "imagenet")

    @pytest.mark.parametrize(
        "said, families",
        [
            ({"variant": "b0"}, ("tf",)),
            ({"variant": "b0", "family": None}, ("tf",)),
            ({"variant": "b0", "family": "timm"}, ("timm",)),
            ({"variant": "a row of one's own"}, ()),
        ],
    )
    def test_a_run_says_it_in_its_recipe(self, said, families, tmp_path):
        (tmp_path / "recipe.json").write_text(json.dumps(said))
        prefix = str(tmp_path / "checkpoints" / "ckpt-1" / "state")
        assert tf_checkpoints.families(prefix) == families
        assert tf_checkpoints.families(str(tmp_path / "model.ckpt-1")) == ()

    @pytest.mark.parametrize("flat", [True, False])
    @pytest.mark.parametrize("ending", [".keras", ".h5"])
    def test_a_whole_model_says_it(self, flat, ending, tmp_path, capsys):
        for family in ("tf", "timm"):
            model = build(family, flat=flat)
            model.save(tmp_path / f"m{ending}")
            said = reading.families(str(tmp_path / f"m{ending}"), 1 << 30)
            assert said[0] == family and ("tf" in said) == (family == "tf")
        again = build(weights=tmp_path / f"m{ending}")
        assert "built with family='timm'" in capsys.readouterr().out
        assert np.abs(again(IMAGES) - model(IMAGES)).max() < 1e-4
        with pytest.raises(InputError, match="of family 'timm', whose networks"):
            effnet_tf.load_weights(build(), tmp_path / f"m{ending}")

    def test_what_says_nothing_is_taken_as_the_model_is(self, owners, tmp_path):
        owners["timm"].save_weights(tmp_path / "m.weights.h5")
        model = build("timm", weights=tmp_path / "m.weights.h5", flat=True)
        assert_same(model, owners["timm"])
        with pytest.raises(InputError, match="of family 'timm'.*this model has padding 'same'"):
            effnet_tf.load_weights(build(), tmp_path / "m.weights.h5", family="timm")
