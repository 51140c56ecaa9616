"""export/saved_model.py: whoever loads the directory gets what the model computes."""

import gc
import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import effnet_tf
from effnet_tf import variants
from effnet_tf.data import EvaluationCrop
from effnet_tf.errors import InputError
from effnet_tf.export import folding, graph, saved_model, staging
from effnet_tf.export.about import About
from tests.helpers import tiny_net

pytestmark = pytest.mark.processor

with tiny_net.registered():
    TINY = variants.VARIANTS["tiny"]
ABOUT = About(
    "tiny",
    image_size=40,
    class_names=("a", "b", "ü", "猫"),
    exif_rotation=True,
    recipe={"variant": "tiny", "epochs": 3},
)


def write(model, path, about, **options):
    """As `to_saved_model` does, without a look at what was written."""
    network = graph.functional(model) if options.get("keep_batch_norm") else folding.fold(model)
    saved_model.write(network, path, about, **options)


@pytest.fixture(scope="module")
def model():
    model = effnet_tf.model_fn(TINY, 4, input_shape=(40, 40, 3))
    random = np.random.default_rng(2)
    for layer in effnet_tf.layers.flatten(model):
        for weight in layer.weights:
            if "moving" in weight.path or "gamma" in weight.path or "beta" in weight.path:
                weight.assign(random.uniform(0.5, 1.5, weight.shape))
    return model


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (5, 40, 40, 3)).astype("uint8")


@pytest.fixture(scope="module")
def both(model, tmp_path_factory):
    """Whether batch norm was kept -> path."""
    folder = tmp_path_factory.mktemp("saved")
    paths = {False: str(folder / "folded"), True: str(folder / "kept")}
    for keep, path in paths.items():
        write(model, path, ABOUT, keep_batch_norm=keep, input_dtype="uint8" if keep else "float32")
    return paths


@pytest.fixture(scope="module", params=[False, True], ids=["folded", "keep_batch_norm"])
def written(request, both):
    """(path, whether batch norm was kept)."""
    return both[request.param], request.param


@pytest.fixture(scope="module")
def loaded(written):
    return tf.saved_model.load(written[0])


# Says that the image is to be turned by 90 degrees.
EXIF = b"\xff\xe1\x00\x22Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06" + bytes(6)


def library(path):
    """The functions of a SavedModel."""
    proto = saved_model_pb2.SavedModel.FromString(
        open(os.path.join(path, "saved_model.pb"), "rb").read()
    )
    return proto.meta_graphs[0].graph_def.library.function


def nodes(path):
    return [node for function in library(path) for node in function.node_def]


def features_of(model, images):
    return keras.Model(model.inputs, model.get_layer("avg_pool").output)(images)


def logits_of(model, images):
    head = model.get_layer("predictions")
    return features_of(model, images) @ head.kernel.value + head.bias.value


