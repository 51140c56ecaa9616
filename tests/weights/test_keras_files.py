"""keras_files.py: files of keras.applications and tf_keras compute what their model computed."""

import sys

import h5py
import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import InputError
from effnet_tf.weights import keras_files, names, pixels
from tests.helpers import files, goldens

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SHAPE = (64, 96, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype("uint8")


def ours(weights, **arguments):
    return effnet_tf.EfficientNetB0(
        weights=str(weights), input_shape=SHAPE, classifier_activation=None, **arguments
    )


@pytest.fixture(scope="module", params=["keras", "tf_keras"])
def theirs(request, tmp_path_factory):
    """(library, its model without preprocessing quirks, files it wrote) of B0."""
    library = pytest.importorskip(request.param)
    folder = tmp_path_factory.mktemp(request.param)
    model = library.applications.EfficientNetB0(
        weights=None, input_shape=SHAPE, classifier_activation=None
    )
    files.seed_keras(model, MEAN, STD**2)
    paths = [folder / name for name in ("b0.keras", "b0.h5", "b0.weights.h5")]
    model.save(paths[0])
    model.save(paths[1])
    model.save_weights(paths[2])
    if library is not keras:  # Keras 3 writes it for whole models only
        paths.append(folder / "legacy_weights.h5")
        model.save_weights(paths[3])
    return library, model, paths


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
class TestKerasApplications:
    def test_every_file_computes_what_its_model_does(self, theirs):
        library, model, paths = theirs
        expected = np.asarray(model(IMAGES.astype("float32")))
        for path in paths:
            loaded = ours(path)
            np.testing.assert_allclose(loaded(IMAGES), expected, atol=2e-5 * expected.std())

    def test_statistics_of_its_own_reach_the_model(self, theirs, tmp_path, capsys):
        library, model, _ = theirs
        normalization = next(layer for layer in model.layers if layer.name == "normalization")
        before = normalization.get_weights()
        normalization.set_weights(
            [
                np.array([0.1, 0.2, 0.3]).reshape(before[0].shape),
                np.array([0.04, 0.09, 0.16]).reshape(before[1].shape),
                before[2],
            ]
        )
        model.save_weights(tmp_path / "own.weights.h5")
        normalization.set_weights(before)
        loaded = ours(tmp_path / "own.weights.h5")
        np.testing.assert_allclose(
            pixels.constants_of(loaded), [[25.5, 51, 76.5], [51, 76.5, 102]], rtol=1e-6
        )
        assert "(x - [25.5, 51, 76.5]) / [51, 76.5, 102]" in capsys.readouterr().out

    def test_without_classifier(self, theirs, tmp_path, capsys):
        library, model, _ = theirs
        body = library.applications.EfficientNetB0(
            weights=None, include_top=False, input_shape=SHAPE
        )
        body.set_weights(model.get_weights()[:-2])
        body.save(tmp_path / "notop.h5")
        expected = np.asarray(body(IMAGES.astype("float32")))
        loaded = ours(tmp_path / "notop.h5", include_top=False)
        np.testing.assert_allclose(loaded(IMAGES), expected, atol=2e-5 * expected.std())
        assert capsys.readouterr().out == ""  # nothing to say


class TestPublishedKerasFile:
    """The published .h5 holds the standard deviation in the variance's place."""

    @pytest.fixture(scope="class", params=[True, False])
    def published(self, request, tmp_path_factory):
        """(include_top, published-like file, what weights="imagenet" computes with it)."""
        tf_keras = pytest.importorskip("tf_keras")
        include_top = request.param
        arguments = dict(include_top=include_top)
        source = tf_keras.applications.EfficientNetB0(weights=None, **arguments)
        files.seed_keras(source, MEAN, STD)
        path = tmp_path_factory.mktemp("published") / "efficientnetb0.h5"
        source.save_weights(path)
        module = sys.modules[keras.applications.EfficientNetB0.__module__]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module.file_utils, "get_file", lambda *_, **__: str(path))
            reference = keras.applications.EfficientNetB0(weights="imagenet", **arguments)
        return include_top, path, reference

    def test_it_computes_what_keras_applications_does(self, published):
        include_top, path, reference = published
        images = goldens.images(224, 224)
        loaded = effnet_tf.EfficientNetB0(weights=str(path), include_top=include_top)
        expected = np.asarray(reference(images))
        np.testing.assert_allclose(loaded(images), expected, atol=1e-4 * expected.max())
        assert pixels.constants_of(loaded)[1] == list(effnet_tf.VARIANTS["b0"].std)

    def test_so_does_a_file_of_that_model(self, published, tmp_path):
        # It has an extra Rescaling that makes up for the statistics.
        include_top, _, reference = published
        images = goldens.images(224, 224)
        expected = np.asarray(reference(images))
        reference.save(tmp_path / "m.keras")
        loaded = effnet_tf.EfficientNetB0(
            weights=str(tmp_path / "m.keras"), include_top=include_top
        )
        np.testing.assert_allclose(loaded(images), expected, atol=1e-4 * expected.max())


