"""TFLite files of a few operators, and of others' making, for tests that only read them."""

import tempfile

import flatbuffers
import numpy as np
import tensorflow as tf

from effnet_tf.export.tflite import flatbuffer, metadata


def softmax(images):
    """Four classes; the brightest colour wins."""
    means = tf.reduce_mean(images, (1, 2))
    return tf.nn.softmax(tf.pad(means, [[0, 0], [0, 1]]) / 255)


def convert(scores=softmax, quantized=None, batch=1, low=0, high=256, channels=3):
    """Returns the bytes of a TFLite classifier of 8x8 images.

    Args:
        scores: images (N, 8, 8, 3) to scores (N, classes).
        quantized: None, or the type of inputs and outputs of an integer file.
        batch: None for any.
        low: of the pixels that an integer file is calibrated on.
        high: of them, exclusive.
        channels: of the images.
    """
    module = tf.Module()
    module.serve = tf.function(
        lambda images: {"probabilities": scores(images)},
        [tf.TensorSpec((batch, 8, 8, channels), tf.float32, "images")],
    )
    with tempfile.TemporaryDirectory() as saved:
        tf.saved_model.save(module, saved, {"serving_default": module.serve})
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        if quantized:
            random = np.random.default_rng(0)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: (
                [
                    np.broadcast_to(
                        random.uniform(low, high - 1, (3,)), (batch or 1, 8, 8, 3)
                    ).astype("float32")
                ]
                for _ in range(64)
            )
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = quantized
        return converter.convert()


def with_entry(data, entry):
    model = flatbuffer.read(data)
    flatbuffer.put_entry(model, metadata.ENTRY, entry)
    return flatbuffer.write(model)


def minimal_metadata():
    """A metadata flatbuffer without any field."""
    builder = flatbuffers.Builder(0)
    builder.StartObject(0)
    builder.Finish(builder.EndObject(), b"M001")
    return bytes(builder.Output())
