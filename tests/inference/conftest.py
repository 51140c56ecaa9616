"""A trained run and its exports, tiny, made once for all tests of this folder."""

import dataclasses

import keras
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import train
from effnet_tf.data import crops
from effnet_tf.export import about as describing
from effnet_tf.models import build
from effnet_tf.train import journal
from effnet_tf.weights import loading
from tests import conftest
from tests.helpers import tiny_net
from tests.helpers.in_process import jobs_here

CLASSES = ("cat", "cow", "dog")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where everything lies.

    Attributes:
        photos: a folder of images of CLASSES.
        run: a run that was trained on half of them.
        result: what training said at its end.
        files: exports of the run; of ONNX only where it is installed.
        colours: a .keras file that tells them by their colours, gives logits, and says nothing of
            its classes.
    """

    photos: str
    run: str
    result: dict
    files: dict
    colours: str


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A `Place`; the variants of tests are known while it is made, and in no file."""
    root = tmp_path_factory.mktemp("inference")
    conftest.write_photos(root / "photos", CLASSES, count=8)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    with pytest.MonkeyPatch.context() as patch, tiny_net.registered(), jobs_here():
        patch.setattr(journal.Journal, "show_batch", lambda journal: None)
        variant = effnet_tf.VARIANTS["tinier"]
        effnet_tf.variants.save_variant(variant, str(root / "tinier.json"))
        recipe = tiny_net.recipe(
            variant=str(root / "tinier.json"),
            dataset="folder",
            data_dir=str(root / "photos"),
            num_classes=None,
            holdout=0.5,
            epochs=1,
            batch_size=4,
        )
        result = train.run(recipe, str(root / "run"))
        files = _exported(root, recipe)
    inputs = keras.Input((8, 8, 3))
    colours = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    colours.save(root / "colours.keras")
    places = [str(root / name) for name in ("photos", "run", "colours.keras")]
    return Place(places[0], places[1], result, files, places[2])


def _exported(root, recipe):
    """Writes the network of the run in two formats; returns {format: path}."""
    model = build.model_fn(recipe.resolved_variant(), len(CLASSES))
    loading.load_weights(model, str(root / "run"))
    padding = crops.padding_of_recipe(recipe, 32)
    about = describing.describe(model, class_names=CLASSES, crop_padding=padding)
    files = {name: str(root / name) for name in ("saved", "m.tflite")}
    effnet_tf.export.to_saved_model(model, files["saved"], about=about)
    effnet_tf.export.to_tflite(model, files["m.tflite"], about=about, quantize="none")
    return files