class TestServing:
    def test_pixels(self, written, loaded, model, images):
        serve = loaded.signatures["serving_default"]
        spec = serve.structured_input_signature[1]["images"]
        assert spec.shape == (None, 40, 40, 3)
        assert spec.dtype == (tf.uint8 if written[1] else tf.float32)
        for count in (5, 1, 0):
            outputs = serve(images=tf.cast(images[:count], spec.dtype))
            assert set(outputs) == {"probabilities", "logits"}
            assert outputs["logits"].shape == (count, 4)
        outputs = serve(images=tf.cast(images, spec.dtype))
        pixels = tf.cast(images, tf.float32)
        np.testing.assert_allclose(outputs["probabilities"], model(pixels), atol=1e-5)
        np.testing.assert_allclose(outputs["logits"], logits_of(model, pixels), atol=1e-4)

    @pytest.mark.parametrize("scaled", [False, True])
    def test_files_are_cut_as_in_evaluation(self, model, tmp_path, scaled):
        about = About("tiny", 40, crop_padding=9, exif_rotation=True, scaled_decode=scaled)
        write(model, str(tmp_path), about)
        random = np.random.default_rng(3)
        pictures = [
            random.integers(0, 256, (*sides, 3)).astype("uint8")
            for sides in ((160, 190), (90, 50), (37, 41))
        ]
        jpeg = tf.io.encode_jpeg(pictures[0])
        turned = jpeg.numpy()[:2] + EXIF + jpeg.numpy()[2:]
        encoded = tf.stack(
            [jpeg, turned, tf.io.encode_jpeg(pictures[1]), tf.io.encode_png(pictures[2])]
        )
        pixels = tf.stack(
            [
                EvaluationCrop(40, 9, exif_rotation=True, scaled_decode=scaled)(one)
                for one in encoded
            ]
        )
        assert np.any(pixels[0] != pixels[1]) and tf.reduce_min(pixels) < 0
        signatures = tf.saved_model.load(str(tmp_path)).signatures
        of_files = signatures["serving_bytes"](encoded_images=encoded)
        of_pixels = signatures["serving_default"](images=pixels)
        assert set(of_files) == {"probabilities", "logits"}
        for name, outputs in of_files.items():
            np.testing.assert_array_equal(outputs, of_pixels[name])
        np.testing.assert_allclose(of_files["probabilities"], model(pixels), atol=1e-5)

    def test_no_files_and_broken_files(self, loaded, images):
        serve = loaded.signatures["serving_bytes"]
        empty = serve(encoded_images=tf.zeros((0,), tf.string))
        assert empty["probabilities"].shape == (0, 4)
        good = tf.io.encode_jpeg(images[0]).numpy()
        for broken in (good[:200], b"", b"no image"):
            with pytest.raises(tf.errors.InvalidArgumentError):
                serve(encoded_images=tf.constant([good, broken]))

    def test_only_operations_that_tensorflow_serving_has(self, written):
        operations = {node.op for node in nodes(written[0])}
        assert not {op for op in operations if "PyFunc" in op or "Xla" in op}

    def test_files_need_the_models_size(self, model, tmp_path):
        for size, name in ((None, "none"), (48, "another")):
            write(model, str(tmp_path / name), About("tiny", size))
            signatures = tf.saved_model.load(str(tmp_path / name)).signatures
            assert list(signatures) == ["serving_default"]

    def test_dynamic_sides(self, tmp_path):
        network = effnet_tf.model_fn(TINY, 3, input_shape=(None, None, 3))
        write(network, str(tmp_path), About("tiny", 40))
        signatures = tf.saved_model.load(str(tmp_path)).signatures
        for sides in ((40, 40), (64, 33)):
            pixels = tf.fill((2, *sides, 3), 99.0)
            np.testing.assert_allclose(
                signatures["serving_default"](images=pixels)["logits"],
                logits_of(network, pixels),
                atol=1e-4,
            )
        encoded = tf.io.encode_png(np.full((40, 40, 3), 99, "uint8"))[tf.newaxis]
        assert signatures["serving_bytes"](encoded_images=encoded)["logits"].shape == (1, 3)
        assert (
            len(
                {
                    function.signature.name
                    for function in library(str(tmp_path))
                    if any(node.op == "Conv2D" for node in function.node_def)
                }
            )
            == 1
        )

    def test_bytes(self, model, images, tmp_path):
        write(model, str(tmp_path), ABOUT, input_dtype="uint8")
        serve = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
        np.testing.assert_allclose(
            serve(images=images)["probabilities"], model(images.astype("float32")), atol=1e-5
        )

    def test_whoever_normalises_elsewhere_is_served_too(self, images, tmp_path):
        inner = effnet_tf.model_fn(TINY, 3, input_shape=(40, 40, 3), preprocessing=False)
        about = About("tiny", 40, mean=(1.0, 2.0, 3.0), std=(50.0, 60.0, 70.0), normalizes=False)
        write(inner, str(tmp_path), about)
        loaded = tf.saved_model.load(str(tmp_path))
        pixels = tf.cast(images, tf.float32)
        normalised = (pixels - about.mean) / about.std
        outputs = loaded.signatures["serving_default"](images=normalised)
        np.testing.assert_allclose(outputs["logits"], logits_of(inner, normalised), atol=1e-4)
        np.testing.assert_allclose(loaded(pixels / 255), features_of(inner, normalised), atol=1e-4)


