"""How do people train further what was trained?

Each function is a program in miniature; its argument stands for keras.applications'
EfficientNetB0, and it returns what can be compared.
"""

import keras
import numpy as np

from tests.habits.facts import IMAGES, LABELS, ONE_HOT, history, moved, trainable, values

SIDE = 32


def the_transfer_learning_guide(EfficientNet):
    """keras.io/guides/transfer_learning: freeze, train a head, unfreeze, train slowly."""
    base_model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), include_top=False)
    base_model.trainable = False
    inputs = keras.Input(shape=(SIDE, SIDE, 3))
    x = base_model(inputs, training=False)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    frozen, before = trainable(model), values(model)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(), loss, metrics=[keras.metrics.BinaryAccuracy()])
    first = model.fit(IMAGES, LABELS > 0, verbose=0)
    moved_first = moved(model, before)
    base_model.trainable = True
    model.compile(keras.optimizers.Adam(1e-5), loss, metrics=[keras.metrics.BinaryAccuracy()])
    second = model.fit(IMAGES, LABELS > 0, verbose=0)
    found = (frozen, trainable(model), moved_first, moved(model, before))
    return found, history(first), history(second)


def _guide_model(EfficientNet):
    inputs = keras.layers.Input(shape=(SIDE, SIDE, 3))
    model = EfficientNet(include_top=False, input_tensor=inputs, weights=None)
    model.trainable = False
    x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(model.output)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.2, name="top_dropout")(x)
    outputs = keras.layers.Dense(3, activation="softmax", name="pred")(x)
    return keras.Model(inputs, outputs, name="EfficientNet")


def _compile(model, rate):
    optimizer = keras.optimizers.Adam(learning_rate=rate)
    model.compile(optimizer, loss="categorical_crossentropy", metrics=["accuracy"])


def the_efficientnet_guide(EfficientNet):
    """keras.io/examples/vision/image_classification_efficientnet_fine_tuning, its head."""
    model = _guide_model(EfficientNet)
    before = values(model)
    _compile(model, 1e-2)
    fitted = model.fit(IMAGES, ONE_HOT, validation_data=(IMAGES, ONE_HOT), verbose=0)
    return trainable(model), moved(model, before), history(fitted)


def the_efficientnet_guide_unfrozen(EfficientNet):
    """Its second part: the top 20 layers, with batch norm left as it is."""
    model = _guide_model(EfficientNet)
    for layer in model.layers[-20:]:
        if not isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = True
    before = values(model)
    _compile(model, 1e-5)
    fitted = model.fit(IMAGES, ONE_HOT, verbose=0)
    names = [layer.name for layer in model.layers[-20:]]
    return names, trainable(model), moved(model, before), history(fitted)


def from_scratch(EfficientNet):
    """The same example's first part: a whole network with its classifier."""
    model = EfficientNet(
        include_top=True, weights=None, classes=3, input_tensor=keras.Input((SIDE, SIDE, 3))
    )
    before = values(model)
    _compile(model, 1e-3)
    fitted = model.fit(IMAGES, ONE_HOT, batch_size=2, verbose=0)
    return trainable(model), moved(model, before), history(fitted)


def the_first_layers_frozen(EfficientNet):
    """`for layer in model.layers[:n]: layer.trainable = False`."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classes=3)
    for layer in model.layers[:30]:
        layer.trainable = False
    before = values(model)
    model.compile("sgd", "sparse_categorical_crossentropy")
    fitted = model.fit(IMAGES, LABELS, verbose=0)
    return trainable(model), moved(model, before), history(fitted)


def frozen_up_to_a_name(EfficientNet):
    """Layers train from the first of some block on."""
    base = EfficientNet(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3), pooling="avg")
    base.trainable = True
    train = False
    for layer in base.layers:
        if layer.name == "block2b_expand_conv":
            train = True
        layer.trainable = train
    model = keras.Sequential([base, keras.layers.Dense(3, activation="softmax")])
    before = values(model)
    model.compile("sgd", "sparse_categorical_crossentropy")
    fitted = model.fit(IMAGES, LABELS, verbose=0)
    return trainable(model), moved(model, before), history(fitted)


def batch_norm_frozen(EfficientNet):
    """Everything trains but batch norm, which then uses its moving statistics."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classes=3)
    for layer in model.layers:
        if "bn" in layer.name or isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    before = values(model)
    model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
    fitted = model.fit(IMAGES, LABELS, verbose=0)
    return trainable(model), moved(model, before), history(fitted)