def test_a_file_without_layer_names_or_statistics(tmp_path):
    # Early Keras 3 and tf_keras number the layers; here of another width.
    with h5py.File(tmp_path / "a.weights.h5", "w") as root:
        root["layers/conv2d/vars/0"] = np.zeros((3, 3, 3, 40), "float32")
        root["layers/conv2d_999/vars/0"] = np.zeros((1, 1, 8, 8), "float32")
    with pytest.raises(InputError, match=r"stem_conv/kernel \(3, 3, 3, 40\) -> \(3, 3, 3, 32\)"):
        effnet_tf.model_fn("b0", weights=str(tmp_path / "a.weights.h5"))


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
def test_the_classifier_of_qubvel_efficientnet(tmp_path):
    # github.com/qubvel/efficientnet calls it "probs"; all else is as in keras.applications.
    model = effnet_tf.model_fn("lite0", 4, input_shape=(32, 32, 3))
    model.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as root:
        weights = root["model_weights"]
        for name in ("kernel", "bias"):
            value = weights["predictions"].visititems(
                lambda path, item, name=name: (
                    item[()] if isinstance(item, h5py.Dataset) and path.endswith(name) else None
                )
            )
            weights[f"probs/probs/{name}:0"] = value
        del weights["predictions"]
    again = effnet_tf.model_fn("lite0", 4, input_shape=(32, 32, 3))
    report = effnet_tf.load_weights(again, tmp_path / "a.h5")
    assert report.exact
    for one, other in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(one, other)


class TestKerasCv:
    """Its networks hold a Rescaling to [0, 1], or leave pixels to their caller."""

    LITE0 = dict(
        width_coefficient=1.0,
        depth_coefficient=1.0,
        stackwise_kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        stackwise_num_repeats=[1, 2, 2, 3, 3, 4, 1],
        stackwise_input_filters=[32, 16, 24, 40, 80, 112, 192],
        stackwise_output_filters=[16, 24, 40, 80, 112, 192, 320],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
        stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
    )

    @pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
    @pytest.mark.parametrize("name", ["backbone.keras", "backbone.h5", "classifier.keras"])
    def test_rescaling_reaches_the_model(self, name, tmp_path, capsys):
        import keras_cv

        theirs = keras_cv.models.EfficientNetLiteBackbone(
            include_rescaling=True, input_shape=(64, 64, 3), **self.LITE0
        )
        files.seed_keras(theirs, None, None)
        whole = theirs
        if "classifier" in name:
            whole = keras_cv.models.ImageClassifier(backbone=theirs, num_classes=5)
        whole.save(tmp_path / name)
        images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("float32")
        expected = np.asarray(theirs(images))
        loaded = effnet_tf.model_fn(
            "lite0", include_top=False, weights=str(tmp_path / name), input_shape=(64, 64, 3)
        )
        np.testing.assert_allclose(loaded(images), expected, atol=2e-5 * expected.std())
        assert "(x - [0, 0, 0]) / [255, 255, 255]" in capsys.readouterr().out

    def test_without_rescaling_the_caller_normalises(self, tmp_path, capsys):
        import keras_cv

        theirs = keras_cv.models.EfficientNetLiteBackbone(
            include_rescaling=False, input_shape=(64, 64, 3), **self.LITE0
        )
        theirs.save(tmp_path / "a.keras")
        effnet_tf.model_fn("lite0", include_top=False, weights=str(tmp_path / "a.keras"))
        assert "the file's model left normalising to its caller" in capsys.readouterr().out


