"""torch_files.py: state dicts give the logits of their networks, whoever named the layers."""

import json
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

import effnet_tf
from effnet_tf import InputError
from effnet_tf.weights import (
    contents,
    hugging_face_names,
    lukemelas_names,
    names,
    pixels,
    reading,
    timm_names,
    torch_files,
)
from tests.helpers import goldens, tiny_net
from tests.helpers.files import TIMM, assert_untouched, timm_state
from tests.helpers.torch_pickles import Raw, Writer, call, name, push

TINY = tiny_net.scaled(-8)


def timm_logits_error(name, path):
    variant = {"es": "edgetpu-s"}.get(name.split("_")[-1], name.split("_")[-1])
    height, width = TIMM[name]["size"]
    model = effnet_tf.model_fn(
        variant,
        1000,
        input_shape=(height, width, 3),
        weights=str(path),
        classifier_activation=None,
        preprocessing="inception",
        family="tf",
    )
    expected = np.asarray(TIMM[name]["logits"])
    return np.abs(model(goldens.images(height, width)) - expected).max() / expected.std()


class TestTimm:
    @pytest.mark.parametrize("name", TIMM)
    def test_safetensors_give_timms_logits(self, name, tmp_path):
        save_file(timm_state(name), tmp_path / "model.bin")
        assert timm_logits_error(name, tmp_path / "model.bin") < 2e-5

    def test_half_precision(self, tmp_path):
        save_file(
            {
                key: value.astype("float16") if value.dtype == np.float32 else value
                for key, value in timm_state("tf_efficientnet_b0").items()
            },
            tmp_path / "half.safetensors",
        )
        assert timm_logits_error("tf_efficientnet_b0", tmp_path / "half.safetensors") < 0.05

    def test_a_damaged_one(self, tmp_path):
        from safetensors.numpy import save

        content = save(timm_state("tf_efficientnet_b0"))
        (tmp_path / "half").write_bytes(content[: len(content) // 2])
        with pytest.raises(InputError, match="is damaged"):
            effnet_tf.model_fn("b0", weights=str(tmp_path / "half"))

    @pytest.mark.parametrize("zipped", [True, False])
    def test_pth_without_torch(self, zipped, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        name, writer = "tf_efficientnet_lite0", Writer(zipped)
        content = writer.file(writer.state(timm_state(name)))
        (tmp_path / "model.bin").write_bytes(content)
        assert timm_logits_error(name, tmp_path / "model.bin") < 2e-5

    def test_safetensors_need_no_package(self, tmp_path, monkeypatch):
        save_file(timm_state("tf_efficientnet_lite0"), tmp_path / "a.safetensors")
        monkeypatch.setitem(sys.modules, "safetensors", None)
        path = tmp_path / "a.safetensors"
        assert timm_logits_error("tf_efficientnet_lite0", path) < 2e-5

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: state,
            lambda state: {"epoch": 3, "state_dict": state},
            lambda state: {f"module.{key}": value.half() for key, value in state.items()},
        ],
    )
    def test_pth(self, wrap, tmp_path):
        torch = pytest.importorskip("torch")
        name = "tf_efficientnet_b0"
        torch.save(
            wrap({key: torch.tensor(value) for key, value in timm_state(name).items()}),
            tmp_path / "model.pth",
        )
        assert timm_logits_error(name, tmp_path / "model.pth") < 0.05

    @pytest.mark.parametrize("zipped", [True, False])
    def test_pth_that_would_run_code(self, zipped, tmp_path):
        path = call("pathlib.PurePosixPath", "x")
        (tmp_path / "model.pth").write_bytes(Writer(zipped).file({"state_dict": path}))
        with pytest.raises(InputError, match="more than tensors, .*pathlib.PurePosixPath: save"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "model.pth"))

    def test_pth_that_was_made_to_attack(self, tmp_path):
        attack = call("os.system", "touch pwned")
        (tmp_path / "model.pth").write_bytes(Writer().file({"state_dict": {}, "args": attack}))
        with pytest.raises(InputError, match="make pickle call os.system: it was made to attack"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "model.pth"))

    @pytest.mark.parametrize("saved", [{}, {"state_dict": {}}, {"a": 1, "model": {"b": "c"}}])
    def test_pth_without_tensors(self, saved, tmp_path):
        (tmp_path / "model.pth").write_bytes(Writer().file(saved))
        with pytest.raises(InputError, match=r"holds no tensors: save model.state_dict\(\)"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "model.pth"))

    @pytest.mark.parametrize("saved", [[], 3, {"model": [1]}])
    def test_pth_of_something_else(self, saved, tmp_path):
        (tmp_path / "model.pth").write_bytes(Writer().file(saved))
        with pytest.raises(InputError, match="holds no tensors by name"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "model.pth"))


