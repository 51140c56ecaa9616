"""Exports of networks, weights, images and names that are not the usual ones."""

import dataclasses
import importlib.util
import json
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import export
from effnet_tf.errors import InputError
from effnet_tf.export import choice, folding, identify, identities, staging
from effnet_tf.export.tflite import integers, metadata
from tests.helpers import hostile, in_process, joined, tiny_net

pytestmark = pytest.mark.processor

L = keras.layers
HAS_ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "tf2onnx", "onnxruntime"))
WRITERS = {"saved_model": export.to_saved_model, **({"onnx": export.to_onnx} if HAS_ONNX else {})}


@pytest.fixture(autouse=True, scope="module")
def in_this_process():
    """What is tested here is what is done; that it is done in a fresh process costs seconds."""
    with in_process.jobs_here():
        yield


def network(*ends, shape=(16, 16, 3), start=()):
    """A convolution with batch norm, and what follows it."""
    return keras.Sequential(
        [
            keras.Input(shape),
            *start,
            L.Rescaling(1 / 255),
            L.Conv2D(4, 3, padding="same"),
            L.BatchNormalization(),
            L.ReLU(),
            *ends,
        ]
    )


def classifier(*start, classes=3, shape=(16, 16, 3)):
    return network(
        L.GlobalAveragePooling2D(), L.Dense(classes, "softmax"), start=start, shape=shape
    )


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (4, 16, 16, 3)).astype("float32")


class TestEmptyBatches:
    """oneDNN's convolution of no images fails on some processors."""

    @pytest.fixture(scope="class", params=[False, True], ids=["folded", "keep_batch_norm"])
    def written(self, request, tmp_path_factory):
        path = str(tmp_path_factory.mktemp("empty") / "out")
        export.to_saved_model(classifier(), path, keep_batch_norm=request.param)
        return path, request.param

    def test_every_function(self, written, images):
        path, kept = written
        loaded = tf.saved_model.load(path)
        none = tf.zeros((0, 16, 16, 3))
        for outputs in (
            loaded.signatures["serving_default"](images=none),
            loaded.signatures["serving_bytes"](encoded_images=tf.zeros((0,), tf.string)),
        ):
            assert {key: value.shape for key, value in outputs.items()} == {
                "probabilities": (0, 3),
                "logits": (0, 3),
            }
        assert loaded(none).shape == (0, 4)
        assert export.load(path)(none.numpy()).shape == (0, 3)
        if kept:
            assert loaded.network(none)[0]["logits"].shape == (0, 3)
            before = [variable.numpy() for variable in loaded.variables]
            with pytest.raises(tf.errors.InvalidArgumentError, match="no statistics"):
                loaded(none, training=True)
            for variable, value in zip(loaded.variables, before):
                np.testing.assert_array_equal(variable, value)
            assert loaded(images / 255, training=True).shape == (4, 4)

    def test_other_files(self, tmp_path):
        for name, write in (("tflite", export.to_tflite), *WRITERS.items()):
            path = str(tmp_path / name)
            write(classifier(), path)
            assert export.load(path)(np.zeros((0, 16, 16, 3))).shape == (0, 3)


