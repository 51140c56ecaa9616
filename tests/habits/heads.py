"""What do people put on top of a network, and which networks do they put beside it?"""

import keras
import numpy as np

from tests.habits.facts import (
    IMAGES,
    LABELS,
    ONE_HOT,
    count,
    history,
    moved,
    outcome,
    shape,
    trainable,
    values,
)

SHAPE = (32, 32, 3)


def _pooled(EfficientNet, **arguments):
    return EfficientNet(
        include_top=False, weights=None, pooling="avg", input_shape=SHAPE, **arguments
    )


def many_labels(EfficientNet):
    """Multi-label: a sigmoid per class."""
    base = _pooled(EfficientNet)
    model = keras.Model(base.input, keras.layers.Dense(3, "sigmoid")(base.output))
    metrics = [keras.metrics.AUC(multi_label=True, num_labels=3)]
    model.compile("sgd", "binary_crossentropy", metrics=metrics)
    targets = np.minimum(1, ONE_HOT + ONE_HOT[::-1])
    return history(model.fit(IMAGES, targets, verbose=0)), model.predict(IMAGES, verbose=0)


def many_labels_in_the_classifier(EfficientNet):
    """classifier_activation="sigmoid"."""
    model = EfficientNet(
        weights=None, input_shape=SHAPE, classes=5, classifier_activation="sigmoid"
    )
    return model.layers[-1].activation.__name__, model.predict(IMAGES, verbose=0)


