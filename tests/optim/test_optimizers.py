"""optimizers.py: trajectories of the published optimiser, against TensorFlow 1's kernels."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import optim
from effnet_tf.optim.optimizers import stages_below_classifier
from effnet_tf.recipes import Recipe

FIELDS = {field.name: field for field in dataclasses.fields(Recipe)}
CHOICES = FIELDS["optimizer"].metadata["choices"]


def tf1_rmsprop(start, gradients, rate, rho=0.9, momentum=0.9, epsilon=1e-3):
    """The trajectory of tf.compat.v1.train.RMSPropOptimizer, by its own kernel."""
    weights = tf.Variable(start)
    optimizer = tf.compat.v1.train.RMSPropOptimizer(rate, rho, momentum, epsilon)
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient), weights)])
        yield weights.numpy()


def test_rmsprop_is_tensorflow_1s():
    random = np.random.default_rng(0)
    start = random.normal(size=5).astype("float32")
    gradients = random.normal(size=(24, 5)).astype("float32") * [1, 0.1, 1e-2, 1e-3, 10]
    gradients = gradients.astype("float32")
    ours = keras.Variable(start)
    optimizer = optim.RMSprop(0.05, rho=0.9, momentum=0.9, epsilon=1e-3)
    optimizer.build([ours])
    for gradient, expected in zip(gradients, tf1_rmsprop(start, gradients, 0.05)):
        optimizer.apply([tf.constant(gradient)])
        np.testing.assert_allclose(ours.numpy(), expected, rtol=2e-6, atol=2e-6)


def test_keras_rmsprop_is_not():
    # The trap that RMSprop is for: Keras' first step is up to 30 times larger.
    steps = []
    for kind in (optim.RMSprop, keras.optimizers.RMSprop):
        weights = keras.Variable([0.0])
        optimizer = kind(1.0, rho=0.9, momentum=0.9, epsilon=1e-3)
        optimizer.build([weights])
        optimizer.apply([tf.constant([1e-3])])
        steps.append(abs(float(weights.numpy()[0])))
    assert steps[1] / steps[0] == pytest.approx(30, rel=0.01)


@pytest.mark.parametrize(
    "kind, config",
    [
        (optim.WarmupStaircase, dict(peak=0.1, decay_rate=0.9, decay_steps=7.5, warmup_steps=3)),
        (optim.RMSprop, dict(learning_rate=0.1, rho=0.8)),
    ],
)
def test_configs_round_trip(kind, config):
    made = kind(**config)
    again = kind.from_config(made.get_config())
    assert again.get_config() == made.get_config()


def test_schedule_inside_a_saved_optimizer():
    optimizer = optim.RMSprop(optim.WarmupStaircase(0.1, 0.9, 7.5, 3))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again._learning_rate.get_config() == optimizer._learning_rate.get_config()


@pytest.mark.parametrize("distributed", [False, True])
def test_the_body_has_a_lower_rate(distributed, mirrored):
    class Layer(keras.layers.Layer):
        def build(self, _):
            self.kernel = self.add_weight(shape=(1,), initializer="zeros", name="kernel")

    strategy = mirrored if distributed else tf.distribute.get_strategy()
    names = ("stem_conv", "block2a", "top_bn", "predictions", "top_dense", "my_block2a_head")
    with strategy.scope():
        layers = [Layer(name=name) for name in names]
        for layer in layers:
            layer.build(None)
        optimizer = optim.RMSprop(1.0, body_rate=0.25)
        variables = [layer.kernel for layer in layers]
        optimizer.build(variables)
    strategy.run(
        lambda: optimizer.apply_gradients(
            [(tf.constant([1.0]), variable) for variable in variables]
        )
    )
    steps = np.concatenate([variable.numpy() for variable in variables])
    np.testing.assert_allclose(steps / steps[3], [0.25, 0.25, 0.25, 1, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("leaf, trusted", [("kernel", True), ("bias", False), ("gamma", False)])
def test_lars_is_the_originals(leaf, trusted):
    """lars_optimizer.py: trust ratio, then TensorFlow's own momentum kernel."""
    start, gradients = np.array([3.0, -4.0], "float32"), np.array([[1.0, 2.0], [-0.5, 0.25]], "f4")
    variable = keras.Variable(start, name=leaf)
    optimizer = optim.LARS(0.5, momentum=0.9, weight_decay=0.01, coefficient=0.001)
    optimizer.build([variable])
    mine, momentum = tf.Variable(start), tf.Variable(np.zeros(2, "f4"))
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient)], [variable])
        rate = 0.5
        if trusted:
            weight, slope = np.linalg.norm(mine.numpy()), np.linalg.norm(gradient)
            rate *= 0.001 * weight / (slope + 0.01 * weight)
            gradient = gradient + 0.01 * mine.numpy()
        tf.raw_ops.ResourceApplyMomentum(
            var=mine.handle, accum=momentum.handle, lr=1.0, grad=gradient * rate, momentum=0.9
        )
        np.testing.assert_allclose(variable.numpy(), mine.numpy(), rtol=1e-6)


