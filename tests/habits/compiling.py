"""Which ways of compiling a step do people choose?

Of a network as far as its first block, for to trace a whole one takes seconds each time.
"""

import keras
import tensorflow as tf

from tests.habits.facts import IMAGES, LABELS, history, moved, norm, trainable, values

GRAPH = True  # these are about tf.function itself
SHAPE = (32, 32, 3)
LOSS = "sparse_categorical_crossentropy"


def _beginning(EfficientNet, last="block1a_project_bn"):
    base = EfficientNet(include_top=False, weights=None, input_shape=SHAPE)
    x = keras.layers.GlobalAveragePooling2D()(base.get_layer(last).output)
    return keras.Model(base.input, keras.layers.Dense(3, "softmax", kernel_initializer="ones")(x))


def steps_per_execution(EfficientNet):
    """Two steps in one call of the compiled function; and run_eagerly."""
    found = []
    for arguments in (dict(steps_per_execution=2), dict(run_eagerly=True)):
        model = _beginning(EfficientNet)
        model.compile("sgd", LOSS, **arguments)
        fitted = model.fit(IMAGES, LABELS, batch_size=2, shuffle=False, verbose=0)
        found.append((history(fitted), model.predict(IMAGES, verbose=0)))
    return found


def under_xla(EfficientNet):
    """jit_compile=True, of the stem: XLA takes a minute for a network."""
    model = _beginning(EfficientNet, "stem_activation")
    model.compile("sgd", LOSS, jit_compile=True)
    return history(model.fit(IMAGES, LABELS, verbose=0)), trainable(model)


def a_loop_of_ones_own(EfficientNet):
    """A tf.function with a gradient tape, batch norm in training."""
    model, optimizer = _beginning(EfficientNet), keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            scores = model(images, training=True)
            loss = tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(labels, scores))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    before = values(model)
    losses = [float(step(IMAGES, LABELS)) for _ in range(2)]
    return losses, moved(model, before)


def on_two_devices(EfficientNet, mirrored):
    """MirroredStrategy: a fit, then what the model and its file say."""
    with mirrored.scope():
        model = _beginning(EfficientNet)
        model.compile(keras.optimizers.SGD(0.01), LOSS)
    before = values(model)
    model.fit(IMAGES, LABELS, batch_size=4, shuffle=False, verbose=0)
    model.save("mirrored.keras")
    again = keras.saving.load_model("mirrored.keras")
    apart = norm(again(IMAGES) - model(IMAGES))
    return moved(model, before), apart, again.predict(IMAGES, verbose=0)
