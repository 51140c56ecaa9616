"""finetune.py: what is frozen stays as it was, in training and in files."""

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import InputError, set_trainable, variants
from effnet_tf.models import finetune
from effnet_tf.weights.pixels import network_weights
from tests.helpers import tiny_net

TINY = tiny_net.scaled(-8)
DEEP = effnet_tf.CompoundScaling().variant(-8)  # of seven stages
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("uint8")
LABELS = np.arange(8) % 3
STAGES = ["stem", *(f"stage_{i}" for i in range(1, 4)), "head", "classifier"]


def tiny(**arguments):
    keras.utils.set_random_seed(0)
    return effnet_tf.model_fn(TINY, 3, input_shape=(32, 32, 3), **arguments)


def train(model, optimizer=None, jit_compile=False):
    """Trains two steps; returns the names of the variables that changed, by stage."""
    # XLA, Keras' default, takes seconds to compile it: one test does.
    model.compile(
        optimizer or keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(),
        jit_compile=jit_compile,
    )
    before = {variable.path: np.array(variable) for variable in model.weights}
    model.fit(IMAGES, LABELS, batch_size=4, verbose=0)
    return {
        variable.path
        for variable in model.weights
        if not np.array_equal(before[variable.path], variable)
    }


def stage_of(path):
    layer = path.split("/")[0]
    return (
        f"stage_{layer[5]}"
        if layer.startswith("block")
        else {"stem": "stem", "top": "head", "predictions": "classifier"}[layer.split("_")[0]]
    )


def is_statistic(path):
    return path.endswith(("moving_mean", "moving_variance"))


def is_scale(path):
    return path.endswith(("gamma", "beta"))


