"""applications.py: programs written for keras.applications run with ours."""

import inspect
import json

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import InputError
from effnet_tf.variants import CONSTRUCTORS


@pytest.mark.parametrize("name", CONSTRUCTORS)
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


def test_a_keras_applications_program_runs_with_ours():
    results = []
    for constructor in (keras.applications.EfficientNetB0, effnet_tf.EfficientNetB0):
        scope = {"EfficientNetB0": constructor, "keras": keras, "np": np}
        exec(TRANSFER_PROGRAM, scope)
        results.append(scope["summary"])
    assert results[0] == results[1]


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
    def test_decode_predictions(self, classes, tmp_path, monkeypatch):
        index = {str(number): [f"n{number:08}", f"name {number}"] for number in range(1000)}
        (tmp_path / "index.json").write_text(json.dumps(index))
        utils = keras.src.applications.imagenet_utils
        monkeypatch.setattr(utils, "CLASS_INDEX", None)
        monkeypatch.setattr(
            utils.file_utils, "get_file", lambda *_, **__: str(tmp_path / "index.json")
        )
        scores = np.zeros((2, classes), "float32")
        scores[0, classes - 1000 + 7], scores[1, -1] = 0.5, 0.25
        decoded = effnet_tf.decode_predictions(scores, top=1)
        assert decoded == [[("n00000007", "name 7", 0.5)], [("n00000999", "name 999", 0.25)]]

    def test_names_that_cannot_be_had(self, monkeypatch):
        utils = keras.src.applications.imagenet_utils
        monkeypatch.setattr(utils, "CLASS_INDEX", None)

        def offline(*_, **__):
            raise Exception("URL fetch failure on ... -- no network")

        monkeypatch.setattr(utils.file_utils, "get_file", offline)
        with pytest.raises(InputError, match="cannot be downloaded: URL fetch failure"):
            effnet_tf.decode_predictions(np.zeros((1, 1000)))

    @pytest.mark.parametrize("shape", [(1000,), (1, 999)])
    def test_scores_of_other_classes(self, shape):
        with pytest.raises(InputError, match=r"\(N, 1000\)"):
            effnet_tf.decode_predictions(np.zeros(shape))
