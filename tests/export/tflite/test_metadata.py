"""metadata.py: what MediaPipe wants in a TFLite file, and what is read in anybody's."""

import io
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.export.about import About
from effnet_tf.export.tflite import flatbuffer, metadata
from tests.helpers.tiny_tflite import convert, minimal_metadata, with_entry

NAMES = ("tench", "Ä 猫", "great white shark", "d")


@pytest.fixture(scope="module")
def plain():
    return convert()


def run(data, image):
    """The scores of TensorFlow's interpreter."""
    with pytest.warns(UserWarning, match="deprecated"):
        interpreter = tf.lite.Interpreter(model_content=data)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]


@pytest.fixture
def image():
    """An image with much blue: class 2."""
    image = np.random.default_rng(2).integers(0, 100, (8, 8, 3)).astype("uint8")
    image[..., 2] += 150
    return image


class TestAttach:
    def test_what_is_written_is_read(self, plain):
        data = metadata.attach(plain, About("tiny", class_names=NAMES))
        read = metadata.read(data)
        assert read.name == "tiny" and "effnet_tf" in read.description
        assert (read.mean, read.std, read.labels_file) == ((0,), (1,), "labels.txt")
        assert metadata.labels(data) == list(NAMES)

    def test_the_about_travels(self, plain):
        about = About("tiny", image_size=8, class_names=NAMES, quantize="float16")
        entry = flatbuffer.get_entry(
            flatbuffer.read(metadata.attach(plain, about)), metadata.ABOUT_ENTRY
        )
        assert About.from_json(entry.decode(), "x") == about

    def test_the_file_computes_the_same(self, plain, image):
        data = metadata.attach(plain, About("tiny", class_names=NAMES))
        image = image.astype("float32")
        np.testing.assert_array_equal(run(data, image), run(plain, image))

    def test_twice_is_once(self, plain):
        once = metadata.attach(plain, About("tiny", class_names=NAMES))
        twice = metadata.attach(once, About("tiny", class_names=NAMES[::-1]))
        assert metadata.labels(twice) == list(NAMES[::-1])
        assert twice.count(b"labels.txt") == once.count(b"labels.txt")

    def test_the_same_again(self, plain):
        about = About("tiny", class_names=NAMES)
        assert metadata.attach(plain, about) == metadata.attach(plain, about)

    @pytest.mark.parametrize("count", [1, 3, 5])
    def test_a_wrong_number_of_names_is_refused(self, plain, count):
        about = About("tiny", class_names=tuple("abcde"[:count]))
        with pytest.raises(InputError, match=f"{count} class names for 4 classes"):
            metadata.attach(plain, about)

    def test_without_names_there_are_no_labels(self, plain):
        data = metadata.attach(plain, About("tiny"))
        assert metadata.labels(data) == [] and metadata.read(data).labels_file is None
        assert b"labels.txt" not in data

    def test_the_archive_is_plain(self, plain):
        """Its offsets count from the start of the file, and nothing in it is compressed."""
        data = metadata.attach(plain, About("tiny", class_names=NAMES))
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (info,) = archive.infolist()
            assert archive.testzip() is None and archive.start_dir > info.header_offset
        assert info.compress_type == zipfile.ZIP_STORED
        assert data[info.header_offset :][:4] == b"PK\x03\x04"

    def test_a_name_of_two_lines_is_one_line(self, plain):
        about = About("tiny", class_names=("a\nb", "", "c\r\nd", ""))
        assert metadata.labels(metadata.attach(plain, about)) == ["a b", "", "c d", ""]

    def test_what_the_caller_normalises_is_said(self):
        mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
        data = metadata.attach(convert(), About("tiny", mean=mean, std=std, normalizes=False))
        read = metadata.read(data)
        np.testing.assert_allclose([read.mean, read.std], [mean, std], rtol=1e-6)
        inside = metadata.read(metadata.attach(convert(), About("tiny", mean=mean, std=std)))
        assert (inside.mean, inside.std) == ((0,), (1,))


class TestRead:
    def test_nothing(self, plain):
        assert metadata.read(plain) is None and metadata.labels(plain) == []

    def test_an_empty_one_of_others(self, plain):
        assert metadata.read(with_entry(plain, minimal_metadata())) == metadata.Metadata()

    def test_a_foreign_identifier(self, plain):
        assert metadata.read(with_entry(plain, b"\0\0\0\0M999")) is None

    @pytest.mark.parametrize("length", [8, 20, 60, 200])
    def test_a_cut_one(self, plain, length):
        whole = metadata.model_metadata(About("tiny", class_names=NAMES))
        assert isinstance(metadata.read(with_entry(plain, whole[:length])), metadata.Metadata)

    def test_labels_of_another_name(self, plain):
        """As TensorFlow Hub's files have them: lines that end as on Windows, no last one."""
        data = with_entry(plain, minimal_metadata())
        file = io.BytesIO(data)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("labels.txt", "a\r\nb")
        assert metadata.labels(file.getvalue()) == ["a", "b"]


def classify(data, image):
    """MediaPipe's answer: (name of the output, [(index, class name, score)])."""
    mediapipe = pytest.importorskip("mediapipe")
    vision = mediapipe.tasks.vision
    options = vision.ImageClassifierOptions(
        base_options=mediapipe.tasks.BaseOptions(model_asset_buffer=data)
    )
    with vision.ImageClassifier.create_from_options(options) as classifier:
        (head,) = classifier.classify(
            mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
        ).classifications
    return head.head_name, [(one.index, one.category_name, one.score) for one in head.categories]


class TestMediaPipe:
    def test_float(self, plain, image):
        data = metadata.attach(plain, About("tiny", class_names=NAMES))
        head, found = classify(data, image)
        assert head == "probability"
        assert {name for _, name, _ in found} == set(NAMES)
        ours = run(data, image.astype("float32"))
        assert found[0][:2] == (2, NAMES[2]) == (ours.argmax(), NAMES[ours.argmax()])
        for index, name, score in found:
            assert name == NAMES[index] and score == pytest.approx(ours[index], abs=1e-5)

    def test_uint8(self, image):
        data = metadata.attach(convert(quantized=tf.uint8), About("tiny", class_names=NAMES))
        found = classify(data, image)[1]
        assert found[0][1] == NAMES[2]
        ours = run(data, image) / 256
        assert [score for _, _, score in sorted(found)] == pytest.approx(ours, abs=0.01)

    def test_int8_computed_for_floats(self, image):
        data = metadata.attach(convert(quantized=tf.float32), About("tiny", class_names=NAMES))
        assert classify(data, image)[1][0][1] == NAMES[2]

    def test_int8_at_the_border_is_not_for_mediapipe(self, image):
        data = metadata.attach(convert(quantized=tf.int8), About("tiny", class_names=NAMES))
        pytest.importorskip("mediapipe")
        with pytest.raises((ValueError, RuntimeError), match="got INT8"):
            classify(data, image)

    def test_without_names_it_numbers(self, plain, image):
        found = classify(metadata.attach(plain, About("tiny")), image)[1]
        assert found[0][0] == 2 and not found[0][1]

    def test_normalisation_outside(self, image):
        """The file takes (pixel - 127) / 128, and says so."""
        data = convert(scores=lambda images: tf.reduce_mean(images, (1, 2)))
        about = About(
            "tiny", class_names=NAMES[:3], mean=(127.0,) * 3, std=(128.0,) * 3, normalizes=False
        )
        found = sorted(classify(metadata.attach(data, about), image)[1])
        wanted = ((image - 127.0) / 128).mean((0, 1))
        assert [score for _, _, score in found] == pytest.approx(wanted, abs=1e-4)