class TestHub:
    """tensorflow.org/hub: reusable SavedModels, common APIs for image tasks."""

    def test_features(self, loaded, model, images):
        pixels = tf.cast(images, tf.float32)
        for features in (
            loaded(pixels / 255),
            loaded(pixels / 255, training=False),
            loaded(pixels / 255, False),
        ):
            assert features.dtype == tf.float32
            np.testing.assert_allclose(features, features_of(model, pixels), atol=1e-4)

    def test_variables(self, written, loaded, model):
        known = {id(variable) for variable in loaded.variables}
        assert {id(variable) for variable in loaded.trainable_variables} <= known
        assert loaded.regularization_losses == []
        assert [variable.shape for variable in loaded.classifier_variables] == [(16, 4), (4,)]
        if written[1]:
            trainable = len(model.trainable_variables) - 2
            assert len(loaded.trainable_variables) == trainable
        else:
            assert loaded.trainable_variables == []
            with pytest.raises(TypeError, match="cast True"):
                loaded(tf.zeros((1, 40, 40, 3)), training=True)

    def test_gradients_reach_the_images(self, loaded, images):
        pixels = tf.cast(images, tf.float32) / 255
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            loss = tf.reduce_sum(loaded(pixels))
        assert np.abs(tape.gradient(loss, pixels)).max() > 0

    def test_regularisation(self, tmp_path):
        inputs = keras.Input((8, 8, 3))
        conv = keras.layers.Conv2D(2, 3, kernel_regularizer=keras.regularizers.L2(0.5))
        network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(conv(inputs)))
        write(network, str(tmp_path), About("x"), keep_batch_norm=True)
        loaded = tf.saved_model.load(str(tmp_path))
        (loss,) = loaded.regularization_losses
        np.testing.assert_allclose(loss(), 0.5 * np.square(conv.kernel).sum(), rtol=1e-6)


class TestTraining:
    @pytest.fixture
    def fresh(self, both):
        return tf.saved_model.load(both[True])

    def test_features_with_a_new_head(self, fresh, images):
        pixels, labels = tf.cast(images, tf.float32) / 255, tf.constant([0, 1, 2, 0, 1])
        head = tf.Variable(tf.zeros((16, 3)))
        variables = [*fresh.trainable_variables, head]
        statistics = [variable for variable in fresh.variables if "moving" in variable.name]
        before = [variable.numpy() for variable in statistics]
        losses = []
        for _ in range(8):
            with tf.GradientTape() as tape:
                scores = fresh(pixels, training=True) @ head
                losses.append(
                    tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores))
                )
            for variable, gradient in zip(variables, tape.gradient(losses[-1], variables)):
                variable.assign_sub(0.05 * gradient)
        assert losses[-1] < losses[0]
        assert statistics and all(
            np.any(old != new.numpy()) for old, new in zip(before, statistics)
        )

    def test_all_of_it(self, fresh, images):
        pixels = tf.cast(images, tf.float32)
        (outputs, features), (again, _) = (fresh.network(pixels, training=True) for _ in range(2))
        assert np.any(outputs["logits"] != again["logits"])  # dropout, drop-connect
        np.testing.assert_allclose(
            tf.nn.softmax(outputs["logits"]), outputs["probabilities"], atol=1e-6
        )
        assert features.shape == (5, 16)
        variables = [*fresh.trainable_variables, *fresh.classifier_variables]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(fresh.network(pixels, training=True)[0]["logits"] ** 2)
        assert all(gradient is not None for gradient in tape.gradient(loss, variables))

    def test_it_can_be_saved_again(self, fresh, images, tmp_path):
        fresh.variables[0].assign(fresh.variables[0] * 2)
        tf.saved_model.save(fresh, str(tmp_path / "again"))
        again = tf.saved_model.load(str(tmp_path / "again"))
        pixels = tf.cast(images, tf.float32) / 255
        np.testing.assert_array_equal(again(pixels), fresh(pixels))

    def test_nothing_in_it_needs_xla(self, both):
        """In training on this CPU blocks have passes that XLA compiles; a file runs anywhere."""
        saved = saved_model_pb2.SavedModel.FromString(
            pathlib.Path(both[True], "saved_model.pb").read_bytes()
        )
        functions = saved.meta_graphs[0].graph_def.library.function
        assert functions and not [each for each in functions if each.attr["_XlaMustCompile"].b]

    def test_frozen_batch_norm_stays_so(self, images, tmp_path):
        network = effnet_tf.model_fn(TINY, 4, input_shape=(40, 40, 3))
        for layer in effnet_tf.layers.flatten(network):
            layer.trainable = layer.name == "top_conv"
        write(network, str(tmp_path), ABOUT, keep_batch_norm=True)
        loaded = tf.saved_model.load(str(tmp_path))
        assert len(loaded.trainable_variables) == 1


