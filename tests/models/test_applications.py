"""applications.py: programs written for keras.applications run with ours."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import InputError, variants
from effnet_tf.models import imagenet_classes
from effnet_tf.variants import CONSTRUCTORS


@pytest.mark.parametrize("name", variants.EFFICIENTNETS)
def test_constructors_have_the_arguments_of_keras_applications(name):
    ours = inspect.signature(getattr(effnet_tf, name)).parameters
    theirs = inspect.signature(keras.applications.EfficientNetB0).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for argument in set(theirs) - {"name", "classes"}:
        assert ours[argument].default == theirs[argument].default
    assert ours["name"].default == name.lower()
    assert ours["classes"].default == (1001 if "EdgeTPU" in name else 1000)
    # Ours come after theirs, by keyword only.
    assert {ours[argument].kind for argument in list(ours)[len(theirs) :]} == {
        inspect.Parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize("name", variants.BASELINES)
def test_constructors_of_baselines_have_the_arguments_of_ours(name):
    found = inspect.signature(getattr(effnet_tf, name)).parameters
    ours = inspect.signature(effnet_tf.EfficientNetB0).parameters
    assert list(found) == list(ours)
    for argument in set(ours) - {"name", "weights"}:
        assert found[argument].default == ours[argument].default
    assert (found["name"].default, found["weights"].default) == (name.lower(), None)


def test_published_weights_of_baselines_are_files():
    with pytest.raises(InputError, match="No weights 'imagenet' were published.*has none.*a file"):
        effnet_tf.model_fn("mobilenet_v2", weights="imagenet", input_shape=(32, 32, 3))


def test_constructors_cover_all_variants():
    assert sorted(CONSTRUCTORS.values()) == sorted(effnet_tf.VARIANTS)


# Without XLA, which takes as long to compile two whole networks as all else here.
TRANSFER_PROGRAM = """
base = EfficientNetB0(include_top=False, weights=None, input_tensor=None,
                      input_shape=(64, 64, 3), pooling=None)
base.trainable = False
inputs = keras.Input((64, 64, 3))
x = keras.layers.RandomFlip("horizontal")(inputs)
x = base(x, training=False)
x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
x = keras.layers.BatchNormalization()(x)
x = keras.layers.Dropout(0.2, name="top_dropout")(x)
outputs = keras.layers.Dense(3, activation="softmax", name="pred")(x)
model = keras.Model(inputs, outputs, name="EfficientNet")
model.compile(optimizer=keras.optimizers.Adam(1e-2), loss="categorical_crossentropy",
              metrics=["accuracy"], jit_compile=False)
images = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3)).astype("uint8")
labels = np.eye(3)[np.arange(8) % 3]
history = model.fit(images, labels, epochs=1, batch_size=4, verbose=0)
for layer in base.layers[-3:]:
    if not isinstance(layer, keras.layers.BatchNormalization):
        layer.trainable = True
model.compile(optimizer=keras.optimizers.Adam(1e-5), loss="categorical_crossentropy",
              jit_compile=False)
model.fit(images, labels, epochs=1, verbose=0)
activation = base.get_layer("top_activation").output
summary = (base.output_shape, tuple(activation.shape), len(model.trainable_weights),
           model.predict(images, verbose=0).shape, base.name)
"""


@pytest.mark.slow  # tests/habits runs many such programs with smaller networks
def test_a_keras_applications_program_runs_with_ours():
    results = []
    for constructor in (keras.applications.EfficientNetB0, effnet_tf.EfficientNetB0):
        scope = {"EfficientNetB0": constructor, "keras": keras, "np": np}
        exec(TRANSFER_PROGRAM, scope)
        results.append(scope["summary"])
    assert results[0] == results[1]


@pytest.mark.slow  # test_flat.py compares them, too, each with its own pixel constants
def test_ours_computes_what_keras_applications_computes():
    # An independent implementation: same weights, same normalised input.
    theirs = keras.applications.EfficientNetB0(weights=None, input_shape=(96, 80, 3), classes=7)
    ours = effnet_tf.EfficientNetB0(
        weights=None, input_shape=(96, 80, 3), classes=7, preprocessing=False
    )
    weights = [
        w
        for layer in theirs.layers
        if not isinstance(layer, keras.layers.Normalization)
        for w in layer.weights
    ]
    assert len(weights) == len(ours.weights)
    random = np.random.default_rng(1)
    for mine, other in zip(ours.weights, weights):
        value = other.numpy() + random.uniform(0.01, 0.1, other.shape)
        other.assign(value)
        mine.assign(value)
    images = random.uniform(0, 255, (2, 96, 80, 3)).astype("float32")
    np.testing.assert_allclose(ours(images / 255), theirs(images), rtol=2e-4, atol=1e-6)


class TestKerasApplicationsFunctions:
    def test_preprocess_input_changes_nothing(self):
        images = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3))
        assert effnet_tf.preprocess_input(images) is images
        assert effnet_tf.preprocess_input(images, data_format="channels_last") is images

    @pytest.mark.parametrize("classes", [1000, 1001])
    def test_decode_predictions(self, classes):
        scores = np.zeros((2, classes), "float32")
        scores[0, classes - 1000 + 282], scores[0, -999], scores[1, -1] = 0.5, 0.25, 0.25
        decoded = effnet_tf.decode_predictions(tf.constant(scores), top=1)
        assert decoded == [
            [("n02123159", "tiger_cat", 0.5)],
            [("n15075141", "toilet_tissue", 0.25)],
        ]
        first, second, *others = effnet_tf.decode_predictions(scores)[0]
        assert second == ("n01443537", "goldfish", 0.25) and len(others) == 3

    def test_they_are_decoded_as_by_keras_applications(self, tmp_path, monkeypatch):
        utils = keras.src.applications.imagenet_utils
        found = enumerate(imagenet_classes.synsets())
        index = {str(label): [number, name.replace(" ", "_")] for label, (number, name) in found}
        monkeypatch.setattr(utils, "CLASS_INDEX", index)
        scores = np.random.default_rng(0).random((2, 1000), "float32")
        theirs = keras.applications.imagenet_utils.decode_predictions(scores, top=7)
        assert effnet_tf.decode_predictions(scores, top=7) == theirs

    @pytest.mark.parametrize("shape", [(1000,), (1, 999)])
    def test_scores_of_other_classes(self, shape):
        with pytest.raises(InputError, match=r"\(N, 1000\)"):
            effnet_tf.decode_predictions(np.zeros(shape))
