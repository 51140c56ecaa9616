"""What a file is, says and computes: identify.py, runtimes.py, and the programs over them."""

import argparse
import io
import json
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.export import identify, runtimes
from effnet_tf.export.about import About
from effnet_tf.export.tflite import metadata
from effnet_tf.recipes import RECIPES
from export import classify, inspect
from tests.helpers import tiny_tflite

NAMES = ("red", "grün", "blue", "none")
ABOUT = About(
    "tiny",
    image_size=8,
    class_names=NAMES,
    mean=(127.0,) * 3,
    std=(128.0,) * 3,
    quantize="none",
    recipe=json.loads(RECIPES["smoke"].to_json()),
    workdir="runs/x",
)


def save(path, dtype="float32", shape=(None, 8, 8, 3), about=None, more=()):
    """Writes a SavedModel of the same function as tiny_tflite's, with further inputs."""
    module = tf.Module()
    module.serve = tf.function(
        lambda images, *_: {
            "logits": tf.cast(images[:, 0, 0], tf.float32),
            "probabilities": tiny_tflite.softmax(tf.cast(images, tf.float32)),
        },
        [tf.TensorSpec(shape, dtype, "images"), *(tf.TensorSpec((), name=name) for name in more)],
    )
    if about:
        file = path.parent / "about.json"
        file.write_text(about.to_json(), encoding="utf-8")
        module.asset = tf.saved_model.Asset(str(file))
    tf.saved_model.save(module, str(path), {"serving_default": module.serve})
    return str(path)


def write(path, data):
    path.write_bytes(data)
    return str(path)


def save_onnx(path, about=None):
    """Writes an ONNX file that gives the mean of every colour."""
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [make.make_node("ReduceMean", ["images"], ["scores"], axes=[1, 2], keepdims=0)],
        "g",
        [make.make_tensor_value_info("images", kind, ["N", 8, 8, 3])],
        [make.make_tensor_value_info("scores", kind, ["N", 3])],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    if about:
        onnx.helper.set_model_props(model, {"other": "x", identify.ONNX_KEY: about.to_json()})
    onnx.save(model, str(path))
    return str(path)


@pytest.fixture(scope="module")
def plain():
    return tiny_tflite.convert()


@pytest.fixture(scope="module")
def images():
    images = np.random.default_rng(1).integers(0, 156, (5, 8, 8, 3)).astype("uint8")
    for number, image in enumerate(images):
        image[..., number % 3] += 100
    return images


@pytest.fixture(scope="module")
def scores(images):
    return tiny_tflite.softmax(images.astype("float32")).numpy()


class TestKind:
    def test_of_all(self, tmp_path, plain):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.save(tmp_path / "m.keras")
        assert identify.kind(write(tmp_path / "no suffix", plain)) == "TFLite"
        assert identify.kind(save(tmp_path / "s")) == "SavedModel"
        assert identify.kind(str(tmp_path / "m.keras")) == "Keras"
        assert identify.kind(save_onnx(tmp_path / "x.tflite")) == "ONNX"

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"x",
            b"TFL3",
            b"PK\x03\x04 no archive",
            b'{"variant": "b0"}',
            bytes(range(256)),
            b"\x08\x08:\xff\xff\xff\x7f cut",
            b"\xff" * 40,
        ],
    )
    def test_of_something_else(self, tmp_path, content):
        with pytest.raises(InputError, match="not a SavedModel, a TFLite, ONNX or Keras"):
            identify.kind(write(tmp_path / "f", content))

    def test_of_nothing(self, tmp_path):
        with pytest.raises(InputError, match="There is no file"):
            identify.kind(str(tmp_path / "x"))
        with pytest.raises(InputError, match="without saved_model.pb"):
            identify.kind(str(tmp_path))