# --- names ---


@pytest.mark.parametrize(
    "path, expected",
    [
        ("stem_conv/kernel", "stem_conv/kernel"),
        ("stem_conv/stem_conv/kernel:0", "stem_conv/kernel"),
        ("model_weights/top_bn/top_bn/moving_mean:0", "top_bn/moving_mean"),
        ("efficientnetb0/predictions/bias", "predictions/bias"),
        ("block1a_dwconv/block1a_dwconv/depthwise_kernel:0", "blocks_0/dwconv/kernel"),
        ("block1a/dwconv/kernel", "blocks_0/dwconv/kernel"),
        ("block1a/block1a/bn/gamma", "blocks_0/bn/gamma"),
        ("base/block1a/se/reduce/bias", "blocks_0/se/reduce/bias"),
        ("block1a_se_reduce/bias", "blocks_0/se/reduce/bias"),
        ("my_own_dense/kernel", "my_own_dense/kernel"),
        ("kernel", "kernel"),
    ],
)
def test_keras_names(path, expected):
    assert names.canonical(keras_files.split([path])) == {path: expected}


def test_keras_blocks_are_numbered_over_stages_and_beyond_z():
    paths = [f"block6{letters}_bn/gamma" for letters in ("a", "b", "z", "aa")]
    paths += ["block1a_bn/gamma", "block10a_bn/gamma"]
    assert list(names.canonical(keras_files.split(paths)).values()) == [
        f"blocks_{number}/bn/gamma" for number in (1, 2, 3, 4, 0, 5)
    ]


def test_layers_without_names_are_found_by_their_number():
    nameless = keras_files.Nameless(
        [
            "stem_conv",
            "stem_bn",
            "blocks_0/dwconv",
            "blocks_0/bn",
            "blocks_0/se/reduce",
            "predictions",
        ]
    )
    assert [
        nameless.find(name)
        for name in (
            "conv2d",
            "conv2d_1",
            "conv2d_2",
            "depthwise_conv2d",
            "batch_normalization_1",
            "dense",
            "re_lu",
        )
    ] == [
        "stem_conv",
        "block1a/se/reduce",
        "conv2d_2",
        "block1a/dwconv",
        "block1a/bn",
        "predictions",
        "re_lu",
    ]


def test_a_file_without_names_says_which_variant_it_is(tmp_path):
    shapes, counts = names.block_kernels("b1"), {"conv2d": 1}  # the first one is the stem's
    with h5py.File(tmp_path / "b1.weights.h5", "w") as root:
        for layer in names.layers("b1"):
            if f"{layer}/kernel" in shapes:
                kind = "depthwise_conv2d" if "dwconv" in layer else "conv2d"
                number = counts.get(kind, 0)
                counts[kind] = number + 1
                root[f"layers/{kind}{f'_{number}' * bool(number)}/vars/0"] = np.zeros(
                    shapes[f"{layer}/kernel"], "float32"
                )
    with pytest.raises(InputError, match="of variant b1, and this model is b0"):
        effnet_tf.model_fn("b0", weights=str(tmp_path / "b1.weights.h5"))
