"""MobileNets and ResNet-50 of timm and torchvision: their names, and what they compute.

The values are in tests/reference/baselines.json.gz, so that no PyTorch is needed.
"""

import dataclasses
import gzip
import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import effnet_tf
from effnet_tf import InputError, variants
from effnet_tf.weights import agreement, names, reading, timm_names, torch_files
from tests.helpers import goldens

CASES = json.loads(gzip.decompress((goldens.REFERENCE / "baselines.json.gz").read_bytes()))
V2 = variants.VARIANTS["mobilenet_v2"]
WIDE = dataclasses.replace(V2, name="wide", width_coefficient=1.4)
ROWS = {
    "mobilenetv1_100": "mobilenet_v1",
    "mobilenetv2_100": "mobilenet_v2",
    "mobilenetv2_140": WIDE,
    "mobilenetv3_large_100": "mobilenet_v3_large",
    "mobilenetv3_small_100": "mobilenet_v3_small",
    "tf_mobilenetv3_large_100": "mobilenet_v3_large",
    "tf_mobilenetv3_small_100": "mobilenet_v3_small",
}
TOLERANCE = 3e-5  # MobileNetV2's rounding grows with these values; test_peers.py has others
# (case, which of its sizes, the form)
QUICK = (("timm/tf_mobilenetv3_small_100", 0, True), ("torchvision/mobilenet_v3_small", 1, False))


def row_of(case):
    """(variant, family) of a case."""
    owner, name = case.split("/")
    if name.startswith("tf_"):
        owner = "tf"
    return ROWS.get(name, name), owner


def state(case):
    return {key: goldens.timm_value(key, shape) for key, shape in CASES[case]["state"].items()}


def expected_shapes(row):
    """{canonical name: shape} of the variables of a row, by its description."""
    found = {}
    for each in variants.resolve(row).convolutions():
        kernel = each.kernel_shape
        found[f"{each.name}/kernel"] = kernel
        if each.use_bias:
            found[f"{each.name}/bias"] = (each.filters,)
        if each.batch_norm is not None:
            for leaf in names.BATCH_NORM:
                found[f"{each.batch_norm}/{leaf}"] = (each.filters,)
    return found


@pytest.mark.parametrize("case", CASES)
def test_every_variable_has_its_place(case):
    keys = [key for key in CASES[case]["state"] if not key.endswith("num_batches_tracked")]
    naming, prefix = torch_files.find_naming("file", keys)
    divided = torch_files.split(keys, naming, prefix)
    canonical = names.canonical(divided)
    arrays = {key: np.empty(CASES[case]["state"][key], "bool") for key in keys}
    found = {
        canonical[key]: torch_files._keras_layout(value, divided[key][1]).shape
        for key, value in arrays.items()
    }
    assert len(found) == len(keys)
    assert found == expected_shapes(variants.in_family(*row_of(case)))


def error(case, path, number, flat, **options):
    """The largest difference of logits from theirs, in deviations."""
    size = CASES[case]["sizes"][number]
    model = effnet_tf.model_fn(
        row_of(case)[0],
        weights=path,
        input_shape=(*size, 3),
        classifier_activation=None,
        preprocessing="inception",
        flat=flat,
        **options,
    )
    expected = np.asarray(CASES[case]["logits"][number])
    found = np.asarray(model(goldens.images(*size)))[:, : expected.shape[1]]
    assert np.std(expected[0] - expected[1]) > 0.01 * expected.std()  # else they say little
    return np.abs(found - expected).max() / expected.std()


def saved(case, folder):
    """The path of a file that says of timm's networks which one it is of."""
    owner, name = case.split("/")
    save_file(state(case), folder / "model.safetensors")
    if owner == "timm":
        (folder / "config.json").write_text(json.dumps({"architecture": f"{name}.some_in1k"}))
    return folder / "model.safetensors"


