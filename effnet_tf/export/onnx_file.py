"""How does a model become an ONNX file? Through Keras' own export, of the folded model.

It needs the packages of the extra [onnx].
"""

import warnings

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from effnet_tf import extras
from effnet_tf.errors import InputError, first_line
from effnet_tf.export import ends, graph, identify, inputs, mixing
from effnet_tf.export.about import About

# tf2onnx fails where a number without a side is added to a convolution's result, and then leaves
# all its transpositions in (1.17, transpose_optimizer.py: _add_handler).
_THREE, _SIXTH = np.full(1, 3.0, "float32"), np.full(1, 1 / 6, "float32")


def _hard_sigmoid(x):
    return ops.relu6(x + _THREE) * _SIXTH


def _hard_silu(x):
    return x * _hard_sigmoid(x)


_WITH_SIDES = {
    keras.activations.hard_sigmoid: _hard_sigmoid,
    keras.activations.hard_silu: _hard_silu,
}


def write(folded: keras.Model, path: str, about: About) -> None:
    """Writes a folded model as an ONNX file.

    Its input is `images`, (N, H, W, C) float32 in [0, 255] for any N (several have the names
    of `inputs.names`), its outputs are
    `probabilities` and `logits`, (N, classes) or (N, H, W, classes) float32. Without an
    activation there are only `logits`; a model whose outputs are a dict gives that; what is
    not a classifier gives `outputs`.

    Args:
        folded: a model of `fold`; its last layer is taken apart, and hard sigmoids are written
            otherwise.
        path: file to write; one there is replaced.
        about: an `About`; its JSON text is the metadata property "effnet_tf".

    Raises:
        InputError: an operation that ONNX lacks, a missing package.
    """
    extras.require("Writing ONNX files", *extras.ONNX)
    for layer in folded.layers:
        if isinstance(layer, keras.layers.Activation):
            layer.activation = _WITH_SIDES.get(layer.activation, layer.activation)
    mixing.mix_outputs(folded)  # whose convolutions have a number of groups that is known
    network = keras.Model(folded.inputs, _named(folded))
    signature = [
        keras.InputSpec(inputs.dtype(tensor), tensor.shape, name=name)
        for name, tensor in zip(inputs.names(folded), folded.inputs)
    ]
    names = [spec.name for spec in signature]
    if len(signature) > 1:
        signature = [signature]  # one argument, a list
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy's old names in tf2onnx
            network.export(path, format="onnx", verbose=False, input_signature=signature)
        _finish(path, about, names)
    except (InputError, OSError, tf.errors.OpError, MemoryError):
        raise
    except Exception as error:  # tf2onnx and onnx have kinds of their own for what they lack
        raise InputError(
            f"The model '{folded.name}' cannot be written as ONNX: "
            f"{first_line(error)}. Try a SavedModel or TFLite."
        ) from error


def _named(folded):
    """Returns name -> output of a folded model, whose layer of scores it may take apart."""
    output = folded.output
    if isinstance(output, dict):
        return output
    if isinstance(output, (list, tuple)):
        return {f"outputs_{number}": each for number, each in enumerate(output)}
    layer, taken = graph.source_of(output)
    if ends.gives_scores(layer) and getattr(layer, "weights", None):
        scores, layer.activation = layer.activation, keras.activations.linear
        return {"probabilities": keras.layers.Activation(scores)(output), "logits": output}
    if ends.gives_scores(layer):
        return {"probabilities": output, "logits": taken[0]}
    if isinstance(layer, keras.layers.Dense):
        return {"logits": output}
    return {"outputs": output}


def _finish(path, about, wanted):
    """Checks that there are no other inputs, names the batch, writes what it is about."""
    onnx = extras.load("onnx", "Writing ONNX files")
    proto = onnx.load(path)
    names = [each.name for each in proto.graph.input]
    if sorted(names) != sorted(wanted):  # constants of eager tensors would be inputs, too
        raise InputError(
            f"The ONNX file has the inputs {', '.join(names)}, not only {', '.join(wanted)}: "
            "a layer computes with an eager tensor; make it a NumPy array."
        )
    for each in (*proto.graph.input, *proto.graph.output):
        each.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.helper.set_model_props(proto, {identify.ONNX_KEY: about.to_json()})
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