class TestSetTrainable:
    @pytest.mark.parametrize("variant, count", [(TINY, 3), (DEEP, 7), ("edgetpu-s", 6)])
    def test_stages(self, variant, count):
        found = finetune.stages(effnet_tf.model_fn(variant, 3))
        stages = [f"stage_{number}" for number in range(1, count + 1)]
        assert list(found) == ["stem", *stages, "head", "classifier"]

    @pytest.mark.parametrize(
        "from_stage, batch_norm",
        [
            pytest.param("stem", "trainable", marks=pytest.mark.slow),
            ("stage_2", "frozen"),
            ("stage_2", "inference"),
            ("stage_2", "trainable"),
            pytest.param("head", "inference", marks=pytest.mark.slow),
            ("classifier", "frozen"),
        ],
    )
    def test_exactly_this_trains(self, from_stage, batch_norm):
        model = tiny(dropout_rate=0, drop_connect_rate=0)
        set_trainable(model, from_stage, batch_norm)
        later = {
            variable.path
            for variable in network_weights(model)
            if STAGES.index(stage_of(variable.path)) >= STAGES.index(from_stage)
        }
        moving = set(filter(is_statistic, later))
        scales = set(filter(is_scale, later)) if batch_norm == "frozen" else set()
        assert {weight.path for weight in model.trainable_weights} == later - moving - scales
        changed = train(model)
        assert changed & moving == (moving if batch_norm == "trainable" else set())
        # Two steps are too small for a few squeezes, not for anything else.
        unchanged = later - moving - scales - changed
        assert changed <= later - scales
        assert all(path.endswith("se/reduce/kernel") for path in unchanged)

    @pytest.mark.parametrize("batch_norm", ["frozen", "inference"])
    def test_frozen_batch_norm_is_in_inference_mode_in_training(self, batch_norm):
        model = tiny(dropout_rate=0, drop_connect_rate=0)
        trained = np.asarray(model(IMAGES, training=True))
        set_trainable(model, "stem", batch_norm)
        # To rounding: a training step of blocks that are not frozen takes other operations.
        np.testing.assert_allclose(model(IMAGES, training=True), model(IMAGES), atol=1e-6)
        assert np.abs(trained - model(IMAGES)).max() > 1e-4

    def test_frozen_layers_are_in_inference_mode_although_batch_norm_trains(self):
        body = effnet_tf.feature_extractor(TINY, ["P2", "P3"], drop_connect_rate=0)
        set_trainable(body, "stage_3", "trainable")
        trained, inferred = (body(IMAGES, training=training) for training in (True, False))
        np.testing.assert_array_equal(trained["P2"], inferred["P2"])
        assert np.abs(trained["P3"] - inferred["P3"]).max() > 1e-3

    def test_it_can_be_undone(self):
        model, again = tiny(), tiny()
        set_trainable(model, "classifier", "frozen")
        assert len(model.trainable_weights) == 2
        set_trainable(model, "stem", "trainable")
        assert [w.path for w in model.trainable_weights] == [
            w.path for w in again.trainable_weights
        ]
        assert train(model) == {w.path for w in network_weights(model)}

    def test_frozen_batch_norm_survives_trainable_true(self):
        model = tiny()
        set_trainable(model, "stage_3", "frozen")
        model.trainable = True  # as tutorials do
        assert not [path for path in train(model) if is_scale(path) or is_statistic(path)]

    @pytest.mark.parametrize(
        "batch_norm", ["frozen", pytest.param("inference", marks=pytest.mark.slow)]
    )
    def test_a_saved_model_trains_the_same_part(self, batch_norm, tmp_path):
        model = tiny()
        set_trainable(model, "stage_2", batch_norm)
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        assert [w.path for w in again.trainable_weights] == [
            w.path for w in model.trainable_weights
        ]
        assert train(again) == train(model)

    def test_the_network_inside_a_model_of_ones_own(self):
        base = tiny(include_top=False, pooling="avg")
        inputs = keras.Input((32, 32, 3))
        model = keras.Model(inputs, keras.layers.Dense(3, name="mine")(base(inputs)))
        set_trainable(model, "classifier")
        assert [w.path for w in model.trainable_weights] == ["mine/kernel", "mine/bias"]
        set_trainable(model, "head")
        assert [w.path for w in model.trainable_weights] == [
            "top_conv/kernel",
            "mine/kernel",
            "mine/bias",
        ]

    def test_it_says_what_trains(self, capsys):
        model = tiny()
        set_trainable(model, "classifier")
        assert capsys.readouterr().out == (
            "Layer 'predictions' is new: it starts at zero.\n"
            f"1,803 of {model.count_params():,} parameters train, from classifier on; "
            "batch norm: frozen\n"
        )

    def test_a_new_classifier_starts_at_zero_beside_what_is_frozen(self, capsys):
        model = tiny()
        classifier = model.get_layer("predictions")
        drawn = classifier.get_weights()
        set_trainable(model, "head")
        np.testing.assert_array_equal(classifier.get_weights()[0], drawn[0])
        set_trainable(model, "classifier")
        assert not classifier.get_weights()[0].any()
        assert "Layer 'predictions' is new: it starts at zero" in capsys.readouterr().out
        classifier.set_weights([drawn[0], drawn[1] + 1e-6])  # as after a step
        set_trainable(model, "classifier")
        np.testing.assert_array_equal(classifier.get_weights()[0], drawn[0])

    def test_freezing_between_two_fits(self):
        model = tiny()
        train(model)
        set_trainable(model, "classifier")
        before = model.get_weights()
        model.fit(IMAGES, LABELS, verbose=0)  # without compiling again
        changed = [w.path for w, old in zip(model.weights, before) if (w.numpy() != old).any()]
        assert changed == ["predictions/kernel", "predictions/bias"]

    @pytest.mark.parametrize(
        "arguments, message",
        [
            (("stage_8",), "it has stem, stage_1.*classifier"),
            (("block2a",), "no stage 'block2a'"),
            (("stem", "off"), "'trainable', 'inference', 'frozen'"),
        ],
    )
    def test_bad_arguments_change_nothing(self, arguments, message):
        model = tiny()
        with pytest.raises(InputError, match=message):
            set_trainable(model, *arguments)
        assert len(model.trainable_weights) == len(tiny().trainable_weights)

    def test_a_model_without_an_efficientnet(self):
        inputs = keras.Input((8, 8, 3))
        stem = keras.layers.Conv2D(2, 1, name="stem_conv")(inputs)  # of other networks
        for model in (
            keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]),
            keras.Model(inputs, stem),
        ):
            with pytest.raises(InputError, match="contains no EfficientNet built"):
                set_trainable(model, "head")

    @pytest.mark.parametrize("nested", [False, True])
    def test_a_model_that_was_frozen_as_a_whole(self, nested):
        base = model = tiny()
        if nested:
            inputs = keras.Input((32, 32, 3))
            model = keras.Model(inputs, keras.layers.Dense(2, name="mine")(base(inputs)))
        base.trainable = False
        set_trainable(model, "head", "trainable")
        assert [w.path for w in model.trainable_weights] == [
            "top_conv/kernel",
            "top_bn/gamma",
            "top_bn/beta",
            "predictions/kernel",
            "predictions/bias",
            *(["mine/kernel", "mine/bias"] if nested else []),
        ]