def a_number(EfficientNet):
    """Regression: age from a face."""
    base = _pooled(EfficientNet)
    x = keras.layers.Dense(16, activation="relu")(base.output)
    model = keras.Model(base.input, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse", metrics=["mae"])
    return history(model.fit(IMAGES, LABELS * 10.0, verbose=0)), trainable(model)


def ordered_classes(EfficientNet):
    """Ordinal regression (CORAL): one weight vector, a threshold per step."""

    class Thresholds(keras.layers.Layer):
        def build(self, shape):
            self.b = self.add_weight(shape=(2,), initializer="zeros", name="thresholds")

        def call(self, x):
            return x + self.b

    x = keras.layers.Dense(1, use_bias=False)(_pooled(EfficientNet, name="body").output)
    base = keras.utils.get_source_inputs(x)
    model = keras.Model(base, Thresholds()(x))
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    levels = (LABELS[:, None] > np.arange(2)).astype("float32")
    fitted = model.fit(IMAGES, levels, verbose=0)
    return history(fitted), (model.predict(IMAGES, verbose=0) > 0).sum(1)


def two_outputs(EfficientNet):
    """Multi-task, with a dict of losses and of their weights."""
    base = _pooled(EfficientNet)
    kind = keras.layers.Dense(3, activation="softmax", name="kind")(base.output)
    size = keras.layers.Dense(1, name="size")(base.output)
    model = keras.Model(base.input, {"kind": kind, "size": size})
    losses = {"kind": "sparse_categorical_crossentropy", "size": "mse"}
    model.compile("sgd", losses, loss_weights={"kind": 1.0, "size": 0.2})
    targets = {"kind": LABELS, "size": LABELS[:, None] / 2.0}
    fitted = model.fit(IMAGES, targets, verbose=0)
    return history(fitted), {k: v.shape for k, v in model.predict(IMAGES, verbose=0).items()}


def an_image_and_a_table(EfficientNet):
    """Two inputs, the second with a Normalization() of its own."""
    image = _pooled(EfficientNet)
    rows = np.random.default_rng(0).normal(5, 3, (4, 7)).astype("float32")
    table = keras.Input((7,))
    scale = keras.layers.Normalization()
    scale.adapt(rows)
    x = keras.layers.Concatenate()([image.output, keras.layers.Dense(4)(scale(table))])
    outputs = keras.layers.Dense(3, activation="softmax")(x)

    def build():
        model = keras.Model([image.input, table], outputs)
        model.compile("sgd", "sparse_categorical_crossentropy")
        fitted = model.fit([IMAGES, rows], LABELS, verbose=0)
        model.save("both.keras")
        again = keras.saving.load_model("both.keras")
        return history(fitted), again.predict([IMAGES, rows], verbose=0)

    return outcome(build)


def an_image_and_a_table_nested(EfficientNet):
    """The same, with the network as one layer of the model."""
    rows = np.random.default_rng(0).normal(5, 3, (4, 7)).astype("float32")
    image, table = keras.Input(SHAPE, name="image"), keras.Input((7,), name="table")
    scale = keras.layers.Normalization()
    scale.adapt(rows)
    x = keras.layers.Concatenate()([_pooled(EfficientNet)(image), scale(table)])
    model = keras.Model({"image": image, "table": table}, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    fitted = model.fit({"image": IMAGES, "table": rows}, LABELS, verbose=0)
    model.save("both.keras")
    again = keras.saving.load_model("both.keras")
    return history(fitted), again.predict({"image": IMAGES, "table": rows}, verbose=0)


def siamese_twins(EfficientNet):
    """Two inputs through one network, compared."""
    base = _pooled(EfficientNet)
    left, right = keras.Input(SHAPE), keras.Input(SHAPE)
    apart = keras.layers.Subtract()([base(left), base(right)])
    distance = keras.ops.sqrt(keras.ops.sum(apart**2, axis=1, keepdims=True) + 1e-9)
    model = keras.Model([left, right], keras.layers.Dense(1, "sigmoid")(distance))
    model.compile("sgd", "binary_crossentropy")
    fitted = model.fit([IMAGES, IMAGES[::-1]], LABELS > 0, verbose=0)
    return history(fitted), trainable(model)


def triplets(EfficientNet):
    """An embedding of unit length, trained by a loss on three images."""
    base = _pooled(EfficientNet)
    x = keras.layers.UnitNormalization()(keras.layers.Dense(8)(base.output))
    embed = keras.Model(base.input, x, name="embedding")
    anchor, near, far = (keras.Input(SHAPE, name=name) for name in ("anchor", "near", "far"))
    stacked = keras.ops.stack([embed(anchor), embed(near), embed(far)], axis=1)
    model = keras.Model([anchor, near, far], stacked)

    def loss(_, y):
        gap = keras.ops.sum((y[:, 0] - y[:, 1]) ** 2 - (y[:, 0] - y[:, 2]) ** 2, axis=-1)
        return keras.ops.maximum(gap + 0.2, 0.0)

    model.compile("sgd", loss)
    fitted = model.fit([IMAGES, IMAGES + 1, IMAGES[::-1]], LABELS, verbose=0)
    return history(fitted), embed.predict(IMAGES, verbose=0)


def two_networks_nested(EfficientNet):
    """An ensemble whose members are layers of the model."""
    inputs = keras.Input(SHAPE)
    members = [EfficientNet(weights=None, input_shape=SHAPE, name=name) for name in ("a", "b")]
    model = keras.Model(inputs, keras.layers.Average()([member(inputs) for member in members]))
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(IMAGES, LABELS, verbose=0)
    model.save("ensemble.keras")
    again = keras.saving.load_model("ensemble.keras")
    return trainable(again), np.abs(again.predict(IMAGES, verbose=0)).sum()


def two_networks_in_one_graph(EfficientNet):
    """Without new names it fails; with them, as every answer says, it is built and saved."""
    left, right = (_pooled(EfficientNet) for _ in range(2))

    def join():
        x = keras.layers.Concatenate()([left.output, right.output])
        return keras.Model([left.input, right.input], keras.layers.Dense(3)(x))

    before = outcome(join)
    for layer in right.layers:
        layer.name = "right_" + layer.name
    model = join()
    model.save("joined.keras")
    again = keras.saving.load_model("joined.keras")
    names = [layer.name for layer in again.layers]
    return before, names, again.predict([IMAGES, IMAGES], verbose=0)


def one_image_to_two_networks(EfficientNet):
    """Both on one keras.Input, the second one with new names."""
    inputs = keras.Input(SHAPE)
    left = EfficientNet(include_top=False, weights=None, input_tensor=inputs, pooling="avg")
    right = EfficientNet(include_top=False, weights=None, input_tensor=inputs, pooling="max")
    for layer in right.layers[1:]:
        layer.name = layer.name + "_2"
    x = keras.layers.Add()([left.output, right.output])
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    return len(model.layers), count(model.trainable_weights), model.predict(IMAGES, verbose=0)


def mobilenet_beside_it(EfficientNet):
    """Two backbones of different families in one graph."""
    inputs = keras.Input(SHAPE)
    ours = EfficientNet(include_top=False, weights=None, input_tensor=inputs, pooling="avg")
    scaled = keras.layers.Rescaling(1 / 127.5, -1)(inputs)
    other = keras.applications.MobileNet(
        include_top=False, weights=None, input_tensor=scaled, pooling="avg", alpha=0.25
    )
    x = keras.layers.Concatenate()([ours.output, other.output])
    model = keras.Model(inputs, keras.layers.Dense(3)(x))
    model.save("two.keras")
    again = keras.saving.load_model("two.keras")
    return [layer.name for layer in again.layers], trainable(again), shape(x)


def frames_of_a_film(EfficientNet):
    """TimeDistributed, then a recurrent layer."""
    base = _pooled(EfficientNet)
    base.trainable = False
    film = keras.Input((2, *SHAPE))
    x = keras.layers.GRU(4)(keras.layers.TimeDistributed(base)(film))
    model = keras.Model(film, keras.layers.Dense(3, activation="softmax")(x))
    before = values(model)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    frames = np.stack([IMAGES, IMAGES[::-1]], axis=1)
    fitted = model.fit(frames, LABELS, verbose=0)
    model.save("film.keras")
    again = keras.saving.load_model("film.keras")
    found = again.predict(frames, verbose=0)
    return history(fitted), moved(model, before), np.abs(found - model.predict(frames)) < 1e-4


def attention_over_the_map(EfficientNet):
    """A transformer's layer over the positions of the feature map."""
    base = EfficientNet(include_top=False, weights=None, input_shape=SHAPE)
    tokens = keras.layers.Reshape((-1, base.output.shape[-1]))(base.output)
    x = keras.layers.MultiHeadAttention(2, 4)(tokens, tokens)
    model = keras.Model(base.input, keras.layers.GlobalAveragePooling1D()(x))
    model.compile("sgd", "mse")
    return shape(tokens), history(model.fit(IMAGES, np.zeros((4, x.shape[-1])), verbose=0))


def a_sequential_model(EfficientNet):
    """The network first, then layers."""
    model = keras.Sequential(
        [
            EfficientNet(include_top=False, weights=None, input_shape=SHAPE),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    lines = []
    model.summary(print_fn=lines.append, expand_nested=True)
    model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return "\n".join(lines), history(model.fit(IMAGES, LABELS, verbose=0))


def a_subclassed_model(EfficientNet):
    """The network is an attribute of the user's class."""

    class Classifier(keras.Model):
        def __init__(self):
            super().__init__()
            self.body = _pooled(EfficientNet)
            self.top = keras.layers.Dense(3, activation="softmax")

        def call(self, images, training=False):
            return self.top(self.body(images, training=training))

    model = Classifier()
    model.body.trainable = False
    model.compile("sgd", "sparse_categorical_crossentropy")
    fitted = model.fit(IMAGES, LABELS, verbose=0)
    model.save_weights("mine.weights.h5")
    again = Classifier()
    again(IMAGES)
    again.load_weights("mine.weights.h5")
    return trainable(model), history(fitted), again.predict(IMAGES, verbose=0)


def weights_of_classes_and_samples(EfficientNet):
    """class_weight and sample_weight."""
    model = EfficientNet(weights=None, input_shape=SHAPE)
    model.compile("sgd", "sparse_categorical_crossentropy", weighted_metrics=["accuracy"])
    first = model.fit(IMAGES, LABELS, class_weight={0: 1.0, 1: 5.0, 2: 0.5}, verbose=0)
    second = model.fit(IMAGES, LABELS, sample_weight=np.array([1.0, 0, 2, 0.5]), verbose=0)
    return history(first), history(second)


def vectors_for_another_classifier(EfficientNet):
    """Features by each kind of pooling, for scikit-learn or a search."""
    found = {}
    for pooling in (None, "avg", "max"):
        base = EfficientNet(include_top=False, weights=None, input_shape=SHAPE, pooling=pooling)
        features = base.predict(IMAGES, verbose=0)
        found[str(pooling)] = (base.layers[-1].name, base.output_shape, features)
    return found


def scores_and_logits(EfficientNet):
    """classifier_activation=None, and a function."""
    found = []
    for activation in ("softmax", None, "relu", keras.activations.sigmoid):
        model = EfficientNet(
            weights=None, input_shape=SHAPE, classes=4, classifier_activation=activation
        )
        last = model.layers[-1]
        found.append((last.name, last.activation.__name__, model(IMAGES, training=False)))
    return found


def a_head_cut_off(EfficientNet):
    """layers[-2].output of a whole network, as in every older tutorial."""
    model = EfficientNet(weights=None, input_shape=SHAPE)
    cut = keras.Model(inputs=model.input, outputs=model.layers[-2].output)
    names = [layer.name for layer in model.layers[-4:]]
    new = keras.Model(model.input, keras.layers.Dense(5)(model.layers[-3].output))
    return names, cut.predict(IMAGES, verbose=0), new.output_shape