class TestAbout:
    def test_is_in_every_kind(self, tmp_path, plain):
        paths = [
            save(tmp_path / "s", about=ABOUT),
            save_onnx(tmp_path / "x", ABOUT),
            write(tmp_path / "t", metadata.attach(plain, ABOUT)),
        ]
        for path in paths:
            assert identify.about(path) == ABOUT
            assert identify.class_names(path) == NAMES

    def test_is_not_in_others(self, tmp_path, plain):
        for path in (save(tmp_path / "s"), save_onnx(tmp_path / "x"), write(tmp_path / "t", plain)):
            assert identify.about(path) is None
            assert identify.class_names(path) == ()
            assert identify.normalization(path) is None

    def test_may_be_damaged(self, tmp_path, plain):
        data = metadata.attach(plain, ABOUT).replace(b'"variant": ', b'"VARIANT"; ')
        with pytest.raises(InputError, match="says about itself cannot be read"):
            identify.about(write(tmp_path / "t", data))

    def test_class_names_of_others(self, tmp_path, plain):
        file = io.BytesIO(tiny_tflite.with_entry(plain, tiny_tflite.minimal_metadata()))
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("labels.txt", "a\nb\nc\nd\n")
        assert identify.class_names(write(tmp_path / "t", file.getvalue())) == tuple("abcd")


