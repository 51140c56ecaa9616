"""Weights of the real programs give the real programs' logits, to 1e-5 of their deviation.

Needs PyTorch, timm and torchvision (extra [peers]), and keras_hub, which requires a TensorFlow of
its own (`pip install --no-deps keras_hub`); what is missing is skipped.
"""

import os

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import InputError, export
from tests.helpers import in_process, tiny_net

pytestmark = pytest.mark.slow

SIZES = ((64, 75), (65, 64))
MEAN, STD = (np.array(each, "float32") for each in effnet_tf.variants.PREPROCESSING["imagenet"])


def pixels(size):
    return np.random.default_rng(1).uniform(0, 255, (2, *size, 3)).astype("float32")


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def torchvision(torch):
    """torchvision, also one of another build than PyTorch's, which lacks its own operations."""
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        try:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        except RuntimeError:  # it is there
            break
    return pytest.importorskip("torchvision", exc_type=ImportError)


@pytest.fixture(scope="module")
def timm(torchvision):
    return pytest.importorskip("timm", exc_type=ImportError)


@pytest.fixture(scope="module")
def keras_hub():
    return pytest.importorskip("keras_hub", exc_type=ImportError)


def seeded(torch, build, name):
    """A network of PyTorch's with statistics as of a trained one."""
    torch.manual_seed(0)
    network = build(name)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.weight.data.uniform_(0.8, 1.2)
            layer.bias.data.normal_(0, 0.1)
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
    return network.eval()


def logits(torch, network, images):
    scaled = torch.tensor(((images - MEAN) / STD).transpose(0, 3, 1, 2))
    with torch.no_grad():
        return network(scaled).numpy()


def check(variant, path, expected, folder, **options):
    """Compares both forms, at sizes even and odd, and one of them saved and loaded."""
    for size in SIZES:
        for flat in (False, True):
            options |= dict(classifier_activation=None, input_shape=(*size, 3), flat=flat)
            model = effnet_tf.model_fn(variant, weights=path, **options)
            assert deviation(model, pixels(size), expected(pixels(size))) < 1e-5
    model.save(folder / "m.keras")
    again = effnet_tf.load_model(folder / "m.keras")
    assert deviation(again, pixels(SIZES[-1]), expected(pixels(SIZES[-1]))) < 1e-5


def deviation(model, images, expected):
    return np.abs(np.asarray(model(images)) - expected).max() / expected.std()


class TestTimm:
    @pytest.mark.parametrize(
        "name, variant",
        [
            ("tf_efficientnet_b0", "b0"),
            ("efficientnet_b0", "b0"),
            ("efficientnet_b3", "b3"),
            ("efficientnet_lite0", "lite0"),
            ("efficientnet_es", "edgetpu-s"),
            ("efficientnet_em", "edgetpu-m"),
        ],
    )
    def test_logits(self, name, variant, torch, timm, tmp_path):
        network = seeded(torch, timm.create_model, name)
        torch.save({"state_dict": network.state_dict(), "arch": name}, tmp_path / "a.pth.tar")
        options = {}
        if name.startswith("tf_"):
            options = {"num_classes": 1000, "preprocessing": "imagenet"}
        check(
            variant,
            tmp_path / "a.pth.tar",
            lambda images: logits(torch, network, images),
            tmp_path,
            **options,
        )

    @pytest.mark.parametrize(
        "name", ["efficientnet_b3_pruned", "mobilenetv3_rw", "resnetblur50", "efficientnetv2_rw_t"]
    )
    def test_others_are_refused_by_name(self, name, torch, timm, tmp_path):
        state = timm.create_model(name).state_dict()
        torch.save({"state_dict": state, "arch": name}, tmp_path / "a.pth")
        with pytest.raises(InputError, match=f"of timm.* {name}"):
            effnet_tf.model_fn("b0", weights=tmp_path / "a.pth")


class TestTorchvision:
    @pytest.mark.parametrize("variant", ["b0", "b2", "b5"])
    def test_logits(self, variant, torch, torchvision, tmp_path):
        network = seeded(torch, torchvision.models.get_model, f"efficientnet_{variant}")
        torch.save(network.state_dict(), tmp_path / "a.pth")
        path = tmp_path / "a.pth"
        check(variant, path, lambda images: logits(torch, network, images), tmp_path)

    def test_an_export(self, torch, torchvision, tmp_path):
        network = seeded(torch, torchvision.models.get_model, "efficientnet_b0")
        torch.save(network.state_dict(), tmp_path / "a.pth")
        images = pixels((64, 64))
        options = dict(classifier_activation=None, input_shape=(64, 64, 3))
        model = effnet_tf.model_fn("b0", weights=tmp_path / "a.pth", **options)
        expected = logits(torch, network, images)
        path = str(tmp_path / "a.tflite")
        with in_process.jobs_here():
            export.to_tflite(model, path, quantize="none", verify_with=images)
        assert deviation(export.load(path), images, expected) < 2e-5

    @pytest.mark.parametrize("name", ["efficientnet_v2_s", "mnasnet1_0", "convnext_tiny"])
    def test_others_are_refused(self, name, torch, torchvision, tmp_path):
        state = torchvision.models.get_model(name).state_dict()
        torch.save(state, tmp_path / "a.pth")
        with pytest.raises(InputError, match="no EfficientNet"):
            effnet_tf.model_fn("b0", weights=tmp_path / "a.pth")


class TestKerasHub:
    @staticmethod
    def backbone(name):
        from keras_hub.models import EfficientNetBackbone
        from keras_hub.src.utils.timm import convert_efficientnet

        said = {"architecture": f"efficientnet_{name}"}
        return EfficientNetBackbone(**convert_efficientnet.convert_backbone_config(said))

    @pytest.mark.parametrize("name", ["b0", "lite0"])
    def test_logits(self, name, keras_hub, tmp_path):
        keras.utils.set_random_seed(0)
        converter = keras_hub.layers.EfficientNetImageConverter(
            image_size=(64, 64), scale=list(1 / STD), offset=list(-MEAN / STD)
        )
        network = keras_hub.models.EfficientNetImageClassifier(
            backbone=tiny_net.randomise_batch_norm(self.backbone(name)),
            num_classes=10,
            preprocessor=keras_hub.models.EfficientNetImageClassifierPreprocessor(converter),
        )
        network.save_to_preset(str(tmp_path / "preset"))
        network.save(tmp_path / "a.keras")
        network.save_weights(tmp_path / "a.weights.h5")

        def expected(images):
            return np.asarray(network((images - MEAN) / STD, training=False))

        for each in ("preset", "a.keras", "a.weights.h5", "preset/model.weights.h5"):
            check(name, os.path.join(tmp_path, each), expected, tmp_path, num_classes=10)

    @pytest.mark.parametrize("name", ["es", "rw_t"])
    def test_others_are_refused(self, name, keras_hub, tmp_path):
        network = self.backbone(name)
        network.save_to_preset(str(tmp_path / "preset"))
        network.save_weights(tmp_path / "a.weights.h5")
        for each in ("preset", "a.weights.h5"):
            with pytest.raises(InputError, match="keras_hub's that is no EfficientNet-B0 to B5"):
                effnet_tf.model_fn("b0", weights=tmp_path / each)
