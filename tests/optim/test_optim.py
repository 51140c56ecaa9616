"""optim/: trajectories of the published optimiser, against TensorFlow 1's kernels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import optim
from effnet_tf.recipes import Recipe


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
    "batch, figures",
    [
        # FACTS.md 3, measured on the original code.
        (
            4096,
            {
                0: 0,
                1: 1.637876e-4,
                1562: 0.25583622,
                1563: 0.24087042,
                2252: 0.24087042,
                2253: 0.23364431,
                49510: 0.03535115,
                109474: 0.0030913155,
            },
        ),
        (
            2048,
            {
                1: 4.0933806e-5,
                3126: 0.12795907,
                3127: 0.12043521,
                4504: 0.12043521,
                4505: 0.11682215,
                218949: 0.0015456578,
            },
        ),
    ],
)
def test_learning_rate_equals_the_original(batch, figures):
    schedule = optim.schedule(Recipe(batch_size=batch), 1281167 / batch)
    for step, expected in figures.items():
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_without_warmup_the_first_step_has_the_peak():
    schedule = optim.schedule(Recipe(batch_size=256, warmup_epochs=0), 100.0)
    assert float(schedule(0)) == pytest.approx(0.016)


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


@pytest.mark.parametrize("decay", [0.9999, 0.5])
def test_ema_is_tf_trains(decay):
    weights, average = tf.Variable([1.0, -2.0]), tf.Variable([1.0, -2.0])
    step = tf.Variable(0, dtype=tf.int64)
    original = tf.train.ExponentialMovingAverage(decay, num_updates=step)
    original.apply([weights])
    original.average(weights).assign(weights)
    for value in ([3.0, 0.0], [1.0, 5.0], [-4.0, 2.0], [0.0, 0.0]):
        weights.assign(value)
        step.assign_add(1)
        original.apply([weights])
        optim.update_ema([average], [weights], optim.ema_decay(decay, step))
        np.testing.assert_allclose(average.numpy(), original.average(weights).numpy(), rtol=1e-6)


def test_ema_decay_warms_up():
    assert [float(optim.ema_decay(0.9999, step)) for step in (1, 2, 10**9)] == pytest.approx(
        [2 / 11, 3 / 12, 0.9999]
    )


@pytest.mark.parametrize("name, decayed, excluded", [("b0", 115, 98), ("lite0", 51, 98)])
def test_weight_decay_covers_what_the_original_decays(name, decayed, excluded):
    # FACTS.md 3: of b0's 213 trainable tensors 115 are decayed; of lite0's 149, 51.
    import effnet_tf

    variables = effnet_tf.model_fn(name, input_shape=(32, 32, 3)).trainable_variables
    chosen = optim.decayed(variables)
    assert (len(chosen), len(variables) - len(chosen)) == (decayed, excluded)
    names = {variable.path.rsplit("/", 2)[-2] + "/" + variable.name for variable in chosen}
    assert "predictions/bias" in names and "predictions/kernel" in names


def test_l2_penalty_is_half_the_sum_of_squares():
    variables = [keras.Variable([3.0, 4.0], name="kernel"), keras.Variable([9.0], name="gamma")]
    in_loss = 0.1 * 25 / 2  # the others decay in the optimiser
    for name, expected in dict(rmsprop=in_loss, sgd=in_loss, adamw=0, lars=in_loss).items():
        recipe = Recipe(weight_decay=0.1, optimizer=name)
        assert float(optim.l2_penalty(recipe, variables)) == pytest.approx(expected)


def test_cosine_with_warmup():
    # FACTS.md 3: 0.5 * lr * (1 + cos(pi * step / total)), total includes the warm-up.
    schedule = optim.schedule(
        Recipe(batch_size=256, epochs=10, warmup_epochs=1.0, schedule="cosine"), 100.0
    )
    assert isinstance(schedule, optim.WarmupCosine)
    for step, expected in {
        0: 0,
        50: 0.008,
        99: 0.01584,
        100: 0.008 * (1 + np.cos(np.pi * 0.1)),
        500: 0.008,
        1000: 0,
        1200: 0,
    }.items():
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5, abs=1e-8)
    again = optim.WarmupCosine.from_config(schedule.get_config())
    assert float(again(321)) == float(schedule(321))


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


def test_polynomial_with_warmup():
    # FACTS.md 3: power 2, end 0.1, from the end of the warm-up.
    schedule = optim.schedule(
        Recipe(
            batch_size=65536,
            epochs=100,
            warmup_epochs=10.0,
            base_learning_rate=0.08,
            schedule="polynomial",
        ),
        10.0,
    )
    peak = 0.08 * 256

    def decayed(done):  # utils.py: the span is a step longer, and its first step never seen
        return 0.1 + (peak - 0.1) * (1 - done / 901) ** 2

    for step, expected in {
        0: 0,
        50: peak / 2,
        100: decayed(1),
        101: decayed(1),
        102: decayed(2),
        550: decayed(450),
        1000: decayed(900),
        2000: 0.1,
    }.items():
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
    again = optim.WarmupPolynomial.from_config(schedule.get_config())
    assert float(again(321)) == float(schedule(321))


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
    assert [optim.stage_of(name) for name in names] == [0, 1, 7, 8, None, None]


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


@pytest.mark.parametrize("name", optim.OPTIMIZERS)
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