class TestLoad:
    @pytest.mark.parametrize("batch", [1, 2, None])
    def test_tflite_of_any_batch(self, tmp_path, batch, images, scores):
        classifier = runtimes.load(write(tmp_path / "t", tiny_tflite.convert(batch=batch)))
        assert classifier.input_shape == (batch, 8, 8, 3)
        for count in (5, 1, 2):
            found = classifier(images[:count])
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, scores[:count], atol=1e-5)

    @pytest.mark.parametrize("dtype", ["uint8", "int8", "float32"])
    @pytest.mark.parametrize("ours", [True, False])
    def test_integer_tflite(self, tmp_path, dtype, ours, images, scores):
        data = tiny_tflite.convert(quantized=tf.as_dtype(dtype))
        data = metadata.attach(data, ABOUT) if ours else data
        found = runtimes.load(write(tmp_path / "t", data))(images)
        np.testing.assert_allclose(found, scores, atol=0.01)

    @pytest.mark.parametrize("dtype", ["uint8", "int8"])
    def test_bytes_of_others_that_mean_something_else(self, tmp_path, dtype, images, scores):
        """They are trained on (pixel - 127.5) / 127.5, and take pixels as they are."""
        data = tiny_tflite.convert(
            lambda x: tiny_tflite.softmax(x * 127.5 + 127.5),
            quantized=tf.as_dtype(dtype),
            low=-1,
            high=2,
        )
        found = runtimes.load(write(tmp_path / "t", data))(images)
        np.testing.assert_allclose(found, scores, atol=0.02)

    def test_metadata_of_others_integer_files_are_of_their_float_model(
        self, tmp_path, images, scores
    ):
        about = About("theirs", mean=(127.5,), std=(127.5,), normalizes=False)
        data = tiny_tflite.convert(
            lambda x: tiny_tflite.softmax(x * 127.5 + 127.5), quantized=tf.uint8, low=-1, high=2
        )
        data = metadata.attach(data, about).replace(b"EFFNET_TF", b"SOMEBODYS")
        found = runtimes.load(write(tmp_path / "t", data))(images)
        np.testing.assert_allclose(found, scores, atol=0.02)

    @pytest.mark.parametrize("normalizes", [True, False])
    def test_normalises_what_the_file_does_not(self, tmp_path, normalizes, plain, images):
        about = About("tiny", mean=(10.0, 20.0, 30.0), std=(2.0, 2.0, 2.0), normalizes=normalizes)
        path = write(tmp_path / "t", metadata.attach(plain, about))
        pixels = images if normalizes else (images - np.float32([10, 20, 30])) / 2
        np.testing.assert_allclose(
            runtimes.load(path)(images), tiny_tflite.softmax(np.float32(pixels)), atol=1e-5
        )

    @pytest.mark.parametrize("dtype", ["uint8", "float32"])
    def test_saved_model(self, tmp_path, dtype, images, scores):
        found = runtimes.load(save(tmp_path / "s", dtype))(images)
        np.testing.assert_allclose(found, scores, atol=1e-5)

    def test_onnx(self, tmp_path, images):
        pytest.importorskip("onnxruntime")
        found = runtimes.load(save_onnx(tmp_path / "x"))(images)
        np.testing.assert_allclose(found, images.mean((1, 2)), rtol=1e-5)

    def test_keras(self, tmp_path, images):
        model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D()])
        model.save(tmp_path / "m.keras")
        found = runtimes.load(str(tmp_path / "m.keras"))(images)
        np.testing.assert_allclose(found, images.mean((1, 2)), rtol=1e-5)

    def test_what_takes_more_than_images(self, tmp_path):
        with pytest.raises(InputError, match="takes 2 inputs"):
            runtimes.load(save(tmp_path / "s", more=["temperature"]))

    def test_what_takes_no_images(self, tmp_path):
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        model.save(tmp_path / "m.keras")
        with pytest.raises(InputError, match="does not take images"):
            runtimes.load(str(tmp_path / "m.keras"))

    def test_a_cut_file(self, tmp_path, plain):
        with pytest.raises(InputError, match="damaged"):
            runtimes.load(write(tmp_path / "t", plain[: len(plain) // 2]))


class TestDelegation:
    def test_of_a_file(self, tmp_path, plain):
        taken, pieces, operators = runtimes.delegation(write(tmp_path / "t", plain))
        assert 0 < taken <= operators and pieces == 1

    def test_of_a_damaged_one(self, tmp_path, plain):
        with pytest.raises(InputError, match="cannot open the TFLite file"):
            runtimes.delegation(write(tmp_path / "t", plain[:8] + bytes(len(plain) - 8)))


@pytest.fixture
def inspected(capsys, monkeypatch):
    """A function from a path to the lines that inspect prints; without the slow delegation."""
    monkeypatch.setattr(runtimes, "delegation", lambda path: (3, 1, 4))

    def lines(path):
        inspect.inspect(argparse.Namespace(file=path))
        return capsys.readouterr().out.splitlines()

    return lines


class TestInspect:
    def test_our_tflite(self, inspected, tmp_path, plain):
        text = "\n".join(inspected(write(tmp_path / "t", metadata.attach(plain, ABOUT))))
        for part in (
            "TFLite, 0.01 MB",
            "tiny, quantised: none, trained in runs/x",
            "data set digits",
            "epochs: 350 -> 2",
            "4: red, grün, blue, none",
            "8 x 8: the central 20.0%",
            "the file itself computes (pixel - 127) / 128",
            "images: (1, 8, 8, 3) float32",
            "-> probabilities: (1, 4) float32",
            "SOFTMAX",
            "XNNPACK takes 3 of 4 operators, in 1 piece",
            "EFFNET_TF",
        ):
            assert part in text, text

    def test_foreign_tflite(self, inspected, tmp_path, plain):
        text = "\n".join(inspected(write(tmp_path / "t", plain)))
        assert "Not said: variant, recipe" in text and "SOFTMAX" in text

    @pytest.mark.parametrize("dtype", ["uint8", "int8"])
    def test_quantised(self, inspected, tmp_path, dtype):
        data = tiny_tflite.convert(quantized=tf.as_dtype(dtype))
        text = "\n".join(inspected(write(tmp_path / "t", data)))
        assert f"(1, 8, 8, 3) {dtype}, stands for" in text and "per tensor" in text

    def test_any_batch(self, inspected, tmp_path):
        text = "\n".join(inspected(write(tmp_path / "t", tiny_tflite.convert(batch=None))))
        assert "images: (any, 8, 8, 3) float32" in text

    def test_without_signature_and_with_subgraphs(self, inspected, tmp_path):
        function = tf.function(
            lambda x: tf.while_loop(lambda x: tf.reduce_sum(x) < 9, lambda x: (x + 1,), (x,)),
            [tf.TensorSpec((1, 3))],
        )
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [function.get_concrete_function()]
        )
        text = "\n".join(inspected(write(tmp_path / "t", converter.convert())))
        assert "none; the file takes and gives" in text
        assert "subgraph 0" in text and "subgraph 2" in text and "WHILE" in text

    def test_saved_models(self, inspected, tmp_path):
        (tmp_path / "a").mkdir()
        ours = "\n".join(inspected(save(tmp_path / "a" / "ours", "uint8", about=ABOUT)))
        assert "tiny, quantised" in ours and "images: (any, 8, 8, 3) uint8" in ours
        theirs = "\n".join(inspected(save(tmp_path / "theirs")))
        assert "Not an export" in theirs and "Softmax" in theirs and "Beware" not in theirs

    def test_a_saved_model_that_writes_files(self, inspected, tmp_path):
        module = tf.Module()

        def serve(images):
            tf.io.write_file(str(tmp_path / "stolen"), "x")
            return {"scores": images}

        module.serve = tf.function(serve, [tf.TensorSpec((None, 8, 8, 3), name="images")])
        tf.saved_model.save(module, str(tmp_path / "s"), {"serving_default": module.serve})
        text = "\n".join(inspected(str(tmp_path / "s")))
        assert "Beware" in text and "WriteFile: function __inference_serve" in text
        assert not (tmp_path / "stolen").exists()

    def test_onnx(self, inspected, tmp_path):
        text = "\n".join(inspected(save_onnx(tmp_path / "x", ABOUT)))
        assert "images: (N, 8, 8, 3) float" in text and "ReduceMean" in text

    def test_recipe_of_another_version(self, inspected, tmp_path, plain):
        about = About("tiny", recipe={"no_such_field": 1})
        text = "\n".join(inspected(write(tmp_path / "t", metadata.attach(plain, about))))
        assert "Of another version" in text

    def test_damaged_ones_are_refused(self, inspected, tmp_path, plain):
        random = np.random.default_rng(0)
        for _ in range(40):
            data = bytearray(metadata.attach(plain, ABOUT))
            for place in random.integers(8, len(data), 3):
                data[place] ^= 1 << random.integers(8)
            try:
                inspected(write(tmp_path / "t", bytes(data)))
            except InputError as error:
                assert "\n" not in str(error)

    def test_a_damaged_saved_model(self, inspected, tmp_path):
        (tmp_path / "saved_model.pb").write_bytes(b"\xff\xff no protobuf")
        with pytest.raises(InputError, match="damaged"):
            inspected(str(tmp_path))


@pytest.fixture
def photo(tmp_path):
    image = np.full((20, 30, 3), 40, "uint8")
    image[..., 1] = 220
    return write(tmp_path / "green.png", tf.io.encode_png(image).numpy())


def classified(capsys, path, *photos):
    classify.answer(path, list(photos))
    return capsys.readouterr().out


class TestClassify:
    def test_ours_of_any_type(self, capsys, tmp_path, photo, plain):
        paths = [save(tmp_path / "s", about=ABOUT)]
        for number, data in enumerate(
            [
                plain,
                tiny_tflite.convert(batch=2),
                tiny_tflite.convert(quantized=tf.uint8),
                tiny_tflite.convert(quantized=tf.int8),
            ]
        ):
            paths.append(write(tmp_path / f"{number}.tflite", metadata.attach(data, ABOUT)))
        for path in paths:
            out = classified(capsys, path, photo, photo, photo)
            assert out.count(f"{photo}: grün 4") == 3, out  # some 41 %
            assert "does not say" not in out

    def test_others(self, capsys, tmp_path, photo, plain):
        out = classified(capsys, write(tmp_path / "t", plain), photo)
        assert "does not say how its images are cut" in out and "has no names" in out
        assert "class 1 4" in out

    def test_others_with_metadata(self, capsys, tmp_path, photo):
        data = tiny_tflite.convert(lambda x: tiny_tflite.softmax(x * 128 + 127))
        about = About("theirs", class_names=NAMES, mean=(127.0,), std=(128.0,), normalizes=False)
        data = metadata.attach(data, about).replace(b"EFFNET_TF", b"SOMEBODYS")
        out = classified(capsys, write(tmp_path / "t", data), photo)
        assert "normalised as its metadata say" in out and "grün 4" in out

    def test_logits(self, capsys, tmp_path, photo):
        data = tiny_tflite.convert(lambda images: tf.reduce_mean(images, (1, 2)) / 10)
        out = classified(capsys, write(tmp_path / "t", data), photo)
        assert "class 1 22.00, class" in out

    def test_a_file_that_is_no_image(self, capsys, tmp_path, plain):
        model = write(tmp_path / "t", plain)
        with pytest.raises(InputError, match="cannot be used"):
            classified(capsys, model, model)
        with pytest.raises(InputError, match="no such image file"):
            classified(capsys, model, str(tmp_path / "none.jpg"))

    def test_a_file_of_any_size(self, capsys, tmp_path, photo):
        with pytest.raises(InputError, match="images of any size"):
            classified(capsys, save(tmp_path / "s", shape=(None, None, None, 3)), photo)
