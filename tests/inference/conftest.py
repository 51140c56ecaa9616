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
    """Where everything lies that takes no time to make.

    Attributes:
        photos: a folder of images of CLASSES.
        colours: a .keras file that tells them by their colours, gives logits, and says nothing of
            its classes.
        labels: a file of CLASSES.
    """

    photos: str
    colours: str
    labels: str


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run that was trained on half of the photos.

    Attributes:
        run: its directory.
        variant: the file of its network.
        result: what training said at its end.
        files: {name: path} of its exports.
    """

    run: str
    variant: str
    result: dict
    files: dict


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A `Place`."""
    root = tmp_path_factory.mktemp("place")
    conftest.write_photos(root / "photos", CLASSES, count=8)
    inputs = keras.Input((8, 8, 3))
    colours = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    colours.save(root / "colours.keras")
    (root / "names.txt").write_text("".join(f"{name}\n" for name in CLASSES))
    return Place(*(str(root / name) for name in ("photos", "colours.keras", "names.txt")))


@pytest.fixture(scope="session")
def trained(place, tmp_path_factory):
    """A `Trained`; the variants of tests are known while it is made, and in no file of it."""
    root = tmp_path_factory.mktemp("trained")
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    with pytest.MonkeyPatch.context() as patch, tiny_net.registered(), jobs_here():
        patch.setattr(journal.Journal, "show_batch", lambda journal: None)
        variant = str(root / "tinier.json")
        effnet_tf.variants.save_variant(effnet_tf.VARIANTS["tinier"], variant)
        recipe = tiny_net.recipe(
            variant=variant,
            dataset="folder",
            data_dir=place.photos,
            num_classes=None,
            holdout=0.5,
            epochs=1,
            batch_size=4,
        )
        result = train.run(recipe, str(root / "run"))
        files = _exported(root, recipe)
    return Trained(str(root / "run"), variant, result, files)


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