def test_adamw_decays_kernels_only():
    variables = [keras.Variable([1.0], name=name) for name in ("kernel", "bias", "gamma")]
    optimizer = optim.optimizer(
        Recipe(
            optimizer="adamw",
            weight_decay=0.5,
            batch_size=256,
            base_learning_rate=0.1,
            warmup_epochs=0,
        ),
        100.0,
    )
    optimizer.build(variables)
    optimizer.apply([tf.zeros(1)] * 3, variables)
    assert [float(v.numpy()[0]) for v in variables] == pytest.approx([0.95, 1.0, 1.0])


def test_stages_of_variables():
    names = [
        "stem_conv/kernel",
        "m/block1a/bn/gamma",
        "block7b/se/reduce/bias",
        "top_bn/beta",
        "predictions/kernel",
        "my_block2a_head/kernel",
    ]
    assert stages_below_classifier(names) == [9, 8, 2, 1, None, None]


def test_layer_decay_lowers_the_rate_per_stage():
    class Layer(keras.layers.Layer):
        def build(self, _):
            self.kernel = self.add_weight(shape=(1,), initializer="zeros", name="kernel")

    made = [Layer(name=name) for name in ("stem_conv", "block7a", "top_conv", "predictions")]
    for layer in made:
        layer.build(None)
    optimizer = optim.SGD(1.0, layer_decay=0.5)
    variables = [layer.kernel for layer in made]
    optimizer.build(variables)
    optimizer.apply([tf.ones(1)] * 4, variables)
    steps = [-float(v.numpy()[0]) for v in variables]
    assert steps == pytest.approx([0.5**9, 0.5**2, 0.5, 1.0])


class Variable:
    """Stands for one of a network, whose path alone is looked at."""

    def __init__(self, path):
        self.path, self.name = path, path.rpartition("/")[2]


FORMS = {
    "blocks": (
        ["{}stem_conv{}/kernel", "{}block2a{}/dwconv/kernel", "{}block2a{}/project_bn/gamma"],
        "{}top_conv{}/kernel",
    ),
    "flat": (
        ["{}stem_conv{}/kernel", "{}block2a_dwconv{}/kernel", "{}block2a_project_bn{}/gamma"],
        "{}top_conv{}/kernel",
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("before, after", [("", ""), ("right_", ""), ("", "_2"), ("a", "_b")])
def test_a_renamed_body_has_the_rate_of_a_body(form, before, after):
    body, head = FORMS[form]
    own = ["dense/kernel", "convnext_stem_conv/kernel", f"{before}block2a_head{after}/kernel"]
    paths = [path.format(before, after) for path in (*body, head)]
    assert stages_below_classifier([*paths, *own]) == [9, 7, 7, 1, None, None, None]


def test_a_head_that_cannot_be_told_is_said(capsys):
    variables = [keras.Variable([1.0], name="kernel") for _ in range(2)]
    variables[0]._path, variables[1]._path = "right_top_conv/kernel", "dense/kernel"
    for rates in ({}, {"body_rate": 0.1}):
        assert capsys.readouterr().out == ""
        optim.SGD(1.0, **rates).build(variables)
    said = capsys.readouterr().out
    assert "'right_top_conv/kernel' may be of the head of a renamed EfficientNet" in said
    assert "dense" not in said


def test_decay_is_of_all_but_batch_norm_in_both_forms():
    network = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(2, 1, name="right_block1a_project_conv"),
            keras.layers.BatchNormalization(name="right_block1a_project_bn"),
        ]
    )
    assert [each.name for each in optim.decayed(network.trainable_variables)] == ["kernel", "bias"]


