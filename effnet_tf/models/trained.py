"""How does a run of train_tpu.py become a Keras model?"""

import os

import keras

from effnet_tf.errors import InputError
from effnet_tf.messages import log
from effnet_tf.models import build
from effnet_tf.runs import locate, texts
from effnet_tf.weights import loading

CHECKPOINTS = (None, "best", "last")
ACTIVATIONS = {"single": "softmax", "multi": "sigmoid"}  # of the classifier, by `Recipe.labels`


def load_run(
    workdir: str | os.PathLike, checkpoint: str | None = None, ema: bool = True
) -> keras.Model:
    """Returns the trained network of a run, ready to predict, with its class names.

    Args:
        workdir: the directory of the run, local or gs://; that of a run in progress, too.
        checkpoint: "last", "best" (of a run trained with `keep="best"`), or None: as the run
            keeps them.
        ema: whether to take the averaged weights, where there are some.

    Returns:
        A `keras.Model`, (N, S, S, 3) pixels in [0, 255] -> (N, classes) probabilities. Its
        `class_names` is a tuple of strings in the order of the classes. That of a run with
        `labels="multi"` ends in a sigmoid, and has `thresholds`, a tuple of floats: a class is
        given from its own on. Else `thresholds` is None.

    Raises:
        InputError: there is no run, or no such checkpoint, or it is damaged.
    """
    workdir = os.fspath(workdir)
    if checkpoint not in CHECKPOINTS:
        raise InputError(f"checkpoint is {checkpoint!r}; it must be 'best', 'last' or None.")
    recipe, class_names = texts.read_run(workdir)
    path, thresholds = locate.chosen(workdir, checkpoint), None
    if recipe.labels == "multi":
        path, thresholds = locate.with_thresholds(path)
    model = build.model_fn(
        recipe.resolved_variant(),
        len(class_names),
        classifier_activation=ACTIVATIONS[recipe.labels],
    )
    report = loading.load_weights(model, path, ema=ema, family=recipe.family)
    if report.exact:  # else it has said so itself
        log.info(str(report))
    model.class_names, model.thresholds = class_names, thresholds
    return model
