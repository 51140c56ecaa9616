"""What does a served network compute: from pixels, from image files, and as features?

One traced graph, for each value of `training`, is behind all of it.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from effnet_tf.errors import InputError
from effnet_tf.export import graph, inputs
from effnet_tf.export.about import About
from effnet_tf.layers.lean_places import for_a_file


class Network:
    """The functions of a model; one traced graph for each value of `training`.

    Args:
        model: of `fold`, or a functional one of images alone that is to be trained again.
        about: its `About`: how images are cut and normalised.
        modes: the values of `training` that its functions take.

    Raises:
        InputError: its classifier lies inside of another model.
    """

    def __init__(self, model: keras.Model, about: About, modes: Sequence[bool]):
        self.about, self.modes = about, modes
        self.specs = [
            tf.TensorSpec((None, *tensor.shape[1:]), inputs.dtype(tensor), name=name)
            for name, tensor in zip(inputs.names(model), model.inputs)
        ]
        features = _features(model)
        self.is_classifier = features is not model.outputs[-1]
        self.feature_model = keras.Model(model.inputs, features)
        self.model = keras.Model(model.inputs, (model.output, features))
        # Concrete: saving traces a tf.function again, whatever was traced before.
        with for_a_file():
            self.traced = {
                mode: self._function(self._run).get_concrete_function(*self.specs, training=mode)
                for mode in modes
            }

    def _function(self, function, signature=None):
        return tf.function(function, signature, autograph=False)

    def _run(self, *values, training):
        missing = tf.maximum(1 - tf.shape(values[0])[0], 0)  # 1 for an empty batch
        if training:
            empty = ["An empty batch has no statistics to train with."]
            with tf.control_dependencies([tf.debugging.Assert(missing < 1, empty)]):
                values = [tf.identity(each) for each in values]
        values = [_filled(each, missing) for each in values]
        if len(values) == 1:
            values = values[0]
        outputs, features = self.model(values, training=training)
        features = _float32(features)
        if len(features.shape) > 2:
            features = tf.reduce_mean(features, tuple(range(1, len(features.shape) - 1)))
        answer = tf.nest.map_structure(_float32, self._named(outputs)), features
        # Nothing of the batch that was filled up; else all of it, which copies nothing.
        return tf.nest.map_structure(
            lambda values: values[: tf.shape(values)[0] * (1 - missing)], answer
        )

    def _named(self, outputs):
        if isinstance(outputs, dict):
            return outputs
        if isinstance(outputs, (list, tuple)):
            return {f"outputs_{number}": output for number, output in enumerate(outputs)}
        logits = _before_scores(outputs.op)
        if logits is not None:
            return {"probabilities": outputs, "logits": logits}
        if self.is_classifier:
            return {"logits": outputs}
        return {"outputs": outputs}

    def _normalized(self, images):
        """Makes of pixels in [0, 255] what the model takes."""
        about = self.about
        if about.normalizes or not about.mean:
            return images
        return (images - about.mean) / about.std

    def of_training(self, function: Callable) -> tf.types.experimental.PolymorphicFunction:
        """Returns a tf.function of images and `training`, for all its values."""
        if self.modes == (False,):  # with a signature it is traced once less
            return self._function(function, self.specs)
        traced = self._function(function)
        for mode in self.modes:
            traced.get_concrete_function(*self.specs, training=mode)
        return traced

    def features(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns what the classifier reads, (N, F) float32, of images (N, H, W, C) in [0, 1]."""
        return self.traced[training](self._normalized(images * 255))[1]

    def everything(self, images: tf.Tensor, training: bool = False) -> tuple:
        """Returns (named outputs, features) of images (N, H, W, C) in [0, 255]."""
        return self.traced[training](images)

    def serving_default(self, dtype: str) -> tf.types.experimental.PolymorphicFunction:
        """Returns the signature that takes numbers; images, where they are all, in a type."""
        specs = self.specs
        if inputs.takes_one_image(self.model):
            specs = [tf.TensorSpec(specs[0].shape, dtype, specs[0].name)]

        def serving_default(*values):
            taken = [tf.cast(each, spec.dtype) for each, spec in zip(values, self.specs)]
            return self.traced[False](*taken)[0]

        return self._function(serving_default, specs)

    def serving_bytes(self, size: int) -> tf.types.experimental.PolymorphicFunction:
        """Returns the signature that takes files, cut to a size in pixels."""
        crop = self.about.evaluation_crop(size)
        shape = tf.TensorSpec((size, size, 3), tf.float32)

        def serving_bytes(encoded_images):
            images = tf.map_fn(crop, encoded_images, fn_output_signature=shape)
            return self.traced[False](self._normalized(images))[0]

        return self._function(
            serving_bytes, [tf.TensorSpec((None,), tf.string, name="encoded_images")]
        )


def _filled(values, missing):
    """Adds `missing` rows of zeros to a batch.

    oneDNN's convolution of an empty batch fails on some processors and passes its input on.
    With nothing to add the operation hands its input on without a copy.
    """
    paddings = tf.pad(tf.reshape(missing, (1, 1)), [[0, len(values.shape) - 1], [1, 0]])
    zero = tf.zeros((), values.dtype)
    filled = tf.raw_ops.PadV2(input=values, paddings=paddings, constant_values=zero)
    filled.set_shape(values.shape)
    return filled


def _before_scores(operation):
    """Returns what an operation softmax or sigmoid reads, or None: it is another.

    TensorFlow's softmax over another axis than the last lies between two transpositions.
    """
    if operation.type == "Transpose":
        turned = operation.inputs[0].op
        if turned.type != "Softmax":
            return None
        return turned.inputs[0].op.inputs[0]
    if operation.type not in ("Softmax", "Sigmoid"):
        return None
    return operation.inputs[0]


def _float32(tensor):
    return tf.cast(tensor, tf.float32)


def _features(model):
    """Returns what the classifier of a functional model reads, before dropout.

    Of a model without a classifier its (last) output.
    """
    operation, taken = graph.source_of(model.outputs[-1])
    while isinstance(operation, (keras.layers.Activation, keras.layers.Softmax)):
        operation, taken = graph.source_of(taken[0])
    if isinstance(operation, keras.Model):
        raise InputError(
            f"'{model.name}' ends in the model '{operation.name}', whose features cannot be "
            "reached from outside: export that model, or leave out keep_batch_norm."
        )
    if not isinstance(operation, keras.layers.Dense):
        return model.outputs[-1]
    tensor = taken[0]
    # Dropout of features is for whoever reads them to decide, say the conventions.
    while isinstance(graph.source_of(tensor)[0], keras.layers.Dropout):
        tensor = graph.source_of(tensor)[1][0]
    return tensor