def again(optimizer):
    """The optimiser after saving and loading."""
    return keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))


# What is said to an optimiser, when it is made or later.
SAID = {
    "rates": dict(body_rate=0.25, layer_decay=0.5),
    "averages": dict(use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=2),
    "clipping": dict(global_clipnorm=0.1),
    "accumulation": dict(gradient_accumulation_steps=2),
    "scale": dict(loss_scale_factor=4.0),
    "not_decayed": dict(not_decayed=["kernel"]),
    "later": {},
}


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("kind", ["SGD", "RMSprop", "AdamW", "LARS"])
def test_a_loaded_optimiser_does_the_same(kind, said):
    first = getattr(optim, kind)(0.5, weight_decay=0.5, **SAID[said])
    if said == "later":
        first.exclude_from_weight_decay(var_names=["(^|/)kernel"])
        first.learning_rate = 0.25
        first.body_rate = 0.5
    results = []
    for optimizer in (first, again(first)):
        layers = [keras.layers.Dense(2, name=name) for name in ("stem_conv", "predictions")]
        variables = []
        for layer in layers:
            layer.build((None, 1))
            layer.kernel.assign([[1.0, 2.0]])
            variables += layer.trainable_variables
        optimizer.build(variables)
        for _ in range(4):
            optimizer.apply([tf.ones_like(variable.value) for variable in variables])
        optimizer.finalize_variable_values(variables)
        results.append(np.concatenate([np.ravel(each) for each in variables]))
    np.testing.assert_array_equal(*results)
    assert np.isfinite(results).all()


def test_variables_that_are_not_decayed_stay_so():
    layers = [keras.layers.Dense(1, name=name) for name in ("first", "second")]
    for layer in layers:
        layer.build((None, 1))
    variables = [layer.kernel for layer in layers]
    optimizer = optim.SGD(0.5, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_list=[layers[0].kernel])
    for each in (optimizer, again(optimizer)):
        assert [each._use_weight_decay(variable) for variable in variables] == [False, True]
        each.build(variables)
        assert [each._use_weight_decay(variable) for variable in variables] == [False, True]


@pytest.mark.parametrize("loaded", [False, True])
def test_adamw_of_a_recipe_decays_kernels_only_after_loading_too(loaded):
    recipe = Recipe(optimizer="adamw", weight_decay=0.5, warmup_epochs=0)
    optimizer = optim.optimizer(recipe, 100.0)
    if loaded:
        optimizer = again(optimizer)
    paths = ["stem_conv/kernel", "block2a/bn/gamma", "block2a_bn/beta", "predictions/bias"]
    decayed = [optimizer._use_weight_decay(Variable(path)) for path in paths]
    assert decayed == [True, False, False, False]


@pytest.mark.parametrize("name", CHOICES)
def test_replicas_stay_equal(name, mirrored):
    """Under a strategy variables have other names; all must get the same treatment."""

    class Layer(keras.layers.Layer):
        def build(self, _):
            for leaf in ("kernel", "gamma", "bias"):
                setattr(self, leaf, self.add_weight(shape=(2,), initializer="ones", name=leaf))

    recipe = Recipe(optimizer=name, weight_decay=0.1, warmup_epochs=0, body_rate=0.5)
    results = []
    for strategy in (tf.distribute.get_strategy(), mirrored):
        with strategy.scope():
            layer = Layer(name="stem_conv")
            layer.build(None)
            optimizer = optim.optimizer(recipe, 100.0)
            optimizer.build(layer.weights)

        def step():
            share = tf.distribute.get_replica_context().num_replicas_in_sync
            optimizer.apply([tf.constant([3.0, 4.0]) / share] * 3, layer.weights)

        for _ in range(2):
            strategy.run(step)
        copies = [strategy.experimental_local_results(v.value) for v in layer.weights]
        for copy in copies:
            for replica in copy:
                np.testing.assert_array_equal(replica.numpy(), copy[0].numpy())
        results.append([copy[0].numpy() for copy in copies])
    np.testing.assert_allclose(*results, rtol=1e-6)