def unfrozen_block_by_block(EfficientNet):
    """A block more in every round, compiled anew each time."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classes=3)
    for layer in model.layers:
        layer.trainable = False
    found = []
    for prefix in ("predictions", "top_", "block2b"):
        for layer in model.layers:
            if layer.name.startswith(prefix):
                layer.trainable = True
        before = values(model)
        model.compile(keras.optimizers.SGD(0.01), "sparse_categorical_crossentropy")
        fitted = model.fit(IMAGES, LABELS, verbose=0)
        found.append((trainable(model), moved(model, before), history(fitted)))
    return found


def regularisers_in_a_loop(EfficientNet):
    """Set on every layer; the model is remade from JSON, so that they count."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classes=3)
    for layer in model.layers:
        for attribute in ("kernel_regularizer", "depthwise_regularizer"):
            if hasattr(layer, attribute):
                setattr(layer, attribute, keras.regularizers.L2(1e-4))
    weights = model.get_weights()
    model = keras.models.model_from_json(model.to_json())
    model.set_weights(weights)
    losses = [float(loss) for loss in model.losses]
    model.compile("sgd", "sparse_categorical_crossentropy")
    return len(losses), losses, history(model.fit(IMAGES, LABELS, verbose=0))


def momenta_in_a_loop(EfficientNet):
    """Batch norm's momentum for a small data set, by attribute."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classes=3)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.5
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    model.fit(IMAGES, LABELS, verbose=0)
    momenta = [getattr(layer, "momentum", None) for layer in model.layers]
    return momenta, [np.array(v) for v in model.non_trainable_weights if "moving" in v.path]


def dropout_in_a_loop(EfficientNet):
    """Other rates for every dropout, by the config of the model."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classes=3)
    config = model.get_config()
    rates = []
    for layer in config["layers"]:
        if layer["class_name"] == "Dropout":
            layer["config"]["rate"] = 0.4
            rates.append((layer["name"], layer["config"]["noise_shape"]))
    again = keras.Model.from_config(config)
    again.set_weights(model.get_weights())
    found = [layer.rate for layer in again.layers if isinstance(layer, keras.layers.Dropout)]
    return rates, found, again.predict(IMAGES, verbose=0)


def two_rates_of_learning(EfficientNet):
    """A loop of one's own with an optimiser for the body and one for the head."""
    import tensorflow as tf

    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classes=3)
    head = [v for v in model.trainable_variables if "predictions" in v.path]
    body = [v for v in model.trainable_variables if "predictions" not in v.path]
    slow, fast = keras.optimizers.Adam(1e-5), keras.optimizers.Adam(1e-2)
    losses = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            scores = model(IMAGES, training=True)
            loss = keras.ops.mean(keras.losses.categorical_crossentropy(ONE_HOT, scores))
        gradients = tape.gradient(loss, body + head)
        slow.apply_gradients(zip(gradients[: len(body)], body))
        fast.apply_gradients(zip(gradients[len(body) :], head))
        losses.append(float(loss))
    return len(body), len(head), losses


def a_teacher_and_a_student(EfficientNet):
    """Distillation: a subclass with a train_step of its own."""
    teacher = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classes=3, name="teacher")
    student = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classes=3, name="student")

    class Distiller(keras.Model):
        def __init__(self):
            super().__init__()
            self.student, self.teacher = student, teacher
            teacher.trainable = False

        def call(self, x, training=None):
            return self.student(x, training=training)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, **_):
            soft = self.teacher(x, training=False)
            return keras.ops.mean(keras.losses.kl_divergence(soft, y_pred))

    model = Distiller()
    model.compile("sgd")
    fitted = model.fit(IMAGES, ONE_HOT, verbose=0)
    return trainable(model), history(fitted), model.predict(IMAGES, verbose=0)
