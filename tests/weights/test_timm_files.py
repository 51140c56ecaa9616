"""timm_files.py: state dicts of timm give timm's logits."""

import io
import pathlib
import sys
import zipfile

import numpy as np
import pytest

import effnet_tf
from effnet_tf import InputError
from effnet_tf.weights import names, timm_files
from tests.helpers import goldens
from tests.helpers.files import TIMM, timm_state

TINY = effnet_tf.CompoundScaling().variant(-8)


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
    )
    expected = np.asarray(TIMM[name]["logits"])
    return np.abs(model(goldens.images(height, width)) - expected).max() / expected.std()


class TestTimm:
    @pytest.mark.parametrize("name", TIMM)
    def test_safetensors_give_timms_logits(self, name, tmp_path):
        from safetensors.numpy import save_file

        save_file(timm_state(name), tmp_path / "model.bin")
        assert timm_logits_error(name, tmp_path / "model.bin") < 2e-5

    def test_half_precision(self, tmp_path):
        from safetensors.numpy import save_file

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
    def test_pth_without_torch_is_a_sentence(self, zipped, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "torch", None)
        content = b"\x80\x02}q\x00."
        if zipped:
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w") as archive:
                archive.writestr("archive/data.pkl", content)
            content = buffer.getvalue()
        (tmp_path / "model.pth").write_bytes(content)
        with pytest.raises(InputError, match="torch, which is not installed: .*effnet_tf.torch"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "model.pth"))

    def test_safetensors_without_the_package_is_a_sentence(self, tmp_path, monkeypatch):
        from safetensors.numpy import save_file

        save_file({"a": np.zeros(3)}, tmp_path / "a.safetensors")
        monkeypatch.setitem(sys.modules, "safetensors", None)
        with pytest.raises(InputError, match="safetensors, which is not .*effnet_tf.timm"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "a.safetensors"))

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

    def test_pth_that_would_run_code(self, tmp_path):
        torch = pytest.importorskip("torch")
        torch.save({"state_dict": pathlib.PurePosixPath("x")}, tmp_path / "model.pth")
        with pytest.raises(InputError, match="more than tensors"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "model.pth"))


# --- names ---


@pytest.mark.parametrize(
    "name, expected",
    [
        ("conv_stem.weight", "stem_conv/kernel"),
        ("bn1.running_var", "stem_bn/moving_variance"),
        ("module.bn2.weight", "top_bn/gamma"),
        ("classifier.bias", "predictions/bias"),
        ("something.else", "something/else"),
        ("odd", "odd"),
    ],
)
def test_timm_names_outside_blocks(name, expected):
    assert names.canonical(timm_files.split([name])) == {name: expected}


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
    assert list(names.canonical(timm_files.split(separable + inverted + fused)).values()) == [
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
