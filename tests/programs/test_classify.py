"""Files and images of every shape, name and state: `classify`, `bench` and layout.py."""

import argparse
import functools
import os
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.export import checksum, identify, layout, runtimes
from effnet_tf.export.about import About
from effnet_tf.export.tflite import flatbuffer, metadata
from effnet_tf.models import imagenet_classes
from export import bench, classify, inspect
from tests.helpers import hostile, tiny_tflite

COLOUR = (40, 220, 40)
GREY = 146  # 0.2989 * 40 + 0.587 * 220 + 0.114 * 40 = 145.7


def means(images):
    """One score per channel: its mean."""
    return tf.reduce_mean(images, (1, 2))


def write(path, data):
    pathlib.Path(path).write_bytes(data)
    return str(path)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    image = np.full((20, 30, 3), COLOUR, "uint8")
    path = tmp_path_factory.mktemp("photo") / "green.png"
    return write(path, tf.io.encode_png(image).numpy())


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write(tmp_path_factory.mktemp("plain") / "m.tflite", tiny_tflite.convert())


def save(path, channels, dtype="float32"):
    module = tf.Module()
    module.serve = tf.function(
        lambda images: {"scores": means(tf.cast(images, tf.float32))},
        [tf.TensorSpec((None, 8, 8, channels), dtype, "images")],
    )
    tf.saved_model.save(module, str(path), {"serving_default": module.serve})
    return str(path)


def save_onnx(path, shape, kind="FLOAT", axes=(1, 2)):
    onnx = pytest.importorskip("onnx")
    make, floats = onnx.helper, onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [
            make.make_node("Cast", ["images"], ["floats"], to=floats),
            make.make_node("ReduceMean", ["floats"], ["scores"], axes=axes, keepdims=0),
        ],
        "g",
        [make.make_tensor_value_info("images", getattr(onnx.TensorProto, kind), shape)],
        [make.make_tensor_value_info("scores", floats, ["N", "C"])],
    )
    onnx.save(
        make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8), str(path)
    )
    return str(path)


def save_keras(path, channels):
    model = keras.Sequential([keras.Input((8, 8, channels)), keras.layers.GlobalAveragePooling2D()])
    model.save(path)
    return str(path)


def files_of(folder, channels):
    """Yields a file of each kind for images of so many channels."""
    data = tiny_tflite.convert(means, channels=channels)
    yield write(folder / f"{channels}.tflite", data)
    yield save(folder / f"{channels}", channels)
    yield save_onnx(folder / f"{channels}.onnx", ["N", 8, 8, channels])
    yield save_keras(folder / f"{channels}.keras", channels)


def answered(capsys, path, *photos):
    classify.answer(path, list(photos))
    return capsys.readouterr().out


class TestNamesOfImageNet:
    @pytest.mark.parametrize("classes", [1000, 1001])
    def test_they_are_given_by_one_word(self, classes, capsys, tmp_path, photo):
        inputs = keras.Input((8, 8, 3))
        pixels = keras.layers.GlobalAveragePooling2D()(inputs)
        keras.Model(inputs, keras.layers.Dense(classes)(pixels)).save(tmp_path / "m.keras")
        path = str(tmp_path / "m.keras")
        said = answered(capsys, path, photo)
        assert f"for its {classes} classes" in said and "give --labels imagenet." in said
        classify.answer(path, [photo], labels="imagenet")
        _, answers = capsys.readouterr().out.splitlines()[-1].split("green.png: ")
        named = [answer.rpartition(" ")[0] for answer in answers.split(", ")]
        assert len(named) == 5 and set(named) < set(imagenet_classes.names(classes))

    def test_names_in_the_file_come_first(self, capsys, tmp_path, photo):
        data = metadata.attach(
            tiny_tflite.convert(means, channels=3), About("m", class_names="rgb")
        )
        classify.answer(write(tmp_path / "m", data), [photo], labels="imagenet")
        assert "g 220.00" in capsys.readouterr().out


