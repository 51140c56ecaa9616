"""loading.py and reading.py: real files of every format compute what their model computed."""

import dataclasses
import gzip
import io
import json
import pathlib
import re
import shutil
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import InputError, load_weights
from effnet_tf.weights import names, reading
from tests.helpers import files, goldens

TINY = effnet_tf.CompoundScaling().variant(-8)
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def logits_error(model, golden):
    """Largest difference from the golden's logits, in their standard deviations."""
    case = golden["cases"][0]
    expected = np.asarray(case["logits"])
    images = goldens.images(case["height"], case["width"])
    return np.abs(np.asarray(model(images)) - expected).max() / expected.std()


def classifier(variant, golden, **arguments):
    case = golden["cases"][0]
    return effnet_tf.model_fn(
        variant,
        input_shape=(case["height"], case["width"], 3),
        classifier_activation=None,
        **arguments,
    )


def assert_untouched(model, before):
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, other)


# --- Google's TF1 checkpoints -------------------------------------------------------------------


@pytest.fixture(scope="module")
def tf1(tmp_path_factory):
    """(golden, folder of a checkpoint with its weights as averages) of b0."""
    golden, folder = goldens.read("b0"), tmp_path_factory.mktemp("efficientnet-b0")
    files.write_tf1(folder, files.seeded(golden))
    return golden, folder


