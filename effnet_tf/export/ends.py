"""Does a network end in probabilities, and what does it give without its last activation?"""

import keras

from effnet_tf.export import graph

_SCORES = ("softmax", "softmax_v2", "sigmoid")  # names of functions; the second: tf.nn.softmax


def score_name(folded: keras.Model) -> str:
    """Returns what a model of `fold` gives: "probabilities" (softmax or sigmoid) or "logits"."""
    last, _ = graph.source_of(folded.outputs[0])
    if gives_scores(last):
        return "probabilities"
    return "logits"


def gives_scores(operation: keras.Operation) -> bool:
    """Whether an operation ends in softmax or sigmoid: a layer, or a function of keras.ops."""
    activation = getattr(getattr(operation, "activation", None), "__name__", "")
    return type(operation).__name__ in ("Softmax", "Sigmoid") or activation in _SCORES


def without_scores(layer: keras.Layer) -> keras.Layer:
    """Returns a copy of a layer with weights that leaves its softmax or sigmoid out."""
    copy = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    copy.build_from_config(layer.get_build_config())
    copy.set_weights(layer.get_weights())
    return copy