@pytest.mark.parametrize("case, number, flat", QUICK)
def test_logits(case, number, flat, tmp_path):
    assert error(case, saved(case, tmp_path), number, flat) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_logits_of_all(case, tmp_path):
    path = saved(case, tmp_path)
    for number in (0, 1):
        for flat in (False, True):
            assert error(case, path, number, flat) < TOLERANCE


class TestWhoseTheyAre:
    @pytest.mark.parametrize(
        "said, found",
        [
            ("tf_mobilenetv3_large_100.in1k", ("tf",)),
            ("mobilenetv3_small_100.lamb_in1k", ("timm",)),
            ("hf_hub:timm/mobilenetv1_125", ("timm",)),
            ("mobilenetv2_140", ("timm",)),
            ("resnet50.a1_in1k", ("timm", "torchvision")),
            ("gluon_resnet50_v1b", ("timm", "torchvision")),
            ("", ()),
            ("my_network", ()),
        ],
    )
    def test_by_the_name_of_their_network(self, said, found):
        assert timm_names.families("file", said) == found

    @pytest.mark.parametrize(
        "said",
        ["mobilenetv3_rw", "tf_mobilenetv3_large_minimal_100", "resnetblur50", "seresnet50.a1"],
    )
    def test_others_can_have_the_same_shapes(self, said):
        with pytest.raises(InputError, match="which is another network than effnet_tf has"):
            timm_names.families("file", said)

    def test_of_mobilenetv2_timm_has_one_family_alone(self, tmp_path):
        """It need not be said, which MobileNetV3 has to be."""
        row = dataclasses.replace(V2, name="small", width_coefficient=0.25)
        save_file(TINY, tmp_path / "a.safetensors")
        path = str(tmp_path / "a.safetensors")
        assert effnet_tf.weights.loading.family_of(path, row) == "timm"
        assert effnet_tf.weights.loading.family_of(path, "mobilenet_v3_small") is None
        assert effnet_tf.weights.loading.family_of(path, "b0") is None

    def test_of_torchvisions_names(self, tmp_path):
        for layer, family in (
            ("features.1.conv.0.0", ("torchvision",)),
            ("features.1.block.0.0", ("torchvision",)),
            ("layer1.0.conv3", ("timm", "torchvision")),
        ):
            save_file({f"net.{layer}.weight": np.zeros(1, "float32")}, tmp_path / "a.safetensors")
            assert reading.families(str(tmp_path / "a.safetensors"), 1 << 30) == family

    @pytest.mark.parametrize("name", ["layer1.0.conv2", "features.1.0.conv.0.0"])
    def test_other_networks_are_none_of_ours(self, name, tmp_path):
        save_file({f"{name}.weight": np.zeros(1, "float32")}, tmp_path / "a.safetensors")
        with pytest.raises(InputError, match="no EfficientNet, MobileNet or ResNet-50 whose names"):
            effnet_tf.model_fn(V2, weights=tmp_path / "a.safetensors")


TINY = {"blocks.0.0.conv_dw.weight": np.zeros((8, 1, 3, 3), "float32")}


class TestWhatAModelComputes:
    """`agreement.require`, which compares a model with the rows of families."""

    @pytest.mark.parametrize("flat", [True, False])
    @pytest.mark.parametrize("name", ["mobilenet_v1", "mobilenet_v2", "resnet50"])
    def test_each_row_agrees_with_its_own_models_alone(self, name, flat):
        row = dataclasses.replace(variants.VARIANTS[name], depth_coefficient=0.1)
        sides = ((64, 75), (None, None))[flat]
        for family in ("tf", "timm"):
            model = effnet_tf.model_fn(row, 3, family=family, input_shape=(*sides, 3), flat=flat)
            agreement.require(model, "file", (family,), None, row)
            other = {"tf": "timm", "timm": "tf"}[family]
            with pytest.raises(InputError, match=f"of family '{other}', whose networks have"):
                agreement.require(model, "file", (other,), None, row)