class TestShapes:
    def test_one_channel(self, capsys, tmp_path, photo):
        for path in files_of(tmp_path, 1):
            out = answered(capsys, path, photo)
            assert f"class 0 {GREY}.00" in out and "takes grey images" in out, out

    def test_four_channels(self, capsys, tmp_path, photo):
        image = np.full((20, 30, 4), (*COLOUR, 100), "uint8")
        clear = write(tmp_path / "clear.png", tf.io.encode_png(image).numpy())
        for path in files_of(tmp_path, 4):
            out = answered(capsys, path, photo, clear)
            assert "green.png: class 3 255.00, class 1 220.00" in out, out
            assert "clear.png: class 1 220.00, class 3 100.00" in out, out

    def test_five_channels(self, capsys, tmp_path, photo):
        with pytest.raises(InputError, match="5 channels; image files have 1, 3 or 4"):
            answered(capsys, write(tmp_path / "m", tiny_tflite.convert(means, channels=5)), photo)

    @pytest.mark.parametrize(
        "kind, expected",
        [
            ("FLOAT", "220.00"),
            ("FLOAT16", "220.00"),
            ("DOUBLE", "220.00"),
            ("UINT8", "220.00"),
            ("INT8", "92.00"),
            ("INT32", "220.00"),
        ],
    )
    def test_onnx_with_channels_first_of_any_type(self, capsys, tmp_path, photo, kind, expected):
        path = save_onnx(tmp_path / "m.onnx", ["N", 3, 8, 8], kind, axes=(2, 3))
        assert f"class 1 {expected}" in answered(capsys, path, photo)
        found = runtimes.load(path)
        assert found.input_shape == (None, 8, 8, 3) and found.layout.channels_first

    @pytest.mark.parametrize(
        "dtype, expected",
        [("uint8", 220), ("int8", 92), ("float16", 220), ("float64", 220), ("bfloat16", 220)],
    )
    def test_saved_models_of_any_type(self, capsys, tmp_path, photo, dtype, expected):
        out = answered(capsys, save(tmp_path / "s", 3, dtype), photo)
        assert f"class 1 {expected}.00" in out

    def test_images_of_another_size_are_one_sentence(self, plain):
        with pytest.raises(InputError, match="takes images of 8 x 8 x 3 .* these are 9 x 8 x 3"):
            runtimes.load(plain)(np.zeros((2, 9, 8, 3)))

    def test_what_takes_text(self, capsys, tmp_path, photo):
        module = tf.Module()
        module.serve = tf.function(
            lambda x: {"y": tf.strings.length(x)}, [tf.TensorSpec((None,), tf.string, "encoded")]
        )
        tf.saved_model.save(module, str(tmp_path / "s"), {"serving_default": module.serve})
        with pytest.raises(InputError, match="does not take images: its input 'encoded' is string"):
            answered(capsys, str(tmp_path / "s"), photo)

    @pytest.mark.parametrize(
        "shape, first",
        [
            ((1, 3, 224, 224), True),
            ((None, 1, None, None), True),
            ((None, 224, 224, 3), False),
            ((None, None, None, 3), False),
            ((1, 3, 4, 3), False),
            ((None,) * 4, False),
        ],
    )
    def test_the_order_of_axes(self, shape, first):
        found = layout.of_inputs("m", [("images", shape, "float32")])
        assert found.channels_first == first and found.channels in (1, 3)

    def test_a_file_that_fails_while_running(self, tmp_path, capsys, photo):
        module = tf.Module()

        def serve(images):
            with tf.control_dependencies([tf.debugging.Assert(False, ["{{no}} good"])]):
                return {"scores": means(images)}

        module.serve = tf.function(serve, [tf.TensorSpec((None, 8, 8, 3), name="images")])
        tf.saved_model.save(module, str(tmp_path / "s"), {"serving_default": module.serve})
        with pytest.raises(InputError, match="fails while it runs") as failed:
            answered(capsys, str(tmp_path / "s"), photo)
        assert "\n" not in str(failed.value) and "__inference" not in str(failed.value)