LUKEMELAS = {
    "stem_conv": "_conv_stem",
    "stem_bn": "_bn0",
    "top_conv": "_conv_head",
    "top_bn": "_bn1",
    "predictions": "_fc",
    "expand_conv": "_expand_conv",
    "expand_bn": "_bn0",
    "dwconv": "_depthwise_conv",
    "bn": "_bn1",
    "se/reduce": "_se_reduce",
    "se/expand": "_se_expand",
    "project_conv": "_project_conv",
    "project_bn": "_bn2",
}
HUGGING_FACE = {
    "stem_conv": "efficientnet.embeddings.convolution",
    "stem_bn": "efficientnet.embeddings.batchnorm",
    "top_conv": "efficientnet.encoder.top_conv",
    "top_bn": "efficientnet.encoder.top_bn",
    "predictions": "classifier",
    "expand_conv": "expansion.expand_conv",
    "expand_bn": "expansion.expand_bn",
    "dwconv": "depthwise_conv.depthwise_conv",
    "bn": "depthwise_conv.depthwise_norm",
    "se/reduce": "squeeze_excite.reduce",
    "se/expand": "squeeze_excite.expand",
    "project_conv": "projection.project_conv",
    "project_bn": "projection.project_bn",
}
# Whose: (how the layers are called, what stands before the number of a block).
OWNERS = {
    lukemelas_names: (LUKEMELAS, "_blocks"),
    hugging_face_names: (HUGGING_FACE, "efficientnet.encoder.blocks"),
}


def renamed(name, owner, prefix=""):
    """The state dict of a network of timm's under the names of somebody else."""
    layers, blocks = OWNERS[owner]
    state = timm_state(name)
    ours = names.canonical(torch_files.split(state, timm_names))
    found = {}
    for key, value in state.items():
        layer = ours[key].rpartition("/")[0]
        leaf = key.rpartition(".")[2]
        number = names.block_number(layer)
        theirs = layers[layer.split("/", 1)[1]] if number is not None else layers[layer]
        block = "" if number is None else f"{blocks}.{number}."
        found[f"{prefix}{block}{theirs}.{leaf}"] = value
    assert len(found) == len(state)
    return found


class TestNamesOfOthers:
    @pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.OWNER)
    @pytest.mark.parametrize("name", ["tf_efficientnet_b0", "tf_efficientnet_lite0"])
    def test_they_give_the_same_logits(self, name, owner, tmp_path):
        save_file(renamed(name, owner), tmp_path / "model.safetensors")
        assert timm_logits_error(name, tmp_path / "model.safetensors") < 2e-5

    @pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.OWNER)
    def test_a_refusal_says_whose_file_it_is(self, owner, tmp_path):
        save_file(renamed("tf_efficientnet_lite0", owner), tmp_path / "model.safetensors")
        with pytest.raises(
            InputError, match=f"of {owner.OWNER}. .*variant lite0.*this model is b0"
        ):
            effnet_tf.load_weights(effnet_tf.model_fn("b0"), tmp_path / "model.safetensors")

    def test_the_folder_that_transformers_saves(self, tmp_path):
        name = "tf_efficientnet_lite0"
        save_file(renamed(name, hugging_face_names), tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text("{}")
        assert timm_logits_error(name, tmp_path) < 2e-5

    def test_the_folder_that_transformers_saved_before(self, tmp_path):
        state, writer = renamed("tf_efficientnet_lite0", hugging_face_names), Writer()
        (tmp_path / "pytorch_model.bin").write_bytes(writer.file(writer.state(state)))
        found, arrays = values(tmp_path)
        assert found.kind == ".pth of Hugging Face transformers" and len(arrays) == 247
        save_file({"a": np.zeros(1, "float32")}, tmp_path / "model.safetensors")  # comes first
        with pytest.raises(InputError, match="model.safetensors' holds no EfficientNet"):
            values(tmp_path)

    def test_a_network_of_torchvision_that_is_none_of_ours(self, tmp_path):
        state = {
            "features.0.0.weight": np.zeros((24, 3, 3, 3), "float32"),
            "features.1.0.block.0.0.weight": np.zeros((24, 24, 3, 3), "float32"),
            "classifier.1.bias": np.zeros(1000, "float32"),
        }
        save_file(state, tmp_path / "model.safetensors")
        with pytest.raises(InputError, match="torchvision's that is no EfficientNet-B0 to B7"):
            effnet_tf.load_weights(effnet_tf.model_fn(TINY), tmp_path / "model.safetensors")

    @pytest.mark.parametrize("kind", ["safetensors", "pth"])
    def test_names_in_a_file_steer_no_terminal(self, kind, tmp_path):
        name = "\x1b[2Jencoder.\n" + "w" * 5000
        state, writer = {name: np.zeros(3, "float32")}, Writer()
        save_file(state, tmp_path / "a.safetensors")
        (tmp_path / "a.pth").write_bytes(writer.file(writer.state(state)))
        with pytest.raises(InputError, match=r"holds \\x1b\[2Jencoder\.\\nwww") as caught:
            effnet_tf.model_fn(TINY, weights=str(tmp_path / f"a.{kind}"))
        assert str(caught.value).isprintable() and len(str(caught.value)) < 600

    def test_something_else_is_refused_by_what_it_holds(self, tmp_path):
        save_file({"encoder.w": np.zeros(3, "float32")}, tmp_path / "model.safetensors")
        with pytest.raises(
            InputError, match=r"no EfficientNet, MobileNet or ResNet-50 whose names .* encoder\.w"
        ):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "model.safetensors"))