class TestOtherModels:
    def outputs(self, network, path, images, keep):
        write(network, str(path), About("x"), keep_batch_norm=keep)
        loaded = tf.saved_model.load(str(path))
        pixels = tf.cast(images, tf.float32)
        return loaded.signatures["serving_default"](images=pixels), loaded(pixels / 255), pixels

    @pytest.mark.parametrize("keep", [False, True])
    def test_logits(self, images, tmp_path, keep):
        network = effnet_tf.model_fn(TINY, 3, input_shape=(40, 40, 3), classifier_activation=None)
        outputs, features, pixels = self.outputs(network, tmp_path, images, keep)
        assert list(outputs) == ["logits"] and features.shape == (5, 16)
        np.testing.assert_allclose(outputs["logits"], network(pixels), atol=1e-4)

    @pytest.mark.parametrize("keep", [False, True])
    def test_a_foreign_classifier(self, images, tmp_path, keep):
        base = effnet_tf.model_fn(TINY, include_top=False, input_shape=(40, 40, 3), pooling="avg")
        network = keras.Sequential(
            [
                keras.Input((40, 40, 3)),
                base,
                keras.layers.Dropout(0.5),
                keras.layers.Dense(1),
                keras.layers.Activation("sigmoid"),
            ]
        )
        outputs, features, pixels = self.outputs(network, tmp_path, images, keep)
        np.testing.assert_allclose(outputs["probabilities"], network(pixels), atol=1e-5)
        np.testing.assert_allclose(
            tf.sigmoid(outputs["logits"]), outputs["probabilities"], atol=1e-6
        )
        np.testing.assert_allclose(features, base(pixels), atol=1e-4)

    def test_no_classifier(self, images, tmp_path):
        network = effnet_tf.model_fn(TINY, include_top=False, input_shape=(40, 40, 3))
        outputs, features, pixels = self.outputs(network, tmp_path, images, False)
        assert list(outputs) == ["outputs"]
        np.testing.assert_allclose(outputs["outputs"], network(pixels), atol=1e-4)
        np.testing.assert_allclose(features, tf.reduce_mean(network(pixels), (1, 2)), atol=1e-4)

    def test_several_outputs(self, images, tmp_path):
        network = effnet_tf.feature_extractor(TINY, ["P1", "P2"], input_shape=(40, 40, 3))
        outputs, features, pixels = self.outputs(network, tmp_path, images, False)
        for name, expected in network(pixels).items():
            np.testing.assert_allclose(outputs[name], expected, atol=1e-4)
        np.testing.assert_allclose(features, tf.reduce_mean(outputs["P2"], (1, 2)), atol=1e-5)

    def test_half_precision(self, images, tmp_path):
        inputs = keras.Input((40, 40, 3))
        x = keras.layers.GlobalAveragePooling2D(dtype="mixed_bfloat16")(inputs)
        network = keras.Model(inputs, keras.layers.Dense(2, "softmax", dtype="mixed_bfloat16")(x))
        outputs, features, _ = self.outputs(network, tmp_path, images, True)
        assert {tensor.dtype for tensor in (features, *outputs.values())} == {tf.float32}
        assert set(outputs) == {"probabilities", "logits"}

    def test_refused(self, model, tmp_path):
        two = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
        with pytest.raises(InputError, match="is for models of one batch of images"):
            added = keras.Model(two, keras.layers.Add()(two))
            write(added, str(tmp_path), ABOUT, keep_batch_norm=True)
        with pytest.raises(InputError, match="int8"):
            write(model, str(tmp_path), ABOUT, input_dtype="int8")
        inputs = keras.Input((40, 40, 3))
        with pytest.raises(InputError, match="ends in the model .* cannot be reached from outside"):
            write(keras.Model(inputs, model(inputs)), str(tmp_path), ABOUT, keep_batch_norm=True)
        assert os.listdir(tmp_path) == []


