"""What does a worker say of a model file that has Keras and nothing of this package?"""

import concurrent.futures
import functools
import multiprocessing
import sys


def answer(path, images):
    """Returns what the model of a file predicts in the worker, which lives as long as we do."""
    return _worker().submit(predict, path, images).result()


@functools.cache
def _worker():
    spawn = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(1, mp_context=spawn, initializer=begin)


def begin():
    """Makes an import of this package fail."""
    sys.modules["effnet_tf"] = None


def predict(path, images):
    """Loads a model of any kind of file and returns its scores."""
    import pickle

    import keras

    if path.endswith(".pickle"):
        with open(path, "rb") as file:
            model = pickle.load(file)
    elif path.endswith(".json"):
        with open(path) as file:
            model = keras.models.model_from_json(file.read())
        model.load_weights(path.replace(".json", ".weights.h5"))
    else:
        model = keras.saving.load_model(path)
    return keras.ops.convert_to_numpy(model(images, training=False))
