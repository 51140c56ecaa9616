"""decoding.py: what headers say, photos turned by cameras, and odd files."""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tensorflow as tf

from effnet_tf.data import crops, decoding
from effnet_tf.data.crops import EvaluationCrop
from tests.data.test_crops import training_image
from tests.helpers import broken, memory


class TestPhotos:
    @pytest.mark.parametrize("turn", range(1, 9))
    @pytest.mark.parametrize("first", [b"Intel", b"Motorola"])
    def test_are_turned_as_their_exif_data_say(self, turn, first):
        exif = PIL.Image.Exif()
        exif.endian = "<" if first == b"Intel" else ">"
        exif[0x010F], exif[0x0112] = "Maker", turn
        file = broken.encoded(broken.photo(120, 200), "JPEG", quality=95, exif=exif.tobytes())
        upright = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(file))))
        assert decoding.orientation_of(tf.constant(file)) == turn
        window = tf.constant([10, 20, 60, 50])
        ours = decoding.decode_window(
            file, window, tf.constant(upright.shape[:2]), 32, tf.constant(turn), False
        )
        part = upright[10:70, 20:70].astype(float)
        assert np.abs(ours.numpy() - part).mean() < 3  # chroma differs
        whole = decoding.whole_image(tf.constant(file), True)
        assert whole.shape == upright.shape

    @pytest.mark.parametrize(
        "data",
        [b"", b"MM", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff", b"MM\0*\xff\xff\xff\xff", b"x" * 2000],
    )
    def test_damaged_exif_data_leave_them_as_they_are(self, data):
        file = broken.encoded(broken.photo(40, 60), "JPEG", exif=b"Exif\0\0" + data)
        assert decoding.orientation_of(tf.constant(file)) == 1

    def test_without_exif_data(self):
        for kind in ("JPEG", "PNG", "GIF"):
            file = tf.constant(broken.encoded(broken.photo(40, 60), kind))
            assert decoding.orientation_of(file) == 1

    @pytest.mark.parametrize(
        "window, expected",
        [
            ((0, 0, 1200, 1600), 150),
            ((100, 133, 700, 900), 87),
            ((3, 3, 300, 300), 75),
            ((3, 3, 127, 200), 127),
        ],
    )
    def test_large_ones_are_decoded_smaller(self, window, expected):
        file = tf.constant(broken.encoded(broken.photo(1200, 1600), "JPEG", quality=95))
        window = tf.constant(window)
        small, plain = (
            decoding._decode_raw_window(file, window, 64, scaled) for scaled in (True, False)
        )
        assert small.shape[0] == expected and plain.shape[0] == window[2]
        images = [crops.resize(image, 64).numpy().astype(float) for image in (small, plain)]
        assert np.abs(images[0] - images[1]).mean() < 5  # they sample other places


class TestHeaders:
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP"])
    def test_say_the_size(self, kind):
        file = tf.constant(broken.encoded(broken.photo(293, 371), kind))
        assert decoding.shape_of(file).numpy().tolist() == [293, 371]

    def test_of_a_bmp_that_begins_at_the_top(self):
        file = bytearray(broken.encoded(broken.photo(30, 40), "BMP"))
        file[22:26] = (-30).to_bytes(4, "little", signed=True)
        assert decoding.shape_of(tf.constant(bytes(file))).numpy().tolist() == [30, 40]
        assert EvaluationCrop(32, 0)(tf.constant(bytes(file))).shape == (32, 32, 3)

    @pytest.mark.parametrize("file", [b"", b"G", b"no image", b"RIFF....WEBPVP8 "])
    def test_of_what_is_no_image(self, file):
        assert decoding.header_shape(tf.constant(file)).numpy().tolist() == [0, 0]
        with pytest.raises(tf.errors.InvalidArgumentError):
            decoding.shape_of(tf.constant(file))

    def test_too_many_pixels_are_refused_before_decoding(self):
        file = bytearray(broken.encoded(broken.photo(30, 40), "PNG"))
        file[16:24] = (20_000).to_bytes(4, "big") * 2
        with pytest.raises(tf.errors.InvalidArgumentError, match="20000"):
            training_image(
                tf.constant(bytes(file)),
                32,
                crop_area_min=0.08,
                crop_padding=32,
                flip=True,
                seed=tf.constant([1, 2], tf.int64),
            )

    @pytest.mark.parametrize("name", ["bomb.png", "bomb.jpg"])
    def test_in_a_graph_they_take_no_memory(self, name):
        encoded = tf.constant(broken.bad()[name][0])  # 1.2 GB once decoded

        @tf.function(autograph=False)
        def make(encoded):
            return training_image(
                encoded,
                32,
                crop_area_min=0.08,
                crop_padding=32,
                flip=True,
                seed=tf.constant([1, 2], tf.int64),
            )

        def run():
            for _ in range(5):
                with pytest.raises(tf.errors.InvalidArgumentError):
                    make(encoded)

        assert memory.taken_by(run) < 290  # MiB

    def test_cmyk(self):
        image = broken.photo(90, 120)
        file = tf.constant(broken.encoded(image.convert("CMYK"), "JPEG", quality=95))
        assert np.abs(decoding.decode(file).numpy() - np.asarray(image, float)).mean() < 3
        part = decoding._decode_raw_window(file, tf.constant([10, 20, 30, 40]), 32, False)
        np.testing.assert_array_equal(part, decoding.decode(file)[10:40, 20:60])

    def test_first_frame_of_an_animation(self):
        frames = [broken.photo(40, 50, seed=seed) for seed in range(3)]
        file = broken.encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
        first = np.asarray(PIL.Image.open(io.BytesIO(file)).convert("RGB"))
        np.testing.assert_array_equal(decoding.decode(tf.constant(file)), first)