class TestWhatTimmSaysBesideTheFile:
    def save(self, folder, config):
        save_file(timm_state("tf_efficientnet_b0"), folder / "model.safetensors")
        (folder / "config.json").write_text(config)
        return effnet_tf.model_fn("b0", include_top=False)

    @pytest.mark.parametrize("path", ["", "model.safetensors"])
    def test_a_network_of_its_own_is_not_for_this_one(self, path, tmp_path):
        model = self.save(tmp_path, json.dumps({"architecture": "efficientnet_b0"}))
        before = model.get_weights()
        with pytest.raises(InputError, match="of family 'timm'.* this model has padding 'same'"):
            effnet_tf.load_weights(model, tmp_path / path, adapt=True)
        assert_untouched(model, before)

    def test_the_pixels_reach_the_model(self, tmp_path, capsys):
        constants = {"mean": [0.5, 0.4, 0.3], "std": [0.5, 0.25, 0.2]}
        config = {"architecture": "tf_efficientnet_b0", "pretrained_cfg": constants}
        model = self.save(tmp_path, json.dumps(config))
        effnet_tf.load_weights(model, tmp_path, adapt=True)
        mean, std = pixels.constants_of(model)
        np.testing.assert_allclose(mean, [127.5, 102, 76.5])
        np.testing.assert_allclose(std, [127.5, 63.75, 51])
        assert "(x - [127.5, 102, 76.5]) / [127.5, 63.75, 51]" in capsys.readouterr().out

    @pytest.mark.parametrize("config", ["", "[1]", "{}", '{"mean": 1, "std": [1]}'])
    def test_a_configuration_of_something_else_changes_nothing(self, config, tmp_path):
        model = self.save(tmp_path, config)
        report = effnet_tf.load_weights(model, tmp_path, adapt=True, family="tf")
        assert report.variants == ("b0",) and not report.notes


NAMESPACE = Raw(name("argparse", "Namespace") + b")\x81" + push({"model": "b0", "lr": 0.1}) + b"b")


def values(path, ema=True):
    """What a file holds, read for no model in particular: {our name: array}."""
    found = reading.read(str(path), ema, contents.Target([], {}, 5_000_000))
    return found, {key: value for key, (_, value) in found.values.items()}


class TestFilesOfTrainers:
    NAME = "tf_efficientnet_lite0"

    def write(self, path, wrap, zipped=True):
        writer = Writer(zipped)
        path.write_bytes(writer.file(wrap(writer.state(timm_state(self.NAME)))))
        return path

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda state: {"epoch": 3, "arch": "tf_x", "state_dict": state, "args": NAMESPACE},
            lambda state: {
                "state_dict": {f"model.{key}": value for key, value in state.items()},
                "hyper_parameters": call("lightning.Options", "a"),
                "optimizer_states": [{"state": {0: {"step": 3}}, "lr": 0.1}],
            },
            lambda state: {"model": {f"_orig_mod.{key}": each for key, each in state.items()}},
            lambda state: {**state, "mask": call("torch._utils._rebuild_sparse_tensor", 1)},
        ],
        ids=["timm", "lightning", "compiled", "a sparse tensor"],
    )
    def test_their_tensors_are_read(self, wrap, tmp_path):
        _, found = values(self.write(tmp_path / "a.pth.tar", wrap, zipped=False))
        save_file(timm_state(self.NAME), tmp_path / "a.safetensors")
        _, expected = values(tmp_path / "a.safetensors")
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(found[key], value)

    def test_what_was_not_read_is_said(self, tmp_path, capsys):
        path = self.write(tmp_path / "a.pth", lambda state: {"model": state, "args": NAMESPACE})
        values(path)
        said = capsys.readouterr().out
        assert f"{path}: only its tensors are read, not its objects of argparse.Namespace." in said

    @pytest.mark.parametrize("key", ["state_dict_ema", "model_ema"])
    def test_averages(self, key, tmp_path):
        ones = {"conv_stem.weight": np.ones((32, 3, 3, 3), "float32")}
        writer = Writer()
        averaged, raw = (writer.state(timm_state(self.NAME) | more) for more in ({}, ones))
        (tmp_path / "a.pth").write_bytes(writer.file({key: averaged, "state_dict": raw}))
        for ema in (True, False):
            found, arrays = values(tmp_path / "a.pth", ema)
            assert found.ema == ema and (np.ptp(arrays["stem_conv/kernel"]) == 0) == (not ema)

    @pytest.mark.parametrize(
        "said",
        [
            {"arch": "efficientnet_lite0"},
            {"args": {"model": "efficientnet_lite0"}},
            {"args": Raw(NAMESPACE.replace(push("b0"), push("efficientnet_lite0")))},
        ],
    )
    def test_a_network_of_timms_own_says_so(self, said, tmp_path):
        path = self.write(tmp_path / "a.pth", lambda state: {"state_dict": state, **said})
        assert values(path)[0].families == ("timm",)
        assert reading.families(str(path), 1 << 30) == ("timm",)