class TestFiles:
    def test_assets(self, written):
        assets = os.path.join(written[0], "assets")
        texts = {
            name: open(os.path.join(assets, name), encoding="utf-8").read()
            for name in os.listdir(assets)
        }
        assert texts["labels.txt"].splitlines() == ["a", "b", "ü", "猫"]
        assert About.from_json(texts["about.json"], "about.json") == ABOUT
        assert json.loads(texts["recipe.json"]) == ABOUT.recipe
        assert len(texts) == 3

    def test_garbage_is_collected_again(self, written):
        assert gc.isenabled()

    def test_no_names_no_recipe(self, model, tmp_path):
        write(model, str(tmp_path), About("tiny"))
        assert os.listdir(tmp_path / "assets") == ["about.json"]

    def test_every_weight_once(self, written, model):
        path, kept = written
        shapes = tf.train.load_checkpoint(os.path.join(path, "variables", "variables"))
        stored = [
            shape
            for name, shape in shapes.get_variable_to_shape_map().items()
            if name.endswith("VARIABLE_VALUE")
        ]
        weights = model.variables if kept else folding.fold(model).variables
        ours = [list(weight.shape) for weight in weights]
        assert sorted(stored) == sorted(ours)

    def test_every_graph_once(self, written):
        with_layers = [
            function
            for function in library(written[0])
            if any(node.op == "DepthwiseConv2dNative" for node in function.node_def)
        ]
        assert len(with_layers) == (2 if written[1] else 1)

    def test_nothing_of_ours_or_keras_is_needed(self, written, loaded, images, tmp_path):
        np.save(tmp_path / "images.npy", images.astype("float32") / 255)
        program = (
            "import sys; sys.modules.update(dict.fromkeys(['effnet_tf', 'keras', 'tf_keras']))\n"
            "import numpy, tensorflow as tf\n"
            f"loaded = tf.saved_model.load({written[0]!r})\n"
            f"images = numpy.load({str(tmp_path / 'images.npy')!r})\n"
            "print(loaded(images).numpy().tolist())\n"
            "print(tf.io.gfile.GFile(loaded.assets[0].asset_path.numpy()).read()[:1])"
        )
        finished = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": ""},
        )
        assert finished.returncode == 0, finished.stderr[-2000:]
        features, first = finished.stdout.splitlines()
        np.testing.assert_allclose(
            json.loads(features), loaded(images.astype("float32") / 255), atol=1e-5
        )
        assert first == "{"


@pytest.mark.slow
def test_b0_is_half_of_what_keras_writes(tmp_path):
    write(effnet_tf.model_fn("b0"), str(tmp_path / "ours"), About("b0", 224))
    keras.applications.EfficientNetB0(weights=None).export(str(tmp_path / "keras"), verbose=False)
    assert staging.size(str(tmp_path / "ours")) <= 0.5 * staging.size(str(tmp_path / "keras"))