ENDS = {
    "softmax in a convolution": lambda: [L.Conv2D(5, 1, activation="softmax")],
    "sigmoid in a convolution": lambda: [L.Conv2D(1, 1, activation="sigmoid")],
    "softmax after a convolution": lambda: [L.Conv2D(5, 1), L.Softmax()],
    "softmax over rows": lambda: [L.Conv2D(5, 1), L.Softmax(axis=1)],
    "transposed": lambda: [L.Conv2DTranspose(5, 2, strides=2, activation="softmax")],
    "no activation": lambda: [L.Conv2D(5, 1)],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("kind", WRITERS)
def test_maps_of_scores(kind, end, images, tmp_path):
    """Segmentation: (N, H, W, classes)."""
    model = network(*ENDS[end]())
    report = WRITERS[kind](model, str(tmp_path / "out"), verify_with=images)
    assert report.images == 4 and report.largest_difference < 1e-5
    assert report.top1_agreement > 0.99
    if kind == "saved_model":
        serve = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
        outputs = serve(images=tf.constant(images))
        given = outputs.get("probabilities", outputs.get("outputs"))
        np.testing.assert_allclose(given, model(images), atol=1e-5)
        assert ("logits" in outputs) == (end != "no activation")
        assert all(value.shape[0] == 0 for value in serve(images=tf.zeros((0, 16, 16, 3))).values())


def test_maps_are_no_tflite_classifiers(images, tmp_path):
    with pytest.raises(InputError, match="one score per class"):
        export.to_tflite(network(L.Conv2D(5, 1, activation="softmax")), str(tmp_path / "out"))
    with pytest.raises(InputError, match="labels are for a classifier"):
        export.to_saved_model(
            network(L.Conv2D(5, 1)), str(tmp_path / "out"), verify_with=images, labels=[0, 1, 2, 3]
        )


@pytest.mark.parametrize("outputs", ["dict", "names of ours", "list", "one in a list"])
@pytest.mark.parametrize("kind", WRITERS)
def test_several_outputs(kind, outputs, images, tmp_path):
    inputs = keras.Input((None, None, 3))  # and any size
    x = L.Conv2D(4, 3)(inputs)
    one, two = L.Conv2D(2, 1, activation="sigmoid")(x), L.Dense(3)(L.GlobalMaxPooling2D()(x))
    given = {
        "dict": {"mask": one, "class": two},
        "list": [one, two],
        "names of ours": {"logits": two, "boxes": one},
        "one in a list": [two],
    }[outputs]
    report = WRITERS[kind](keras.Model(inputs, given), str(tmp_path / "out"), verify_with=images)
    assert report.sqnr_db is None or report.sqnr_db > 110  # scores of 1,000 are 1e-4 apart


def test_one_output_with_a_name_is_a_tflite_classifier(tmp_path):
    model = classifier()
    model = keras.Model(model.inputs[0], {"scores": model.outputs[0]})
    assert export.to_tflite(model, str(tmp_path / "out")).top1_agreement == 1


def test_outputs_in_one_another(tmp_path):
    inputs = keras.Input((8, 8, 3))
    x = L.Flatten()(inputs)
    with pytest.raises(InputError, match="are nested"):
        export.to_saved_model(keras.Model(inputs, {"a": {"b": x}}), str(tmp_path / "out"))


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("ends", [(L.Dense, 2), (L.Dense, 1, "sigmoid")])
def test_other_channels_and_regression(channels, ends, tmp_path):
    kind, *arguments = ends
    model = network(L.GlobalAveragePooling2D(), kind(*arguments), shape=(8, 8, channels))
    for name, write in (("tflite", export.to_tflite), *WRITERS.items()):
        assert write(model, str(tmp_path / name)).top1_agreement == 1


class TestAugmentation:
    @staticmethod
    def layers():
        return [
            L.RandomFlip(),
            L.RandomRotation(0.2),
            L.RandomContrast(0.5),
            L.GaussianNoise(0.9),
            L.Pipeline([L.RandomZoom(0.3), L.RandomBrightness(0.5)]),
        ]

    def test_it_is_gone(self, images, tmp_path):
        model = classifier(*self.layers(), L.RandomCrop(12, 12))
        names = {type(layer).__name__ for layer in folding.fold(model).layers}
        assert not {name for name in names if name.startswith(("Random", "Gaussian"))} - {
            "RandomCrop"
        }
        model = classifier(keras.Sequential(self.layers()))
        for name, write in (("tflite", export.to_tflite), *WRITERS.items()):
            report = write(model, str(tmp_path / name), verify_with=images)
            assert (report.sqnr_db or np.inf) > 30

    def test_whoever_trains_again_has_it(self, images, tmp_path):
        model = classifier(L.RandomFlip())
        export.to_saved_model(
            model, str(tmp_path / "out"), keep_batch_norm=True, verify_with=images
        )
        loaded = tf.saved_model.load(str(tmp_path / "out"))
        np.testing.assert_allclose(
            loaded.network(images)[0]["probabilities"], model(images, training=False), atol=1e-5
        )
        assert loaded(images / 255, training=True).shape == (4, 4)

    def test_every_layer_of_the_list_gives_its_input_back(self, images):
        made = {
            "RandomBrightness": 0.2,
            "RandomContrast": 0.5,
            "RandomRotation": 0.2,
            "RandomZoom": 0.2,
            "RandomPosterization": 3,
            "ActivityRegularization": 0.1,
        }
        for name in (
            "RandomFlip",
            "RandomInvert",
            "Equalization",
            "Solarization",
            "AugMix",
            "RandAugment",
            "MixUp",
            *made,
        ):
            layer = getattr(L, name)(*([made[name]] if name in made else []))
            assert isinstance(layer, identities.IDENTITIES)
            more = {"training": False} if layer._call_has_training_arg else {}
            np.testing.assert_array_equal(layer(images, **more), images)


class TestFoldedOnce:
    """The answer that a file is compared with, and the file, come of the same folded network."""

    @pytest.fixture
    def calls(self, monkeypatch):
        """The models that were folded."""
        models, fold = [], folding.fold
        monkeypatch.setattr(folding, "fold", lambda model: models.append(model) or fold(model))
        return models

    @pytest.mark.parametrize("name", WRITERS)
    def test_whole_files(self, name, calls, images, tmp_path):
        WRITERS[name](classifier(), str(tmp_path / "out"), verify_with=images)
        assert len(calls) == 1

    def test_a_saved_model_that_keeps_batch_norm(self, calls, images, tmp_path):
        path = str(tmp_path / "out")
        export.to_saved_model(classifier(), path, verify_with=images, keep_batch_norm=True)
        assert len(calls) == 1

    @pytest.mark.parametrize("kind", ["none", "int8"])
    def test_tflite(self, kind, calls, images, tmp_path):
        path = str(tmp_path / "out")
        export.to_tflite(classifier(), path, quantize=kind, calibration=images, min_sqnr=-50)
        assert len(calls) == 1


class TestWeightsThatCannotWork:
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize(
        "write",
        [
            export.to_saved_model,
            export.to_onnx,
            *(
                lambda *given, kind=kind: export.to_tflite(
                    *given, quantize=kind, calibration=np.ones((1, 16, 16, 3))
                )
                for kind in ("none", "weights8", "int8", "float16", None)
            ),
        ],
    )
    def test_the_weight_is_named(self, write, value, tmp_path):
        model = classifier()
        kernel = model.layers[1].kernel
        kernel.assign(np.where(np.arange(108).reshape(3, 3, 3, 4) == 5, value, 0.1))
        with pytest.raises(
            InputError,
            match=f"1 of the 108 numbers in the weight '{kernel.path}'"
            f".*not finite .the first is {value}",
        ):
            write(model, str(tmp_path / "out"))
        assert os.listdir(tmp_path) == []

    def test_a_layer_that_overflows_is_named(self, images, tmp_path):
        model = classifier()
        model.layers[2].moving_variance.assign([-1.0, 1, 1, 1])
        with pytest.raises(InputError, match="4 of 4 images .numbers 0, 1, 2, 3.; the layer 'conv"):
            export.to_saved_model(model, str(tmp_path / "out"), verify_with=images)
        model = classifier()
        model.layers[-1].kernel.assign(np.full((4, 3), 3e38))
        model.layers[2].beta.assign([9.0, 9, 9, 9])
        with pytest.raises(InputError, match="the layer 'dense"):
            export.to_saved_model(model, str(tmp_path / "out"), verify_with=images)

    def test_too_large_for_float16(self, images, tmp_path):
        model = classifier()
        model.layers[-1].kernel.assign(np.full((4, 3), 1e5))
        with pytest.raises(InputError, match="dense.*float16 ends at 65504"):
            export.to_tflite(model, str(tmp_path / "out"), quantize="float16", verify_with=images)

    @pytest.mark.parametrize("kind", ["int8", "int16x8", "weights8"])
    def test_dead_channels_are_no_fault(self, kind, images, tmp_path):
        inputs = keras.Input((16, 16, 3))
        dead = L.ReLU()(
            L.Conv2D(4, 3, padding="same", bias_initializer=keras.initializers.Constant(-1e6))(
                inputs
            )
        )  # 0 on every image
        x = L.Add()([dead, L.Conv2D(4, 3, padding="same")(inputs)])
        x = L.Dense(3, "softmax")(L.GlobalAveragePooling2D()(L.Conv2D(8, 1, activation="relu")(x)))
        model = keras.Model(inputs, x)
        kernel = model.layers[-3].kernel
        kernel.assign(kernel * ([0.0] * 4 + [1.0] * 4))  # channels that are always 0
        report = export.to_tflite(model, str(tmp_path / "out"), quantize=kind, calibration=images)
        assert report.top1_agreement == 1 or report.sqnr_db > 15


class TestCalibration:
    @pytest.mark.parametrize(
        "pixels, message",
        [
            (np.full((1, 16, 16, 3), 7.0), r"All of the 1 calibration.*single colour.*\(7, 7, 7\)"),
            (np.arange(3.0)[:, None, None, None] + np.zeros((3, 16, 16, 3)), "single colour each"),
            (
                np.random.default_rng(0).uniform(0, 1, (3, 16, 16, 3)),
                "lie in .*but this model takes",
            ),
            (np.random.default_rng(0).uniform(0, 65535, (3, 16, 16, 3)), r"pixels in \[0, 255\]"),
            (
                np.where(np.arange(3)[:, None, None, None] == 1, np.nan, np.ones((3, 16, 16, 3))),
                "not finite: number 1 of 3",
            ),
        ],
    )
    @pytest.mark.parametrize("kind", ["int8", "int16x8"])
    def test_images_that_tell_no_ranges(self, kind, pixels, message, tmp_path):
        with pytest.raises(InputError, match=message):
            export.to_tflite(classifier(), str(tmp_path / "out"), quantize=kind, calibration=pixels)

    def test_ranges_that_integers_have(self):
        assert integers._usable(0.0, 0.0, "x") == (0.0, 1.0)
        assert integers._usable(2.0, 2.0, "x") == (0.0, 2.0)
        assert integers._usable(-1.0, 2.0, "x") == (-1.0, 2.0)
        with pytest.raises(InputError, match="'conv/Relu' gives numbers that are not finite"):
            integers._usable(0.0, np.inf, "net/conv/Relu")


class TestChoice:
    @pytest.mark.parametrize(
        "variant, found",
        [("lite0", []), ("b0", ["swish", "squeeze-and-excite"]), ("edgetpu-s", [])],
    )
    def test_our_networks_by_what_they_are(self, variant, found):
        row = effnet_tf.VARIANTS[variant]
        stages = tuple(stage for stage in row.stages[:3])
        small = effnet_tf.model_fn(
            dataclasses.replace(row, name="renamed", stages=stages, head_filters=8),
            3,
            input_shape=(32, 32, 3),
        )
        assert choice.what_integers_harm(small) == found
        inside = keras.Sequential([keras.Input((32, 32, 3)), small], name="lite0")
        assert choice.what_integers_harm(inside) == found
        images = keras.Input((32, 32, 3))
        held = keras.Model(images, L.Dense(2, "softmax")(joined.Holder(small)(images)))
        assert choice.what_integers_harm(held) == found

    @pytest.mark.parametrize(
        "base, found", [("lite0", []), ("b0", ["swish", "squeeze-and-excite"])]
    )
    def test_networks_of_stock_layers(self, base, found):
        row = tiny_net.scaled(-8, base=base)
        model = effnet_tf.model_fn(row, 3, input_shape=(32, 32, 3), flat=True)
        assert choice.what_integers_harm(model) == found

    def test_foreign_networks(self):
        assert choice.what_integers_harm(classifier()) == []
        assert choice.what_integers_harm(network(L.Activation("gelu"))) == ["gelu"]
        assert choice.what_integers_harm(network(L.Flatten(), L.Dense(1, "sigmoid"))) == []
        inputs = keras.Input((8, 8, 3))
        gated = keras.Model(inputs, keras.ops.silu(inputs * L.Dense(3, "sigmoid")(inputs)))
        assert set(choice.what_integers_harm(gated)) == {"swish", "squeeze-and-excite"}

    def test_a_program_and_python_choose_alike(self, images, tmp_path, capsys):
        path = str(tmp_path / "out")
        model = classifier()
        export.to_tflite(model, path, calibration=images)
        assert identify.about(path).quantize == "int8"
        assert "quantize int8, the default for this network" in capsys.readouterr().out
        export.to_tflite(model, path)
        assert identify.about(path).quantize == "weights8"
        assert "needs calibration images" in capsys.readouterr().out


class TestNames:
    NAMES = (*hostile.NAMES, hostile.NOT_UTF8)

    @pytest.fixture(scope="class")
    def model(self):
        return classifier(classes=len(self.NAMES))

    def test_class_names_arrive(self, model, tmp_path):
        about = export.describe(
            model,
            class_names=self.NAMES,
            workdir=hostile.NOT_UTF8,
            recipe={"data_dir": hostile.NOT_UTF8},
        )
        for name, write in (("tflite", export.to_tflite), *WRITERS.items()):
            path = str(tmp_path / name)
            write(model, path, about=about)
            assert identify.about(path).class_names == self.NAMES
            assert identify.about(path).workdir == hostile.NOT_UTF8
        labels = (tmp_path / "saved_model" / "assets" / "labels.txt").read_text("utf-8")
        assert len(labels.split("\n")) == len(labels.splitlines()) + 1 == len(self.NAMES) + 1
        assert len(metadata.labels((tmp_path / "tflite").read_bytes())) == len(self.NAMES)
        assert json.loads(json.dumps(about.workdir)) == about.workdir

    def test_places(self, images, tmp_path):
        """One folder in another, of all these names."""
        path, model = os.path.join(tmp_path, *self.NAMES), classifier()
        for name, write in (("tflite", export.to_tflite), *WRITERS.items()):
            write(model, os.path.join(path, name), verify_with=images)
        export.verify(model, os.path.join(path, "saved_model"), images)

    def test_an_alias_is_of_plain_letters(self, tmp_path):
        for name in self.NAMES:
            (tmp_path / name).write_text(name.encode("utf-8", "replace").decode())
            with staging.plain(str(tmp_path / name)) as path:
                assert path.isascii() and not set(path) & set("[*?\\%{$")
                assert os.path.samefile(path, tmp_path / name)
        assert len(os.listdir(tmp_path)) == len(self.NAMES)