class TestImages:
    def test_bad_ones_among_good_ones(self, capsys, tmp_path, plain, photo):
        broken = write(tmp_path / "broken.jpg", b"\xff\xd8\xff not a JPEG")
        os.mkfifo(tmp_path / "pipe.jpg")
        missing = str(tmp_path / "missing.jpg")
        empty = tmp_path / "empty"
        empty.mkdir()
        photos = [photo, broken, str(tmp_path / "pipe.jpg"), missing, str(empty), photo]
        with pytest.raises(InputError, match="4 of 6 images cannot be used: .*holds no images"):
            answered(capsys, plain, *photos)
        out = capsys.readouterr().out.splitlines()
        assert len([line for line in out if line.startswith(f"{photo}: class 1")]) == 2
        for path, reason in (
            (broken, "damaged"),
            (photos[2], "is a FIFO"),
            (missing, "there is no such image file"),
            (str(empty), "the folder holds no images"),
        ):
            (line,) = [line for line in out if line.startswith(f"{path}: cannot be used")]
            assert reason in line

    def test_a_folder_is_all_that_is_in_it(self, capsys, tmp_path, plain, photo):
        (tmp_path / "new").mkdir()
        for name in ("a.png", "b.png", "c.txt"):
            write(tmp_path / "new" / name, pathlib.Path(photo).read_bytes())
        out = answered(capsys, plain, str(tmp_path / "new"))
        assert out.count(".png: class 1 4") == 2 and "Left out 1 file(s)" in out

    def test_of_any_name(self, capsys, tmp_path, plain, photo):
        data = pathlib.Path(photo).read_bytes()
        names = (*hostile.NAMES, hostile.NOT_UTF8)
        out = answered(capsys, plain, *(write(tmp_path / name, data) for name in names))
        lines = [line for line in out.split("\n") if ": class 1 4" in line]
        assert len(lines) == len(names) and all(line.isprintable() for line in lines)


class TestClassNames:
    def test_are_the_same_again(self, capsys, tmp_path, photo):
        names = (*hostile.NAMES, hostile.NOT_UTF8)
        data = tiny_tflite.convert(
            lambda images: tf.pad(
                tf.reduce_mean(images, (1, 2, 3), keepdims=True)[:, 0, 0],
                [[0, 0], [0, len(names) - 1]],
                constant_values=1e3,
            )
        )
        about = About("tiny", image_size=8, class_names=names)
        path = write(tmp_path / "m.tflite", metadata.attach(data, about))
        assert identify.class_names(path) == names
        assert len(metadata.labels(identify.content(path))) == len(names)
        out = answered(capsys, path, photo)
        assert all(line.isprintable() for line in out.split("\n"))
        inspect.inspect(argparse.Namespace(file=path))
        assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))

    def test_in_assets_of_others(self, tmp_path):
        path = save(tmp_path / "s", 3)
        (tmp_path / "s" / "assets").mkdir(exist_ok=True)
        (tmp_path / "s" / "assets" / "labels.txt").write_bytes(b"a\x85b\r\nc\nd\n")
        assert identify.class_names(path) == ("a\ufffdb", "c", "d")


