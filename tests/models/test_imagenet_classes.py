"""imagenet_classes.py: the names are those of keras.applications, in their order."""

import hashlib
import inspect
import json

import keras
import pytest

from effnet_tf import class_names
from effnet_tf.errors import InputError
from effnet_tf.models import imagenet_classes


def test_they_are_the_file_that_keras_downloads():
    # Keras says the MD5 of that file, which is one line of JSON.
    index = {
        str(label): [number, name.replace(" ", "_")]
        for label, (number, name) in enumerate(imagenet_classes.synsets())
    }
    digest = hashlib.md5(json.dumps(index).encode()).hexdigest()
    assert digest in inspect.getsource(keras.src.applications.imagenet_utils)


def test_every_class_has_a_name_of_its_own():
    names = imagenet_classes.names()
    assert class_names.parse("\n".join(names).encode(), "") == names
    assert names[281:283] == ("tabby", "tiger cat") and names[134] == "crane (n02012849)"


def test_the_background_comes_first():
    names = imagenet_classes.names(1001)
    assert names[0] == "background" and names[1:] == imagenet_classes.names(1000)


@pytest.mark.parametrize("background", ["background", "Background"])
def test_a_list_with_background_fits_networks_without(background):
    names = (background, "cat", "dog")
    assert class_names.fitting(names, 2) == ("cat", "dog")
    for count in (1, 3, 4):
        assert class_names.fitting(names, count) == names
    assert class_names.fitting(("cow", "cat", "dog"), 2) == ("cow", "cat", "dog")
    assert class_names.fitting((), 2) == ()


def test_another_number_of_classes():
    with pytest.raises(InputError, match="1000 classes, or 1001 with the background, not 5"):
        imagenet_classes.names(5)