class TestTf1:
    @pytest.mark.parametrize(
        "variant, scope",
        [
            ("b0", "efficientnet-b0"),
            ("lite0", "lite0/model"),
            ("edgetpu-s", "efficientnet-edgetpu-S"),
            pytest.param("b2", "efficientnet-b2", marks=pytest.mark.slow),
        ],
    )
    def test_averages_give_the_original_logits(self, variant, scope, tmp_path):
        golden = goldens.read(variant)
        prefix = files.write_tf1(tmp_path, files.seeded(golden), scope)
        model = classifier(variant, golden)
        report = load_weights(model, prefix)
        assert logits_error(model, golden) < 1e-5
        assert report.ema is True and "averaged weights" in str(report)
        assert len(report.matched) == len(golden["variables"])
        assert not (report.missing or report.unused or report.reshaped)
        assert report.variants == (variant,)

    @pytest.mark.parametrize(
        "spelling",
        ["folder", "folder/", "model.ckpt", "model.ckpt.index", "model.ckpt.data-00000-of-00001"],
    )
    def test_every_spelling_of_the_path(self, tf1, spelling):
        folder = tf1[1]
        path = (
            str(folder) + spelling.removeprefix("folder")
            if "folder" in spelling
            else str(folder / spelling)
        )
        assert reading.checkpoint_prefix(path) == str(folder / "model.ckpt")

    @pytest.mark.parametrize(
        "state",
        [None, 'model_checkpoint_path: "/cns/oi-d/home/efficientnet-b0/model.ckpt-218949"\n'],
    )
    def test_an_archive_whose_checkpoint_file_helps_not(self, tf1, tmp_path, state):
        inside = tmp_path / "outer" / "efficientnet-b0"
        shutil.copytree(tf1[1], inside)
        (inside / "checkpoint").unlink()
        if state:
            (inside / "checkpoint").write_text(state)
        for path in (inside, inside.parent):
            assert reading.checkpoint_prefix(str(path)) == str(inside / "model.ckpt")

    def test_several_checkpoints_and_no_word_which(self, tf1, tmp_path):
        for name in ("a", "b"):
            shutil.copy(tf1[1] / "model.ckpt.index", tmp_path / f"{name}.index")
        with pytest.raises(InputError, match="holds 2 checkpoints"):
            reading.checkpoint_prefix(str(tmp_path))

    def test_raw_weights(self, tf1):
        golden, folder = tf1
        model = classifier("b0", golden)
        report = load_weights(model, folder, ema=False)
        assert report.ema is False and "raw weights" in str(report)
        assert np.abs(model.get_layer("stem_conv").kernel).max() > 2  # the noise

    def test_without_averages_it_says_so(self, tmp_path, capsys):
        golden = goldens.read("b0")
        files.write_tf1(tmp_path, files.seeded(golden), ema=False)
        model = classifier("b0", golden, weights=str(tmp_path))
        assert "holds no averaged weights" in capsys.readouterr().out
        assert logits_error(model, golden) < 1e-5

    def test_an_unknown_variable_is_not_passed_over(self, tmp_path):
        golden = goldens.read("b0")
        files.write_tf1(
            tmp_path,
            files.seeded(golden),
            extra=["efficientnet-b0/adapter/gain", "efficientnet-b0/stem/conv2d/bias"],
        )
        model = classifier("b0", golden)
        before = model.get_weights()
        with pytest.raises(InputError, match=r"unused 2: .*adapter/gain \(3,\)"):
            load_weights(model, tmp_path)
        assert_untouched(model, before)

    def test_a_missing_variable_is_named(self, tmp_path, capsys):
        golden = goldens.read("b0")
        variables = files.seeded(golden)
        del variables["efficientnet-b0/blocks_3/se/conv2d_1/bias"]
        files.write_tf1(tmp_path, variables)
        model = classifier("b0", golden)
        before = model.get_weights()
        with pytest.raises(InputError, match=r"missing 1: block3a/se/expand/bias \(144,\)"):
            load_weights(model, tmp_path)
        assert_untouched(model, before)
        report = load_weights(model, tmp_path, strict=False)
        assert report.missing == ("block3a/se/expand/bias (144,)",)
        assert "block3a/se/expand/bias (144,)" in capsys.readouterr().out

    @pytest.mark.parametrize("variant", ["b1", "lite0", "edgetpu-s"])
    def test_another_variant_is_named(self, tf1, variant):
        model = effnet_tf.model_fn(variant)
        before = model.get_weights()[:50]
        with pytest.raises(InputError, match=f"of variant b0, and this model is {variant}"):
            load_weights(model, tf1[1])
        assert_untouched(model, before)

    def test_another_variant_through_the_first_blocks(self, tf1):
        # block1a and its input are the same in b0 and b1; reduction_1 comes after block1b there.
        with pytest.raises(InputError, match="variant b0, not of b1"):
            effnet_tf.feature_extractor("b1", "stem", weights=str(tf1[1]))

    def test_a_checkpoint_of_something_else(self, tmp_path):
        tf.train.Checkpoint(v=tf.Variable(1.0)).write(str(tmp_path / "other"))
        with pytest.raises(InputError, match="neither of train_tpu.py nor of Google's"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "other"))

    @pytest.mark.parametrize("damage", ["no data", "half data", "half index"])
    def test_a_damaged_one(self, tf1, tmp_path, damage):
        shutil.copytree(tf1[1], tmp_path, dirs_exist_ok=True)
        path = tmp_path / (
            "model.ckpt.index" if "index" in damage else "model.ckpt.data-00000-of-00001"
        )
        content = path.read_bytes()
        path.unlink()
        if "half" in damage:
            path.write_bytes(content[: len(content) // 2])
        model = effnet_tf.model_fn("b0")
        before = model.get_weights()
        with pytest.raises(InputError, match="is damaged or incomplete"):
            load_weights(model, tmp_path)
        assert_untouched(model, before)

    def test_the_archive_itself(self, tmp_path):
        (tmp_path / "b0.tar.gz").write_bytes(gzip.compress(b"x" * 100))
        with pytest.raises(InputError, match="extract it"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "b0.tar.gz"))


# --- keras.applications -------------------------------------------------------------------------

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
            loaded.get_layer("normalization").mean, [25.5, 51, 76.5], rtol=1e-6
        )
        np.testing.assert_allclose(
            loaded.get_layer("normalization").std, [51, 76.5, 102], rtol=1e-6
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
        assert loaded.get_layer("normalization").std == list(effnet_tf.VARIANTS["b0"].std)

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


# --- timm ---------------------------------------------------------------------------------------

TIMM = json.loads(gzip.decompress((goldens.REFERENCE / "timm.json.gz").read_bytes()))


def timm_state(name):
    return {key: goldens.timm_value(key, shape) for key, shape in TIMM[name]["state"].items()}


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


# --- our own ------------------------------------------------------------------------------------


class TestOwn:
    @pytest.fixture(scope="class")
    def saved(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("weights")
        model = effnet_tf.model_fn(TINY, 4, input_shape=(32, 32, 3), preprocessing="inception")
        paths = [str(folder / "a.weights.h5"), str(folder / "a.keras"), str(folder / "b.h5")]
        model.save_weights(paths[0])
        for path in paths[1:]:
            model.save(path)
        # The format is found by content: names may say anything.
        for number, path in enumerate(list(paths)):
            odd = folder / f"odd{number}.bin"
            odd.write_bytes(open(path, "rb").read())
            paths.append(str(odd))
        return model, paths

    @pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
    @pytest.mark.parametrize("which", range(6))
    def test_a_file_is_loaded_whatever_its_name(self, saved, which):
        model, paths = saved
        again = effnet_tf.model_fn(TINY, 4, weights=paths[which], input_shape=(64, 64, 3))
        for one, other in zip(model.get_weights(), again.get_weights()):
            np.testing.assert_array_equal(one, other)
        assert again.get_layer("normalization").mean == [127.5] * 3  # they come with the weights

    def test_inside_another_model(self, saved, tmp_path, capsys):
        model, _ = saved
        inputs = keras.Input((32, 32, 3))
        outer = keras.Model(inputs, keras.layers.Dense(2, name="mine")(model(inputs)))
        outer.save(tmp_path / "outer.keras")
        again = effnet_tf.model_fn(
            TINY, 4, weights=str(tmp_path / "outer.keras"), input_shape=(32, 32, 3)
        )
        for one, other in zip(model.get_weights(), again.get_weights()):
            np.testing.assert_array_equal(one, other)
        assert "unused   2: mine/kernel (4, 2), mine/bias (2,)" in capsys.readouterr().out

    @pytest.mark.parametrize("which", range(3))
    def test_another_network_is_refused_and_nothing_changes(self, saved, which):
        other = effnet_tf.model_fn(TINY, 7, input_shape=(32, 32, 3))
        before = other.get_weights()
        with pytest.raises(InputError, match=r"predictions/kernel \(600, 4\) -> \(600, 7\)"):
            load_weights(other, saved[1][which])
        assert_untouched(other, before)
        assert other.get_layer("normalization").mean[0] == pytest.approx(123.675)

    def test_not_strict_loads_what_fits_and_prints_the_rest(self, saved, capsys):
        other = effnet_tf.model_fn(TINY, 7, input_shape=(32, 32, 3))
        report = load_weights(other, saved[1][1], strict=False)
        line = "predictions/kernel (600, 4) -> (600, 7): keeps its initial values"
        assert report.reshaped[0] == line and len(report.reshaped) == 2
        assert line in capsys.readouterr().out
        np.testing.assert_array_equal(
            other.get_layer("top_conv").kernel, saved[0].get_layer("top_conv").kernel
        )

    def test_feature_extractor_takes_what_it_needs(self, saved, capsys):
        model = effnet_tf.feature_extractor(TINY, ["reduction_2"], weights=saved[1][1])
        np.testing.assert_array_equal(
            model.get_layer("stem_conv").kernel, saved[0].get_layer("stem_conv").kernel
        )
        assert "unused" in capsys.readouterr().out

    @pytest.mark.parametrize("which", range(3))
    def test_a_damaged_file(self, saved, tmp_path, which):
        whole = open(saved[1][which], "rb").read()
        (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match="is damaged"):
            effnet_tf.model_fn(TINY, 4, weights=str(tmp_path / "half"))

    @pytest.mark.parametrize("content", [b"not really", b"", b"PK\x03\x04"])
    def test_a_file_of_another_kind(self, tmp_path, content):
        (tmp_path / "weights.h5").write_bytes(content)
        with pytest.raises(InputError, match="not a weights file|is damaged"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "weights.h5"))

    def test_a_zip_of_something_else(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
            archive.writestr("readme.txt", "hello")
        with pytest.raises(InputError, match="not a weights file"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "a.keras"))

    def test_nothing_there(self, tmp_path):
        for path in (tmp_path, tmp_path / "no"):
            with pytest.raises(InputError, match="no weights at"):
                effnet_tf.model_fn(TINY, weights=str(path))


class TestNothingIsLostInSilence:
    """What a second reader found: each passed, strictly, without a word."""

    def test_two_networks_in_one_model(self, tmp_path):
        inputs = keras.Input((32, 32, 3))
        ensemble = keras.Model(
            inputs,
            keras.layers.Average()(
                [
                    effnet_tf.model_fn(TINY, 4, name=name, input_shape=(32, 32, 3))(inputs)
                    for name in ("one", "other")
                ]
            ),
        )
        ensemble.save_weights(tmp_path / "a.weights.h5")
        with pytest.raises(InputError, match="holds several networks"):
            load_weights(ensemble, tmp_path / "a.weights.h5")
        with pytest.raises(InputError, match="The file holds several networks"):
            effnet_tf.model_fn(TINY, 4, weights=str(tmp_path / "a.weights.h5"))

    def test_blocks_of_ones_own_on_top(self, tmp_path):
        def build():
            inputs = keras.Input((32, 32, 3))
            x = effnet_tf.model_fn(TINY, include_top=False)(inputs)
            for name in ("fpn1", "fpn2"):
                x = effnet_tf.MBConv(600, 600, name=name)(x)
            return keras.Model(inputs, x)

        one, other = build(), build()
        one.save_weights(tmp_path / "a.weights.h5")
        assert len(load_weights(other, tmp_path / "a.weights.h5").matched) == len(one.weights)
        for mine, theirs in zip(one.get_weights(), other.get_weights()):
            np.testing.assert_array_equal(mine, theirs)

    def test_a_missing_block_moves_no_other(self, tmp_path):
        from safetensors.numpy import save_file

        save_file(
            {
                key: value
                for key, value in timm_state("tf_efficientnet_b0").items()
                if not key.startswith("blocks.3.0.")
            },
            tmp_path / "a.safetensors",
        )
        model = effnet_tf.model_fn("b0")
        with pytest.raises(InputError, match=r"missing 19: block4a/expand_conv/kernel"):
            load_weights(model, tmp_path / "a.safetensors")
        report = load_weights(model, tmp_path / "a.safetensors", strict=False)
        assert not report.reshaped
        np.testing.assert_array_equal(
            model.get_layer("block5a").project_bn.beta,
            goldens.timm_value("blocks.4.0.bn3.bias", (112,)),
        )

    def test_a_renamed_block_of_tf1_is_named(self, tmp_path):
        variables = {
            name.replace("blocks_5/", "blocks_five/"): value
            for name, value in files.seeded(goldens.read("b0")).items()
        }
        files.write_tf1(tmp_path, variables)
        model = effnet_tf.model_fn("b0")
        with pytest.raises(InputError, match="missing 19: block4a.*unused .*blocks_five"):
            load_weights(model, tmp_path)

    def test_ones_own_normalization_is_not_the_networks(self, tmp_path):
        base = keras.applications.EfficientNetB0(weights=None, include_top=False)
        inputs = keras.Input((64, 64, 3))
        own = keras.layers.Normalization(name="normalization_7", mean=[9.0] * 3, variance=[4.0] * 3)
        outer = keras.Model(inputs, base(own(inputs)))
        for name in ("a.keras", "a.weights.h5"):
            (outer.save if "keras" in name else outer.save_weights)(tmp_path / name)
            loaded = effnet_tf.EfficientNetB0(weights=str(tmp_path / name), include_top=False)
            assert (
                loaded.get_layer("normalization").mean[0],
                loaded.get_layer("normalization").std[0],
            ) == pytest.approx((0, 255))

    def test_constants_in_the_configuration(self, tmp_path):
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.Normalization(
            mean=[120.0, 110.0, 100.0], variance=[100.0, 225.0, 400.0], name="normalization"
        )(inputs)
        body = effnet_tf.model_fn(TINY, 4, input_tensor=x, preprocessing=False)
        body.save(tmp_path / "a.keras")
        loaded = effnet_tf.model_fn(
            TINY, 4, weights=str(tmp_path / "a.keras"), input_shape=(32, 32, 3)
        )
        np.testing.assert_allclose(loaded.get_layer("normalization").mean, [120, 110, 100])
        np.testing.assert_allclose(loaded.get_layer("normalization").std, [10, 15, 20])

    @pytest.mark.parametrize(
        "theirs, mine, words",
        [
            (False, True, "the file's model left them to its caller; this one does"),
            (True, False, r"the weights expect .x - .123.675.*leaves to its caller"),
        ],
    )
    def test_who_normalises(self, theirs, mine, words, tmp_path, capsys):
        effnet_tf.model_fn(TINY, 4, preprocessing=theirs).save(tmp_path / "a.keras")
        model = effnet_tf.model_fn(TINY, 4, preprocessing=mine)
        report = load_weights(model, tmp_path / "a.keras")
        assert not report.exact and re.search(words, capsys.readouterr().out)

    def test_a_variable_that_is_no_number(self, tmp_path):
        model = effnet_tf.model_fn(TINY, 4)
        model.save_weights(tmp_path / "a.weights.h5")
        with h5py.File(tmp_path / "a.weights.h5", "r+") as root:
            del root["layers/dense/vars/0"]
            root["layers/dense/vars/0"] = np.full((600, 4), b"x")
        before = model.get_weights()
        with pytest.raises(InputError, match="holds no numbers"):
            load_weights(model, tmp_path / "a.weights.h5")
        assert_untouched(model, before)

    def test_random_damage_is_a_sentence(self, tmp_path):
        model = effnet_tf.model_fn(TINY, 4)
        path, random = tmp_path / "a.weights.h5", np.random.default_rng(0)
        model.save_weights(path)
        whole, refused = path.read_bytes(), 0
        for _ in range(40):
            damaged = bytearray(whole)
            for place in random.integers(0, 3000, 20):
                damaged[place] = random.integers(256)
            path.write_bytes(bytes(damaged))
            try:
                load_weights(model, path)
            except InputError:
                refused += 1
        assert refused > 10

    def test_a_place_that_cannot_be_read(self):
        with pytest.raises(InputError, match="'s3://bucket/x' cannot be reached: .*knows no s3"):
            effnet_tf.model_fn(TINY, weights="s3://bucket/x")

    def test_a_misspelt_name_is_no_riddle(self):
        with pytest.raises(InputError, match="Did you mean noisy-student"):
            effnet_tf.model_fn(TINY, weights="noisystudent")


class TestSmallModels:
    @pytest.mark.parametrize("variant, endpoint", [("b2", "P1"), ("lite2", "P2"), ("b0", "stem")])
    def test_a_name_fetches_the_right_variant(self, variant, endpoint, monkeypatch):
        class Asked(Exception):
            pass

        def fetch(name, asked, _):
            raise Asked(asked)

        monkeypatch.setattr(effnet_tf.published, "fetch", fetch)
        with pytest.raises(Asked, match=f"^{variant}$"):
            effnet_tf.feature_extractor(variant, endpoint, weights="imagenet")

    def test_without_a_variant_it_asks(self):
        model = effnet_tf.feature_extractor("lite2", "P1")
        with pytest.raises(InputError, match="lite0 or lite1.* say which by variant="):
            load_weights(model, "imagenet")

    def test_changed_strides_need_no_other_weights(self, tmp_path):
        stages = tuple(dataclasses.replace(stage, strides=1) for stage in TINY.stages)
        model = effnet_tf.model_fn(TINY, 4)
        model.save_weights(tmp_path / "a.weights.h5")
        fine = dataclasses.replace(TINY, name="fine", stages=stages)
        again = effnet_tf.model_fn(fine, 4, weights=str(tmp_path / "a.weights.h5"))
        np.testing.assert_array_equal(
            again.get_layer("block7a").dwconv.kernel, model.get_layer("block7a").dwconv.kernel
        )


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


# --- other heads and inputs ---------------------------------------------------------------------


class TestAdapting:
    @pytest.fixture(scope="class")
    def rgb(self, tmp_path_factory):
        """(a lite0 classifier of RGB images, its weights file)."""
        keras.utils.set_random_seed(0)
        model = effnet_tf.model_fn("lite0", 10, input_shape=(64, 64, 3))
        path = tmp_path_factory.mktemp("rgb") / "a.weights.h5"
        model.save_weights(path)
        return model, str(path)

    def test_other_classes_keep_a_new_classifier_and_say_so(self, rgb, capsys):
        model = effnet_tf.model_fn("lite0", 5, weights=rgb[1], input_shape=(64, 64, 3))
        assert (
            "predictions/kernel (1280, 10) -> (1280, 5): keeps its initial values"
            in capsys.readouterr().out
        )
        np.testing.assert_array_equal(
            model.get_layer("top_conv").kernel, rgb[0].get_layer("top_conv").kernel
        )
        assert np.std(model.get_layer("predictions").kernel) > 0

    def test_a_classifier_that_the_file_lacks(self, rgb, tmp_path, capsys):
        body = effnet_tf.model_fn("lite0", include_top=False, weights=rgb[1])
        assert "unused   2: predictions/kernel (1280, 10)" in capsys.readouterr().out
        body.save_weights(tmp_path / "notop.weights.h5")
        effnet_tf.model_fn("lite0", 3, weights=str(tmp_path / "notop.weights.h5"))
        assert "missing  2: predictions/kernel (1280, 3)" in capsys.readouterr().out

    @pytest.mark.parametrize("channels", [1, 2])
    def test_grey_images_mean_what_they_mean_in_rgb(self, rgb, channels, capsys):
        # Exactly so for Lite, whose constants are the same for every colour.
        model = effnet_tf.model_fn("lite0", 10, weights=rgb[1], input_shape=(64, 64, channels))
        assert (
            f"(3, 3, 3, 32) -> (3, 3, {channels}, 32): adapted from RGB" in capsys.readouterr().out
        )
        grey = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype("float32")
        np.testing.assert_allclose(
            model(np.repeat(grey, channels, -1)), rgb[0](np.repeat(grey, 3, -1)), rtol=1e-4
        )

    def test_a_fourth_channel_repeats_the_first(self, rgb):
        model = effnet_tf.model_fn("lite0", 10, weights=rgb[1], input_shape=(64, 64, 4))
        kernel = np.asarray(rgb[0].get_layer("stem_conv").kernel)
        np.testing.assert_allclose(
            model.get_layer("stem_conv").kernel, 0.75 * kernel[:, :, [0, 1, 2, 0]], rtol=1e-6
        )

    def test_strict_loading_adapts_nothing(self, rgb):
        model = effnet_tf.model_fn("lite0", 10, input_shape=(64, 64, 1))
        with pytest.raises(InputError, match="stem_conv/kernel"):
            load_weights(model, rgb[1])
        assert load_weights(model, rgb[1], adapt=True).reshaped

    def test_another_resolution_just_works(self, rgb, capsys):
        model = effnet_tf.model_fn("lite0", 10, weights=rgb[1], input_shape=(97, 33, 3))
        assert model(np.zeros((1, 97, 33, 3), "uint8")).shape == (1, 10)
        assert capsys.readouterr().out == ""

    def test_what_was_compiled_gets_the_new_constants(self, rgb, tmp_path):
        model = effnet_tf.model_fn(
            "lite0", 10, weights=rgb[1], input_shape=(64, 64, 3), preprocessing="imagenet"
        )
        images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
        model.predict(images, verbose=0)
        load_weights(model, rgb[1])
        np.testing.assert_allclose(model.predict(images, verbose=0), rgb[0](images), rtol=1e-5)
