"""Which layer was the first whose output is not finite?"""

import keras
import numpy as np
import tensorflow as tf

from effnet_tf import data
from effnet_tf.layers import masks_from
from effnet_tf.recipes.stages import Stage
from effnet_tf.train.trainer import Trainer


def first_not_finite(trainer: Trainer, position: int, stage: Stage) -> str:
    """Runs a batch through a copy of the network, layer by layer, on the CPU.

    Args:
        trainer: a `Trainer`, whose weights are looked at.
        position: number of the batch.
        stage: the stage of the run to which the batch belongs.

    Returns:
        A sentence that names the first layer, or weight, with a value that is not finite.
    """
    recipe, raw = trainer.recipe, trainer.models["raw"]
    for variable in raw.weights:
        if not np.isfinite(variable.numpy()).all():
            return f"The weight '{variable.path}' is not finite."
    images = data.training(
        trainer.source,
        stage.recipe,
        stage.image_size,
        recipe.batch_size,
        start=position * recipe.batch_size,
    )
    batch = next(iter(images))
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        copy = trainer.build()
        copy.set_weights([variable.numpy() for variable in raw.weights])
        layers = [layer for layer in copy.layers if not isinstance(layer, keras.layers.InputLayer)]
        outputs = keras.Model(copy.inputs, [layer.output for layer in layers])
        key = tf.constant([recipe.seed % 2**31, trainer.step], tf.int32)
        with masks_from(key):
            # As many images at once as a replica sees: batch norm depends on it.
            values = outputs(batch["images"][: trainer.per_replica], training=True)
    for layer, value in zip(layers, values):
        if not np.isfinite(np.asarray(value, "float32")).all():
            return f"The first layer whose output is not finite is '{layer.name}'."
    return (
        "All layers' outputs are finite on the first replica's images: the loss is too high, "
        "or the gradients are not finite."
    )