def stock(**arguments):
    """A tiny network of stock layers, as the drop-in constructors build it."""
    return tiny(flat=True, **arguments)


def body(form, **arguments):
    return {"blocks": tiny, "stock": stock}[form](include_top=False, pooling="avg", **arguments)


def trained(model):
    """The stages of the variables that train, in order, of a network or of two."""
    stages = variants.stages_of([weight.path for weight in model.weights])
    found = (stages.get(weight.path, "own") for weight in model.trainable_weights)
    return list(dict.fromkeys(found))


class Mine(keras.layers.Layer):
    """A layer of the user's with a network inside."""

    def __init__(self, network, **kwargs):
        super().__init__(**kwargs)
        self.network = network

    def build(self, _):
        self.scale = self.add_weight(shape=(), name="scale")

    def call(self, inputs, training=False):
        return self.network(inputs, training=training)


class Own(keras.Model):
    """A subclassed model of the user's."""

    def __init__(self, network):
        super().__init__()
        self.network, self.scores = network, keras.layers.Dense(3)

    def call(self, inputs, training=False):
        return self.scores(self.network(inputs, training=training))


def in_a_video(network):
    video = keras.Input((2, 32, 32, 3))
    x = keras.layers.TimeDistributed(network)(video)
    return keras.Model(video, keras.layers.Dense(3)(keras.layers.LSTM(4)(x)))


def in_a_layer(network):
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.Dense(3)(Mine(network)(images)))


def in_a_subclass(network):
    model = Own(network)
    model(IMAGES[:1])
    return model


def flat(network):
    return keras.Model(network.input, keras.layers.Dense(3)(network.output))


def nested(network):
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.Dense(3)(network(images)))


@pytest.mark.parametrize("form", ["blocks", "stock"])
class TestEveryForm:
    @pytest.mark.parametrize("build", [flat, nested, in_a_video, in_a_layer, in_a_subclass])
    def test_wherever_the_network_is(self, form, build):
        model = build(body(form))
        set_trainable(model, "stage_2", "trainable")
        own = ["own"] if trained(model)[0] == "own" else []  # a layer's own weights come first
        assert trained(model) == own + ["stage_2", "stage_3", "head"] + ["own"] * (not own)
        set_trainable(model, "classifier")
        assert trained(model) == ["own"]

    @pytest.mark.parametrize("build", [nested, in_a_video, in_a_layer, in_a_subclass])
    def test_frozen_as_a_whole_before(self, form, build):
        model = build(body(form))
        holder = next(
            layer for layer in model.layers if list(finetune.holders(layer)) and layer is not model
        )
        holder.trainable = False
        assert trained(model) == ["own"]
        before = {weight.path for weight in model.trainable_weights}
        set_trainable(model, "head", "trainable")
        after = {weight.path for weight in model.trainable_weights}
        assert after - before == {"top_conv/kernel", "top_bn/gamma", "top_bn/beta"}

    def test_batch_norm_of_what_is_frozen_keeps_its_statistics(self, form):
        model = nested(body(form))
        set_trainable(model, "stage_3", "trainable")
        before = {weight.path: np.array(weight) for weight in model.weights}
        model(IMAGES, training=True)
        moved = {
            path.split("/")[0][:6]
            for path, value in before.items()
            if not np.array_equal(value, next(w for w in model.weights if w.path == path))
        }
        assert moved == {"block3", "top_bn"}

    def test_two_networks_one_of_them_renamed(self, form, tmp_path):
        left, right = body(form, name="left"), body(form, name="right")
        for layer in right.layers:
            layer.name = f"right_{layer.name}"
        for layer in left.layers:
            layer.name = f"{layer.name}_2"
        joined = keras.layers.Concatenate()([left.output, right.output])
        model = keras.Model([left.input, right.input], keras.layers.Dense(3, name="own")(joined))
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        for each in (model, again):
            set_trainable(each, "head", "trainable")
            assert len(each.trainable_weights) == 2 * 3 + 2
            assert trained(each) == ["head", "own"]
            set_trainable(each, "classifier")
            assert len(each.trainable_weights) == 2
        rates = effnet_tf.SGD(0.1, body_rate=0.0, layer_decay=0.5)
        set_trainable(again, "stem", "trainable")
        rates.build(again.trainable_variables)
        depths = dict(zip([weight.path for weight in again.trainable_weights], rates._depths))
        assert {depths.pop("own/kernel"), depths.pop("own/bias")} == {None}
        assert set(depths.values()) == {1, 6, 7, 8, 9}  # the head, stages 3 to 1, the stem