class TestPrefixes:
    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "net.backbone."])
    def test_what_a_trainer_put_before_every_name(self, prefix, tmp_path, capsys):
        name = "tf_efficientnet_lite0"
        state = {f"{prefix}{key}": value for key, value in timm_state(name).items()}
        save_file(state, tmp_path / "model.safetensors")
        assert timm_logits_error(name, tmp_path / "model.safetensors") < 2e-5
        assert f"without the prefix '{prefix}'" in capsys.readouterr().out

    @pytest.mark.parametrize("owner", OWNERS, ids=lambda owner: owner.OWNER)
    def test_before_the_names_of_others(self, owner, tmp_path):
        name = "tf_efficientnet_lite0"
        save_file(renamed(name, owner, "model."), tmp_path / "model.safetensors")
        assert timm_logits_error(name, tmp_path / "model.safetensors") < 2e-5

    def test_what_stands_beside_the_network_is_not_of_it(self, tmp_path):
        # Not even if it is called as the network's own classifier is.
        state = {f"model.{key}": each for key, each in timm_state("tf_efficientnet_lite0").items()}
        state["classifier.weight"] = state.pop("model.classifier.weight")
        save_file(state, tmp_path / "model.safetensors")
        model = effnet_tf.model_fn("lite0")
        with pytest.raises(InputError, match=r"missing 1: predictions/kernel.*unused 1: classif"):
            effnet_tf.load_weights(model, tmp_path / "model.safetensors")

    def test_two_networks_are_refused(self, tmp_path):
        state = timm_state("tf_efficientnet_lite0")
        both = {f"{part}.{key}": value for part in ("a", "b") for key, value in state.items()}
        save_file(both, tmp_path / "model.safetensors")
        with pytest.raises(InputError, match="several networks, below 'a.' and 'b.'"):
            effnet_tf.model_fn("lite0", weights=str(tmp_path / "model.safetensors"))


# --- names ---


@pytest.mark.parametrize(
    "name, expected",
    [
        ("conv_stem.weight", "stem_conv/kernel"),
        ("bn1.running_var", "stem_bn/moving_variance"),
        ("bn2.weight", "top_bn/gamma"),
        ("classifier.bias", "predictions/bias"),
        ("something.else", "something/else"),
        ("odd", "odd"),
    ],
)
def test_timm_names_outside_blocks(name, expected):
    assert names.canonical(torch_files.split([name], timm_names)) == {name: expected}


def test_timm_blocks_by_their_kind():
    separable = [
        "blocks.0.0.conv_dw.weight",
        "blocks.0.0.conv_pw.weight",
        "blocks.0.0.bn1.bias",
        "blocks.0.0.bn2.bias",
        "blocks.0.0.se.conv_expand.bias",
    ]
    inverted = [
        "blocks.1.0.conv_pw.weight",
        "blocks.1.0.conv_dw.weight",
        "blocks.1.0.conv_pwl.weight",
        "blocks.1.0.bn1.weight",
        "blocks.1.0.bn3.weight",
    ]
    fused = ["blocks.1.1.conv_exp.weight", "blocks.1.1.conv_pwl.weight", "blocks.1.1.bn2.weight"]
    split = torch_files.split(separable + inverted + fused, timm_names)
    assert list(names.canonical(split).values()) == [
        "blocks_0/dwconv/kernel",
        "blocks_0/project_conv/kernel",
        "blocks_0/bn/beta",
        "blocks_0/project_bn/beta",
        "blocks_0/se/expand/bias",
        "blocks_1/expand_conv/kernel",
        "blocks_1/dwconv/kernel",
        "blocks_1/project_conv/kernel",
        "blocks_1/expand_bn/gamma",
        "blocks_1/project_bn/gamma",
        "blocks_2/expand_conv/kernel",
        "blocks_2/project_conv/kernel",
        "blocks_2/project_bn/gamma",
    ]
