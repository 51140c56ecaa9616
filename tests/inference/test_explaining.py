"""explaining.py, last_map.py, overlays.py, explain_program.py: what speaks for a class."""

import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf.errors import InputError
from effnet_tf.export.layout import Layout
from effnet_tf.inference import explain_program, explaining, last_map, overlays, sheets, subjects
from effnet_tf.inference.explaining import Explanation, explain
from effnet_tf.recipes import RECIPES
from tests.helpers import tiny_net
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)

L = keras.layers


def subject_of(model):
    """A `Subject` of a model of square images."""
    layout = Layout("m", "images", model.input_shape, model.inputs[0].dtype, channels_first=False)
    classes = model.output_shape[-1]
    return subjects.Subject(
        "'m'", "m", model.predict, True, classes, (), layout, RECIPES["small"], model=model
    )


def of_corner(activation=None):
    """A network of two classes that sees nothing but the lower right quarter of 16 x 16 pixels.

    Class 0 is for what is red there, class 1 for what is blue.
    """
    images = keras.Input((16, 16, 3))
    x = L.Cropping2D(((8, 0), (8, 0)))(images)
    x = L.Conv2D(2, 2, strides=2, use_bias=False, name="colours")(x)
    x = L.ZeroPadding2D(((4, 0), (4, 0)))(x)  # (N, 8, 8, 2)
    x = L.GlobalAveragePooling2D()(x)
    model = keras.Model(images, L.Dense(2, activation)(x))
    kernel = np.zeros((2, 2, 3, 2), "float32")
    kernel[:, :, 0, 0] = kernel[:, :, 2, 1] = 0.1
    model.get_layer("colours").set_weights([kernel])
    model.layers[-1].set_weights([np.eye(2, dtype="float32"), np.zeros(2, "float32")])
    return model


NOISE = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")
BOTH = np.array([[0, 1], [0, 1]])
METHODS = [explaining.grad_cam, explaining.integrated_gradients]