class TestStockLayers:
    """Keras' batch norm has no mode."""

    def test_frozen_batch_norm(self):
        model = stock()
        set_trainable(model, "stage_3")
        assert not [weight.path for weight in model.trainable_weights if is_scale(weight.path)]
        assert trained(model) == ["stage_3", "head", "classifier"]
        before = np.array(model.get_layer("top_bn").moving_mean)
        model(IMAGES, training=True)
        np.testing.assert_array_equal(model.get_layer("top_bn").moving_mean, before)
        set_trainable(model, "stem", "trainable")
        assert len(model.trainable_weights) == len(stock().trainable_weights)

    def test_scales_on_fixed_statistics_are_refused(self):
        model = stock()
        before = len(model.trainable_weights)
        with pytest.raises(InputError, match="build the network by effnet_tf.model_fn"):
            set_trainable(model, "stage_3", "inference")
        assert len(model.trainable_weights) == before
        set_trainable(model, "classifier", "inference")  # no batch norm trains
        assert len(model.trainable_weights) == 2

    @pytest.mark.parametrize("build", ["EfficientNetB0", "EfficientNetV2B0"])
    def test_those_of_keras(self, build):
        model = getattr(keras.applications, build)(
            weights=None, include_top=False, input_shape=(32, 32, 3)
        )
        set_trainable(model, "head")
        assert [weight.path for weight in model.trainable_weights] == ["top_conv/kernel"]


class TestBlocks:
    def test_one_whose_stage_cannot_be_told(self):
        model = tiny()
        model.get_layer("block3a").name = "three"
        with pytest.raises(InputError, match="block 'three' of model .* such as 'block2a'"):
            set_trainable(model, "stage_2")
        assert len(model.trainable_weights) == len(tiny().trainable_weights)

    @pytest.mark.parametrize("build", [flat, nested])
    def test_ones_own_on_top_are_left_as_they_are(self, build):
        network = tiny(include_top=False)
        images = network.input
        x = network.output
        if build is nested:
            images = keras.Input((32, 32, 3))
            x = network(images)
        for number in range(2):
            x = effnet_tf.MBConv(600, 600, name=f"fpn{number}")(x)
        model = keras.Model(images, x)
        own = [w.path for w in model.trainable_weights if w.path.startswith("fpn")]
        set_trainable(model, "classifier")
        assert own and [weight.path for weight in model.trainable_weights] == own

    def test_batch_norm_of_a_single_one_is_set_too(self):
        model = tiny()
        model.get_layer("block3a").bn.trainable = False
        model.get_layer("block2a").bn.mode = "frozen"
        set_trainable(model, "stem", "trainable")
        assert len(model.trainable_weights) == len(tiny().trainable_weights)


def test_a_model_that_is_not_built_is_refused():
    network = body("blocks")
    model = Own(network)
    with pytest.raises(InputError, match="is not built yet.*call it once"):
        set_trainable(model, "classifier")
    assert all(layer.trainable for layer in network.layers)


class TestRecipeInFit:
    """The finetune recipe, as a Keras program uses it."""

    def test_rates_of_body_and_head(self):
        recipe = effnet_tf.RECIPES["finetune"]
        model = tiny(dropout_rate=0, drop_connect_rate=0)
        set_trainable(model, "stem", recipe.batch_norm)
        optimizer = effnet_tf.optim.optimizer(recipe, steps_per_epoch=1)
        assert optimizer.body_rate == 0.1 and recipe.schedule == "cosine"
        changed = train(model, optimizer, jit_compile="auto")
        assert {stage_of(path) for path in changed} == set(STAGES)
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert again.body_rate == 0.1
        assert isinstance(again._learning_rate, effnet_tf.WarmupCosine)


def test_stage_names_of_a_whole_family():
    layers = finetune.stages(effnet_tf.model_fn("lite0", 3, input_shape=(32, 32, 3)))
    assert [layer.name for layer in layers["stage_2"]] == ["block2a", "block2b"]
    assert [layer.name for layer in layers["head"]] == ["top_conv", "top_bn"]
    assert len(layers) == 10