class TestDamage:
    """In the programs a file of others is opened by another process."""

    @pytest.fixture
    def deadly(self, plain, tmp_path):
        """One changed integer; the interpreter ends the process that opens it."""
        model = flatbuffer.read(identify.content(plain))
        for tensor in model.subgraphs[0].tensors:
            tensor.quantization = flatbuffer.schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = np.ones(1), np.zeros(1, int)
            tensor.quantization.detailsType = 2
        return write(tmp_path / "deadly.tflite", flatbuffer.write(model))

    def test_a_file_that_kills(self, deadly, photo):
        options = argparse.Namespace(
            file=deadly,
            images=[photo],
            workdir=None,
            data_dir=None,
            count=1,
            labels=None,
            picture=None,
            trust=False,
            run=None,
        )
        with pytest.raises(InputError, match="cannot be used: it crashed with|cannot open"):
            classify.classify(options)

    def test_a_changed_file_beside_its_report(self, plain, tmp_path, photo, capsys):
        path = write(tmp_path / "m.tflite", identify.content(plain))
        report = pathlib.Path(checksum.report_path(path))
        digest = checksum.of(path)["m.tflite"]
        report.write_text(f'{{"sha256": {{"m.tflite": "{digest}"}}}}')
        assert "class 1 4" in answered(capsys, path, photo)
        data = bytearray(identify.content(path))
        data[-40] ^= 1
        write(path, bytes(data))
        for use in (
            lambda: answered(capsys, path, photo),
            lambda: bench.compare([path], 0.1),
            lambda: inspect.inspect(argparse.Namespace(file=path)),
        ):
            with pytest.raises(InputError, match="is not what its export wrote"):
                use()

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
    def test_what_is_no_file(self, make, tmp_path):
        make(tmp_path / "x")
        with pytest.raises(InputError, match="is a FIFO|without saved_model.pb"):
            identify.kind(str(tmp_path / "x"))
        with pytest.raises(InputError, match="is a device"):
            identify.kind("/dev/zero")

    def test_a_bomb_of_class_names(self, plain, tmp_path):
        import zipfile

        path = write(tmp_path / "m.tflite", identify.content(plain))
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("labels.txt", b"a\n" * (metadata._MAX_LABELS // 2 + 1))
        assert os.path.getsize(path) < 1e5 and identify.class_names(path) == ()


def test_bench_of_two_inputs_is_one_sentence(tmp_path, plain, capsys):
    module = tf.Module()
    spec = tf.TensorSpec((1, 8, 8, 3))
    module.serve = tf.function(lambda a, b: {"scores": means(a + b)}, [spec, spec])
    tf.saved_model.save(module, str(tmp_path / "s"), {"serving_default": module.serve})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "s"))
    path = write(tmp_path / "two.tflite", converter.convert())
    with pytest.raises(InputError, match="takes 2 inputs"):
        bench.compare([plain, path], 0.1)
    bench.compare([plain, plain], 0.1, threads=2)
    assert "2 threads" in capsys.readouterr().out


class TestBench:
    """Other networks are timed as TensorFlow computes them, with the threads that are said."""

    @pytest.fixture
    def threads(self, monkeypatch):
        """{kind of parallelism: threads that were set}; this process has begun with others."""
        found = {}
        for kind in ("inter", "intra"):
            name = f"set_{kind}_op_parallelism_threads"
            note = functools.partial(found.__setitem__, kind)
            monkeypatch.setattr(tf.config.threading, name, note)
        return found

    def test_a_saved_model_and_a_keras_file(self, tmp_path, plain, threads, capsys):
        inputs = keras.Input((8, 8, 3))
        outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
        model = keras.Model(inputs, outputs)
        model.save(tmp_path / "m.keras")
        model.export(str(tmp_path / "saved"), verbose=False)
        paths = [plain, *(str(tmp_path / name) for name in ("m.keras", "saved"))]
        bench.compare(paths, 0.1, threads=2)
        lines = capsys.readouterr().out.splitlines()
        assert threads == {"inter": 1, "intra": 2}
        title, first, *others = lines[-4:]
        assert title == "2 threads; time per image, in turns"
        assert "XNNPACK" in first and first.endswith(" ms")
        assert all("TensorFlow" in line and line.endswith(" x") for line in others)

    def test_what_is_not_compared(self, tmp_path, monkeypatch):
        monkeypatch.setattr(identify, "kind", lambda path: "ONNX")
        with pytest.raises(InputError, match="ONNX file; bench compares TFLite files, SavedM"):
            bench.compare([str(tmp_path / "m.onnx")], 0.1)