class TestMethods:
    @pytest.mark.parametrize("method", METHODS)
    def test_the_heat_is_where_the_class_is(self, method):
        heats = method(last_map.split(subject_of(of_corner())))(NOISE, BOTH)
        side = heats.shape[-1] // 2
        assert heats.shape[:2] == (2, 2)
        assert (heats[:, :, side:, side:] > 0).mean() > 0.9
        heats[:, :, side:, side:] = 0
        assert heats.max() == 0

    @pytest.mark.parametrize("method", METHODS)
    def test_each_class_has_its_own(self, method):
        """A red patch above a blue one."""
        images = np.zeros((1, 16, 16, 3), "float32")
        images[:, 8:12, 8:, 0] = images[:, 12:, 8:, 2] = 255
        heats = method(last_map.split(subject_of(of_corner())))(images, BOTH[:1])
        size = heats.shape[-1]
        red, blue = heats[0, :, :, size // 2 :]
        three = size * 3 // 4
        assert red[size // 2 : three].min() > 0 and red[three:].max() == 0
        assert blue[three:].min() > 0 and blue[:three].max() == 0

    def test_grad_cam_is_the_classifiers_weights_times_the_maps(self):
        """For pooling and a dense layer; computed by numpy."""
        with tiny_net.registered():
            model = effnet_tf.model_fn("tiny", 5, input_shape=(40, 40, 3))
        tiny_net.randomise_batch_norm(model)
        split = last_map.split(subject_of(model))
        images = np.random.default_rng(1).uniform(0, 255, (3, 40, 40, 3)).astype("float32")
        maps = keras.Model(model.input, model.get_layer("top_activation").output)(images).numpy()
        weights = model.get_layer("predictions").get_weights()[0]  # (F, classes)
        numbers = np.array([[0, 4], [3, 1], [2, 2]])
        wanted = np.stack([maps[n] @ weights[:, numbers[n]] for n in range(3)])
        wanted = np.maximum(np.moveaxis(wanted, -1, 1), 0) / np.prod(maps.shape[1:3])
        found = explaining.grad_cam(split)(images, numbers)
        assert wanted.max() > 0 and wanted.shape[2:] != (1, 1)
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * wanted.max())

    def test_integrated_gradients_add_up_to_the_score(self):
        """The axiom of completeness, for a network that is not linear."""
        model = of_corner()
        x = L.Activation("tanh")(L.Rescaling(0.01)(model.output))
        bent = keras.Model(model.input, L.Dense(3, kernel_initializer="orthogonal")(x))
        found = explaining.attributions(last_map.split(subject_of(bent)))(NOISE, BOTH)
        gained = bent(NOISE).numpy() - bent(0 * NOISE).numpy()
        np.testing.assert_allclose(found.sum((2, 3)), gained[:, :2], rtol=1e-3)

    def test_a_softmax_is_left_out(self):
        """Else a sure answer would have no gradient."""
        plain = of_corner()
        wanted = explaining.grad_cam(last_map.split(subject_of(plain)))(NOISE, BOTH)
        ends = [of_corner("softmax"), of_corner("sigmoid")]
        for end in (L.Softmax(), L.Activation("softmax", dtype="float32")):
            linear = L.Activation("linear")(plain.output)
            ends.append(keras.Model(plain.input, end(linear)))
        for model in ends:
            found = explaining.grad_cam(last_map.split(subject_of(model)))(NOISE, BOTH)
            np.testing.assert_allclose(found, wanted, rtol=1e-5)

    def test_whole_numbers_and_frozen_weights(self):
        images = keras.Input((16, 16, 3), dtype="uint8")
        inner = of_corner()
        inner.trainable = False
        model = keras.Model(images, inner(L.Rescaling(1.0)(images)))
        compute = explaining.grad_cam(last_map.split(subject_of(model)), "uint8")
        wanted = explaining.grad_cam(last_map.split(subject_of(inner)))(np.floor(NOISE), BOTH)
        np.testing.assert_allclose(compute(np.uint8(NOISE), BOTH), wanted, rtol=1e-5)


def base(side, **options):
    with tiny_net.registered():
        return effnet_tf.model_fn("tiny", include_top=False, input_shape=(side,) * 2 + (3,))


def nested():
    """As every guide to fine-tuning builds it."""
    images = keras.Input((40, 40, 3))
    x = base(40)(L.RandomFlip()(images), training=False)
    return keras.Model(images, L.Dense(3, "softmax")(L.GlobalAveragePooling2D()(x)))


def nested_deep():
    """The pooling is inside of a model, inside of a Sequential."""
    inner = base(40)
    pooled = keras.Model(inner.input, L.GlobalAveragePooling2D()(inner.output))
    return keras.Sequential([keras.Input((40, 40, 3)), pooled, L.Dropout(0.5), L.Dense(3)])


def convolutional_end():
    """The end of keras.applications' MobileNets."""
    inner = base(40)
    x = L.GlobalAveragePooling2D(keepdims=True)(inner.output)
    x = L.Reshape((3,))(L.Conv2D(3, 1)(L.Dropout(0.1)(x)))
    return keras.Model(inner.input, L.Activation("softmax")(x))


def flattened():
    inner = base(40)
    return keras.Model(inner.input, L.Dense(3)(L.Flatten()(inner.output)))


def two_poolings():
    inner = base(40)
    both = [L.GlobalAveragePooling2D()(inner.output), L.GlobalMaxPooling2D()(inner.output)]
    return keras.Model(inner.input, L.Dense(3)(L.Concatenate()(both)))


class TestLastMap:
    @pytest.mark.parametrize(
        "make", [nested, nested_deep, convolutional_end, flattened, two_poolings]
    )
    def test_heads_of_others(self, make):
        model = make()
        split = last_map.split(subject_of(model))
        images = np.random.default_rng(2).uniform(0, 255, (1, 40, 40, 3)).astype("float32")
        found = split(images, training=False)
        inner = next(layer for layer in model._flatten_layers() if layer.name == "top_activation")
        assert (
            split.output["map"].shape[1:] == inner.output.shape[1:]
            and split.output["map"].shape[1] > 1
        )
        scores = found["scores"].numpy()
        if scores.shape == model.output_shape and make in (nested, convolutional_end):
            scores = tf.nn.softmax(scores).numpy()
        wanted = model(images, training=False).numpy()
        close = [scores, tf.nn.softmax(scores).numpy()]
        assert min(np.abs(each - wanted).max() for each in close) < 1e-5

    @pytest.mark.parametrize("flat", [False, True])
    def test_a_map_of_one_pixel(self, flat):
        """The image was small; the map before it is another one."""
        variant = effnet_tf.CompoundScaling().variant(-8)
        model = effnet_tf.model_fn(variant, 3, input_shape=(32, 32, 3), flat=flat)
        split = last_map.split(subject_of(model))
        head = model.get_layer("top_activation").output
        assert split.output["map"] is head and head.shape[1:3] == (1, 1)

    def test_a_network_without_a_map(self):
        images = keras.Input((4, 4, 3))
        x = L.Dense(2)(L.Flatten()(images))
        assert last_map.split(subject_of(keras.Model(images, x))).output["map"] is images
        table = keras.Input((4,))
        with pytest.raises(InputError, match="'m' has no map"):
            last_map.split(subject_of(keras.Model(table, L.Dense(2)(table))))


@pytest.fixture(scope="module")
def corner(tmp_path_factory):
    """Path of a .keras file of `of_corner`."""
    path = str(tmp_path_factory.mktemp("corner") / "corner.keras")
    of_corner("softmax").save(path)
    return path


class TestExplain:
    def test_best_classes(self, place, tmp_path):
        (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff not a JPEG")
        paths = [
            f"{place.photos}/dog/0.jpg",
            str(tmp_path / "broken.jpg"),
            f"{place.photos}/cat/1.png",
        ]
        options = subjects.Options(labels=place.labels)
        found = list(explain(place.colours, paths, options=options, top=2, batch_size=2))
        assert [each.image for each in found] == paths
        assert [each.classes[:1] for each in found] == [("dog",), (), ("cat",)]
        assert "damaged" in found[1].fault and found[1].heats.size == 0
        for each, number in ((found[0], 2), (found[2], 0)):
            assert (
                each.heats.shape == (2, 8, 8) and 0 < each.probabilities[1] < each.probabilities[0]
            )
            # What this network sees is the mean of a colour.
            wanted = np.maximum(each.pixels[..., number] / 64, 0)
            np.testing.assert_allclose(each.heats[0], wanted, rtol=1e-4)

    def test_named_classes(self, place, corner):
        path = f"{place.photos}/cat/0.jpg"
        names = ["class 1", "class 0"]
        (found,) = explain(corner, [path], classes=names)
        assert found.classes == ("class 1", "class 0") and found.heats.shape == (2, 16, 16)
        assert found.heats[:, :8, :7].max() == 0 and found.heats[1, 8:, 8:].min() > 0

    @pytest.mark.parametrize(
        "words, message",
        [
            ({"classes": ["cart"]}, "no class 'cart'. Did you mean cat"),
            ({"method": "lime"}, "method is 'lime'; it must be one of grad_cam, integrated"),
        ],
    )
    def test_what_is_wrong_is_told(self, place, words, message):
        options = subjects.Options(labels=place.labels)
        with pytest.raises(InputError, match=message):
            next(explain(place.colours, ["x.jpg"], options=options, **words))

    def test_names_in_capitals_and_twice(self):
        assert explaining._number("CAT", ("dog", "cat")) == 1
        assert explaining._number("crane", ("Crane", "crane")) == 1
        with pytest.raises(InputError, match="2 classes of the network are called 'crane'"):
            explaining._number("crane", ("crane", "crane"))

    def test_what_gives_maps_or_takes_bytes(self):
        images = keras.Input((8, 8, 3), dtype="uint8")
        x = L.Conv2D(2, 3)(L.Rescaling(1.0)(images))
        maps = subject_of(keras.Model(images, x))
        with pytest.raises(InputError, match="not one score for each class"):
            explaining.Explainer(maps, 1, (), "grad_cam")
        with pytest.raises(InputError, match=r"whole numbers \(uint8\).*--method grad_cam"):
            explaining.Explainer(maps, 1, (), "integrated_gradients")


class TestTrained:
    def test_a_run_and_its_weights(self, trained, place):
        paths = [f"{place.photos}/cow/0.jpg"]
        (of_run,) = explain(trained.run, paths, classes=["cow"])
        options = subjects.Options(variant=trained.variant, labels=place.labels)
        (of_weights,) = explain(trained.run, paths, options=options, classes=["cow"])
        assert of_run.classes == ("cow",) and of_run.heats.shape == (1, 32, 32)
        assert of_weights.heats.shape == (1, 32, 32)

    @pytest.mark.parametrize("name, kind", [("m.tflite", "TFLite"), ("saved", "SavedModel")])
    def test_files_without_gradients(self, trained, name, kind):
        with pytest.raises(InputError, match=f"is a {kind} file, which has no gradients"):
            next(explain(trained.files[name], ["x.jpg"]))


class TestOverlays:
    def test_colours_lie_where_the_heat_is(self):
        heat = np.zeros((20, 20), "float32")
        heat[10:, 10:] = 3
        found = overlays.blended(np.full((20, 20, 1), 100.0, "float32"), heat)
        assert found.shape == (20, 20, 3) and found.dtype == np.uint8
        assert (found[10:, 10:, 0] > found[10:, 10:, 2]).all()  # red
        assert (found[:10, :, 0] < found[:10, :, 2]).all()  # blue

    def test_the_classes_of_an_image_share_their_colours(self):
        """What hardly speaks for the second one is not drawn as if it did."""
        heats = np.zeros((2, 20, 20), "float32")
        heats[0, 10:, 10:], heats[1, 10:, 10:] = 3, 0.01
        one = Explanation("x.jpg", ("cat", "cow"), (0.9, 0.1), heats, np.full((20, 20, 3), 100.0))
        _, cat, cow = overlays.panels(one)[0]
        assert cat[15, 15, 0] > cat[15, 15, 2]  # red
        assert cow[15, 15, 0] < cow[15, 15, 2]  # blue

    def test_nothing_is_no_colour(self):
        pixels = np.full((8, 8, 3), 100.4, "float32")
        plain = overlays.blended(pixels, np.zeros((8, 8)))
        assert (plain == 100).all()
        one = Explanation("x.jpg", ("cat",), (0.25,), np.zeros((1, 8, 8)), pixels)
        assert overlays.panels(one)[1] == ["x.jpg", "cat (25.0%): nothing speaks for it"]

    def test_names_of_pictures(self, tmp_path):
        """No two alike, and none that of a photograph."""
        folder = sheets.Folder(str(tmp_path / "new"), "grad_cam")
        names = [folder._name(image) for image in ("a/1.jpg", "b/1.png", "B/1.JPG")]
        assert names == ["1-grad_cam.png", "1-grad_cam-2.png", "1-grad_cam-3.png"]


def run(*words):
    explain_program.main(explain_program.parse(["explain", *map(str, words)]))


@pytest.mark.usefixtures("in_this_process")
class TestProgram:
    def test_a_picture_of_each(self, place, tmp_path, capsys):
        shutil.copytree(f"{place.photos}/cow", tmp_path / "cow")
        (tmp_path / "cow" / "2.jpg").write_bytes(b"<html>")
        out = tmp_path / "out"
        with pytest.raises(InputError, match=r"1 of 3 images cannot be used: '.*2.jpg': it is"):
            run(place.colours, *(tmp_path / "cow" / f"{n}.jpg" for n in (0, 2, 4)), "--out", out)
        said = capsys.readouterr().out
        assert "2.jpg: cannot be used: it is text" in said
        assert f"drew {out}/0-grad_cam.png" in said and f"Drew 2 pictures to {out}" in said
        assert sorted(os.listdir(out)) == ["0-grad_cam.png", "4-grad_cam.png"]
        assert (out / "0-grad_cam.png").read_bytes().startswith(b"\x89PNG")

    def test_one_picture(self, place, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr("effnet_tf.plots.MOST", 6)
        sheet = tmp_path / "sheet.png"
        run(place.colours, f"{place.photos}/cat", "--top", "2", "--out", sheet)
        said = capsys.readouterr().out
        assert f"Drew {sheet}: 2 images, as many as a picture takes" in said
        assert os.listdir(tmp_path) == ["sheet.png"]

    def test_what_is_wrong_is_told(self, place, tmp_path):
        with pytest.raises(InputError, match="There is no folder for 'no/such/sheet.png'"):
            run(place.colours, place.photos, "--out", "no/such/sheet.png")
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(InputError, match="is a file: give a folder, or a name that ends in"):
            run(place.colours, place.photos, "--out", tmp_path / "notes.txt")
