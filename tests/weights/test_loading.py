"""loading.py and matching.py: nothing is lost in silence, whatever is loaded into what."""

import dataclasses
import re
import zipfile

import h5py
import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import InputError, load_weights
from effnet_tf.weights import model_names, pixels, published
from tests.helpers import files, goldens, tiny_net
from tests.helpers.files import assert_untouched, timm_state

TINY = tiny_net.scaled(-8)


class TestOwn:
    @pytest.fixture(scope="class")
    def saved(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("weights")
        model = effnet_tf.model_fn(TINY, 4, input_shape=(32, 32, 3), preprocessing="inception")
        paths = [str(folder / "a.weights.h5"), str(folder / "a.keras"), str(folder / "b.h5")]
        model.save_weights(paths[0])
        for path in paths[1:]:
            model.save(path)
        # The format is found by content: names may say anything.
        for number, path in enumerate(list(paths)):
            odd = folder / f"odd{number}.bin"
            odd.write_bytes(open(path, "rb").read())
            paths.append(str(odd))
        return model, paths

    @pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
    @pytest.mark.parametrize("which", range(6))
    def test_a_file_is_loaded_whatever_its_name(self, saved, which):
        model, paths = saved
        again = effnet_tf.model_fn(TINY, 4, weights=paths[which], input_shape=(64, 64, 3))
        for one, other in zip(model.get_weights(), again.get_weights()):
            np.testing.assert_array_equal(one, other)
        assert pixels.constants_of(again)[0] == [127.5] * 3  # they come with the weights

    def test_inside_another_model(self, saved, tmp_path, capsys):
        model, _ = saved
        inputs = keras.Input((32, 32, 3))
        outer = keras.Model(inputs, keras.layers.Dense(2, name="mine")(model(inputs)))
        outer.save(tmp_path / "outer.keras")
        again = effnet_tf.model_fn(
            TINY, 4, weights=str(tmp_path / "outer.keras"), input_shape=(32, 32, 3)
        )
        for one, other in zip(model.get_weights(), again.get_weights()):
            np.testing.assert_array_equal(one, other)
        assert "unused   2: mine/kernel (4, 2), mine/bias (2,)" in capsys.readouterr().out

    @pytest.mark.parametrize("which", range(3))
    def test_another_network_is_refused_and_nothing_changes(self, saved, which):
        other = effnet_tf.model_fn(TINY, 7, input_shape=(32, 32, 3))
        before = other.get_weights()
        with pytest.raises(InputError, match=r"predictions/kernel \(600, 4\) -> \(600, 7\)"):
            load_weights(other, saved[1][which])
        assert_untouched(other, before)
        assert pixels.constants_of(other)[0][0] == pytest.approx(123.675)

    def test_not_strict_loads_what_fits_and_prints_the_rest(self, saved, capsys):
        other = effnet_tf.model_fn(TINY, 7, input_shape=(32, 32, 3))
        report = load_weights(other, saved[1][1], strict=False)
        line = "predictions/kernel (600, 4) -> (600, 7): starts at zero"
        assert report.reshaped[0] == line and len(report.reshaped) == 2
        assert line in capsys.readouterr().out
        np.testing.assert_array_equal(
            other.get_layer("top_conv").kernel, saved[0].get_layer("top_conv").kernel
        )

    def test_feature_extractor_takes_what_it_needs(self, saved, capsys):
        model = effnet_tf.feature_extractor(TINY, ["reduction_2"], weights=saved[1][1])
        np.testing.assert_array_equal(
            model.get_layer("stem_conv").kernel, saved[0].get_layer("stem_conv").kernel
        )
        assert "unused" in capsys.readouterr().out

    @pytest.mark.parametrize("which", range(3))
    def test_a_damaged_file(self, saved, tmp_path, which):
        whole = open(saved[1][which], "rb").read()
        (tmp_path / "half").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError, match="is damaged"):
            effnet_tf.model_fn(TINY, 4, weights=str(tmp_path / "half"))

    @pytest.mark.parametrize("content", [b"not really", b"", b"PK\x03\x04"])
    def test_a_file_of_another_kind(self, tmp_path, content):
        (tmp_path / "weights.h5").write_bytes(content)
        with pytest.raises(InputError, match="not a weights file|is damaged"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "weights.h5"))

    def test_a_zip_of_something_else(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
            archive.writestr("readme.txt", "hello")
        with pytest.raises(InputError, match="not a weights file"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "a.keras"))

    def test_nothing_there(self, tmp_path):
        for path in (tmp_path, tmp_path / "no"):
            with pytest.raises(InputError, match="no weights at"):
                effnet_tf.model_fn(TINY, weights=str(path))


def tiny(**arguments):
    return effnet_tf.model_fn(TINY, **{"input_shape": (32, 32, 3), **arguments})


def body(flat=False, **arguments):
    return tiny(include_top=False, pooling="avg", flat=flat, **arguments)


def rename(network, before="", after=""):
    for layer in network.layers:
        layer.name = f"{before}{layer.name}{after}"
    return network


def dense(network, **arguments):
    return keras.layers.Dense(3, name="own", **arguments)(network.output)


class Mine(keras.layers.Layer):
    """A layer of the user's."""

    def __init__(self, network, **kwargs):
        super().__init__(**kwargs)
        self.network = network

    def call(self, inputs):
        return self.network(inputs)


class Own(keras.Model):
    """A subclassed model of the user's."""

    def __init__(self, network):
        super().__init__()
        self.network, self.own = network, keras.layers.Dense(3)

    def call(self, inputs):
        return self.own(self.network(inputs))


def in_a_graph(network):
    return keras.Model(network.input, dense(network))


def nested(network):
    return keras.Sequential([network, keras.layers.Dense(3)])


def in_a_video(network):
    video = keras.Input((2, 32, 32, 3))
    x = keras.layers.TimeDistributed(network)(video)
    return keras.Model(video, keras.layers.Dense(3)(x))


def in_a_layer(network):
    images = keras.Input((32, 32, 3))
    return keras.Model(images, keras.layers.Dense(3)(Mine(network)(images)))


def in_a_subclass(network):
    model = Own(network)
    model(np.zeros((1, 32, 32, 3)))
    return model


def assert_equal(network, other):
    """The same weights under the same names, but for the names of a form."""
    values = [
        {
            name: np.array(value)
            for name, value in model_names.canonical(model).items()
            if "normalization" not in name
        }
        for model in (network, other)
    ]
    assert values[0].keys() == values[1].keys()
    for name, value in values[0].items():
        np.testing.assert_array_equal(value, values[1][name], name)


def different(network):
    """Moves all weights of a network, so that its file is told from any other's."""
    for number, weight in enumerate(network.weights):
        if "normaliz" not in weight.path:
            weight.assign(np.array(weight) + 0.001 * (number + 1))
    return network


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
class TestBothForms:
    @pytest.fixture(scope="class", params=[False, True], ids=["blocks", "flat"])
    def saved(self, request, tmp_path_factory):
        """(a classifier, its files)."""
        folder = tmp_path_factory.mktemp("form")
        model = different(tiny(num_classes=3, flat=request.param))
        model.save_weights(folder / "a.weights.h5")
        model.save(folder / "a.keras")
        model.save(folder / "a.h5")
        renamed = rename(keras.models.clone_model(model), "right_", "_2")
        renamed.set_weights(model.get_weights())
        renamed.save_weights(folder / "renamed.weights.h5")
        renamed.save(folder / "renamed.keras")
        renamed.save(folder / "renamed.h5")
        return model, folder

    @pytest.mark.parametrize("flat", [False, True])
    @pytest.mark.parametrize("renamed", ["", "renamed"])
    @pytest.mark.parametrize("ending", [".weights.h5", ".keras", ".h5"])
    def test_a_file_of_either_form_loads_into_either(self, saved, flat, renamed, ending):
        model, folder = saved
        other = tiny(num_classes=3, flat=flat)
        if flat:
            rename(other, "left.")
        report = load_weights(other, folder / f"{renamed or 'a'}{ending}")
        assert not (report.missing or report.unused or report.reshaped)
        assert_equal(model, other)


@pytest.mark.parametrize("flat", [False, True])
class TestInsideOtherModels:
    @pytest.mark.parametrize("build", [in_a_graph, nested, in_a_video, in_a_layer, in_a_subclass])
    def test_it_is_found_and_ones_own_layers_keep_their_values(self, flat, build, tmp_path, capsys):
        network = different(tiny(num_classes=5, flat=flat))
        network.save_weights(tmp_path / "a.weights.h5")
        model = build(body(flat))
        kernel = np.array(model.weights[-2])
        with pytest.raises(InputError, match="adapt=True accepts this") as refused:
            load_weights(model, tmp_path / "a.weights.h5")
        assert "strict=False" not in str(refused.value)
        report = load_weights(model, tmp_path / "a.weights.h5", adapt=True)
        assert report.missing[-1].endswith("bias (3,): yours, keeps its values")
        assert "yours, keeps its values" in capsys.readouterr().out
        np.testing.assert_array_equal(kernel, model.weights[-2])
        np.testing.assert_array_equal(
            next(w for w in model.weights if w.path.endswith("top_conv/kernel")),
            network.get_layer("top_conv").kernel,
        )

    def test_a_table_beside_it_has_a_normalization_of_its_own(self, flat, tmp_path):
        body(flat).save_weights(tmp_path / "a.weights.h5")
        network, table = body(flat), keras.Input((7,))
        scale = keras.layers.Normalization(name="table")
        scale.adapt(np.random.default_rng(0).normal(3, 2, (9, 7)))
        joined = keras.layers.Concatenate()([network.output, scale(table)])
        model = keras.Model([network.input, table], joined)
        mean = np.array(scale.mean)
        assert not load_weights(model, tmp_path / "a.weights.h5").missing
        np.testing.assert_array_equal(mean, scale.mean)

    @pytest.mark.parametrize("ending", [".keras", ".weights.h5"])
    def test_ones_own_layers_are_loaded_where_the_file_has_them(self, flat, ending, tmp_path):
        def build():
            network, table = body(flat), keras.Input((7,))
            scale = keras.layers.Normalization(name="table")
            scale.adapt(np.random.default_rng(0).normal(3, 2, (9, 7)))
            joined = keras.layers.Concatenate()([network.output, scale(table)])
            joined = keras.layers.BatchNormalization(name="own_norm")(joined)
            scores = keras.layers.Dense(2, name="own")(joined)
            return keras.Model([network.input, table], scores)

        saved, model = different(build()), build()
        saved.get_layer("table").adapt(np.random.default_rng(1).normal(5, 1, (9, 7)))
        path = tmp_path / f"a{ending}"
        if ending == ".keras":
            saved.save(path)
        else:
            saved.save_weights(path)
        inputs = [np.ones((1, 32, 32, 3)), np.ones((1, 7))]
        model.predict(inputs, verbose=0)  # traced with what it had
        report = load_weights(model, path)
        assert not report.missing and not report.unused
        if ending == ".keras":
            expected = saved.predict(inputs, verbose=0)
            np.testing.assert_allclose(
                model.predict(inputs, verbose=0), expected, rtol=1e-4, atol=1e-6
            )
        for name in ("own", "own_norm", "table")[: 3 if ending == ".keras" else 2]:
            for mine, theirs in zip(
                model.get_layer(name).get_weights(), saved.get_layer(name).get_weights()
            ):
                np.testing.assert_array_equal(mine, theirs)

    def test_of_several_one_is_loaded_as_the_sentence_says(self, flat, tmp_path):
        body(flat).save_weights(tmp_path / "a.weights.h5")
        left, right = body(flat, name="left"), rename(body(flat, name="right"), "right_")
        model = keras.Model(
            [left.input, right.input], keras.layers.Concatenate()([left.output, right.output])
        )
        model.save(tmp_path / "joined.keras")
        again = keras.saving.load_model(tmp_path / "joined.keras")
        kernels = {
            before: np.array(model.get_layer(f"{before}stem_conv").kernel)
            for before in ("", "right_")
        }
        for each in (model, again):
            with pytest.raises(InputError, match="holds several networks") as refused:
                load_weights(each, tmp_path / "a.weights.h5")
            said = re.search(r"load_weights\((keras.Model.*), path\)", str(refused.value))[1]
            part = eval(said, {"keras": keras, "model": each})
            load_weights(part, tmp_path / "a.weights.h5")
            # Of the file of both the one of the same names is taken.
            load_weights(part, tmp_path / "joined.keras", adapt=True)
            wanted = "right_" if "right_" in said else ""
            loaded = part.get_layer(f"{wanted}stem_conv").kernel
            np.testing.assert_array_equal(loaded, kernels[wanted])

    def test_of_nested_ones_the_sentence_names_one(self, flat, tmp_path):
        body(flat).save_weights(tmp_path / "a.weights.h5")
        images = keras.Input((32, 32, 3))
        parts = [body(flat, name=name)(images) for name in ("left", "right")]
        model = keras.Model(images, keras.layers.Add()(parts))
        with pytest.raises(InputError, match=r"load_weights\(model.get_layer\('left'\), path\)"):
            load_weights(model, tmp_path / "a.weights.h5")
        assert load_weights(model.get_layer("left"), tmp_path / "a.weights.h5").exact


class TestWaysOut:
    """What is advised helps."""

    def test_another_variant(self, tmp_path):
        effnet_tf.model_fn("lite0", include_top=False).save_weights(tmp_path / "a.weights.h5")
        with pytest.raises(InputError, match="of variant lite0, and this model is b0") as refused:
            load_weights(
                effnet_tf.model_fn("b0", include_top=False), tmp_path / "a.weights.h5", adapt=True
            )
        assert "=True" not in str(refused.value) and "=False" not in str(refused.value)

    def test_other_layers_only(self, tmp_path):
        other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="mine")])
        other.save_weights(tmp_path / "a.weights.h5")
        with pytest.raises(InputError, match="does not fit") as refused:
            load_weights(tiny(num_classes=4), tmp_path / "a.weights.h5")
        assert "=True" not in str(refused.value) and "=False" not in str(refused.value)

    def test_a_block_of_other_size(self, tmp_path):
        effnet_tf.model_fn(effnet_tf.CompoundScaling().variant(-6), 4).save_weights(
            tmp_path / "a.weights.h5"
        )
        model = tiny(num_classes=4)
        for adapt in (False, True):
            with pytest.raises(InputError, match=r"\(strict=False loads what fits.\)"):
                load_weights(model, tmp_path / "a.weights.h5", adapt=adapt)
        assert load_weights(model, tmp_path / "a.weights.h5", strict=False).matched

    def test_one_of_several_classifiers(self, tmp_path):
        source = body()
        heads = [keras.layers.Dense(4, name=name)(source.output) for name in ("age", "mood")]
        keras.Model(source.input, heads).save_weights(tmp_path / "a.weights.h5")
        with pytest.raises(InputError, match=r"missing 2: predictions.*strict=False loads"):
            load_weights(tiny(num_classes=4), tmp_path / "a.weights.h5")


class TestNothingIsLostInSilence:
    """What a second reader found: each passed, strictly, without a word."""

    def test_two_networks_in_one_model(self, tmp_path):
        inputs = keras.Input((32, 32, 3))
        ensemble = keras.Model(
            inputs,
            keras.layers.Average()(
                [
                    effnet_tf.model_fn(TINY, 4, name=name, input_shape=(32, 32, 3))(inputs)
                    for name in ("one", "other")
                ]
            ),
        )
        ensemble.save_weights(tmp_path / "a.weights.h5")
        with pytest.raises(InputError, match="holds several networks"):
            load_weights(ensemble, tmp_path / "a.weights.h5")
        with pytest.raises(InputError, match="The file holds several networks"):
            effnet_tf.model_fn(TINY, 4, weights=str(tmp_path / "a.weights.h5"))

    def test_blocks_of_ones_own_on_top(self, tmp_path):
        def build():
            inputs = keras.Input((32, 32, 3))
            x = effnet_tf.model_fn(TINY, include_top=False)(inputs)
            for name in ("fpn1", "fpn2"):
                x = effnet_tf.MBConv(600, 600, name=name)(x)
            return keras.Model(inputs, x)

        one, other = build(), build()
        one.save_weights(tmp_path / "a.weights.h5")
        assert len(load_weights(other, tmp_path / "a.weights.h5").matched) == len(
            pixels.network_weights(one)
        )
        for mine, theirs in zip(one.get_weights(), other.get_weights()):
            np.testing.assert_array_equal(mine, theirs)

    def test_a_missing_block_moves_no_other(self, tmp_path):
        from safetensors.numpy import save_file

        save_file(
            {
                key: value
                for key, value in timm_state("tf_efficientnet_b0").items()
                if not key.startswith("blocks.3.0.")
            },
            tmp_path / "a.safetensors",
        )
        model = effnet_tf.model_fn("b0")
        with pytest.raises(InputError, match=r"missing 19: block4a/expand_conv/kernel"):
            load_weights(model, tmp_path / "a.safetensors")
        report = load_weights(model, tmp_path / "a.safetensors", strict=False, family="tf")
        assert not report.reshaped
        np.testing.assert_array_equal(
            model.get_layer("block5a").project_bn.beta,
            goldens.timm_value("blocks.4.0.bn3.bias", (112,)),
        )

    def test_a_renamed_block_of_tf1_is_named(self, tmp_path):
        variables = {
            name.replace("blocks_5/", "blocks_five/"): value
            for name, value in files.seeded(goldens.read("b0")).items()
        }
        files.write_tf1(tmp_path, variables)
        model = effnet_tf.model_fn("b0")
        with pytest.raises(InputError, match="missing 19: block4a.*unused .*blocks_five"):
            load_weights(model, tmp_path)

    def test_ones_own_normalization_is_not_the_networks(self, tmp_path):
        base = keras.applications.EfficientNetB0(weights=None, include_top=False)
        inputs = keras.Input((64, 64, 3))
        own = keras.layers.Normalization(name="normalization_7", mean=[9.0] * 3, variance=[4.0] * 3)
        outer = keras.Model(inputs, base(own(inputs)))
        for name in ("a.keras", "a.weights.h5"):
            (outer.save if "keras" in name else outer.save_weights)(tmp_path / name)
            loaded = effnet_tf.EfficientNetB0(weights=str(tmp_path / name), include_top=False)
            mean, std = pixels.constants_of(loaded)
            assert (mean[0], std[0]) == pytest.approx((0, 255))

    def test_constants_in_the_configuration(self, tmp_path):
        inputs = keras.Input((32, 32, 3))
        x = keras.layers.Normalization(
            mean=[120.0, 110.0, 100.0], variance=[100.0, 225.0, 400.0], name="normalization"
        )(inputs)
        body = effnet_tf.model_fn(TINY, 4, input_tensor=x, preprocessing=False)
        body.save(tmp_path / "a.keras")
        loaded = effnet_tf.model_fn(
            TINY, 4, weights=str(tmp_path / "a.keras"), input_shape=(32, 32, 3)
        )
        np.testing.assert_allclose(pixels.constants_of(loaded)[0], [120, 110, 100])
        np.testing.assert_allclose(pixels.constants_of(loaded)[1], [10, 15, 20])

    @pytest.mark.parametrize(
        "theirs, mine, words",
        [
            (False, True, "the file's model left normalising to its caller; this one computes"),
            (True, False, r"the weights expect .x - .123.675.*leaves to its caller"),
        ],
    )
    def test_who_normalises(self, theirs, mine, words, tmp_path, capsys):
        effnet_tf.model_fn(TINY, 4, preprocessing=theirs).save(tmp_path / "a.keras")
        model = effnet_tf.model_fn(TINY, 4, preprocessing=mine)
        report = load_weights(model, tmp_path / "a.keras")
        assert not report.exact and re.search(words, capsys.readouterr().out)

    def test_a_variable_that_is_no_number(self, tmp_path):
        model = effnet_tf.model_fn(TINY, 4)
        model.save_weights(tmp_path / "a.weights.h5")
        with h5py.File(tmp_path / "a.weights.h5", "r+") as root:
            del root["layers/dense/vars/0"]
            root["layers/dense/vars/0"] = np.full((600, 4), b"x")
        before = model.get_weights()
        with pytest.raises(InputError, match="S1 values, not numbers"):
            load_weights(model, tmp_path / "a.weights.h5")
        assert_untouched(model, before)

    def test_random_damage_is_a_sentence(self, tmp_path):
        model = effnet_tf.model_fn(TINY, 4)
        path, random = tmp_path / "a.weights.h5", np.random.default_rng(0)
        model.save_weights(path)
        whole, refused = path.read_bytes(), 0
        for _ in range(40):
            damaged = bytearray(whole)
            for place in random.integers(0, 3000, 20):
                damaged[place] = random.integers(256)
            path.write_bytes(bytes(damaged))
            try:
                load_weights(model, path)
            except InputError:
                refused += 1
        assert refused > 10

    def test_a_place_that_cannot_be_read(self):
        with pytest.raises(InputError, match="'s3://bucket/x' cannot be reached: .*knows no s3"):
            effnet_tf.model_fn(TINY, weights="s3://bucket/x")

    def test_a_misspelt_name_is_no_riddle(self):
        with pytest.raises(InputError, match="Did you mean noisy-student"):
            effnet_tf.model_fn(TINY, weights="noisystudent")


class TestClassifiersOfOtherNames:
    """A classifier that stands in the file is not left random because of its name."""

    @pytest.fixture
    def outer(self, tmp_path):
        """(a network with a classifier of one's own, its file)."""
        body = effnet_tf.model_fn(TINY, include_top=False, pooling="avg", input_shape=(32, 32, 3))
        scores = keras.layers.Dense(4, name="my_scores")(body.output)
        model = keras.Model(body.input, scores)
        model.save_weights(tmp_path / "a.weights.h5")
        return model, str(tmp_path / "a.weights.h5")

    def build(self, classes=4):
        return effnet_tf.model_fn(
            TINY, classes, input_shape=(32, 32, 3), classifier_activation=None
        )

    def test_it_is_taken_and_that_is_said(self, outer, capsys):
        model = self.build()
        report = load_weights(model, outer[1], adapt=True)
        assert len(model.get_weights()) == len(outer[0].get_weights())
        for one, other in zip(model.get_weights(), outer[0].get_weights()):
            np.testing.assert_array_equal(one, other)
        said = "predictions/kernel (600, 4) -> (600, 4): taken from my_scores/kernel"
        assert said in capsys.readouterr().out and said in report.reshaped
        assert not report.missing and not report.unused

    def test_strictly_it_is_asked_for(self, outer):
        model = self.build()
        before = model.get_weights()
        with pytest.raises(InputError, match="missing 2: predictions/kernel"):
            load_weights(model, outer[1])
        assert_untouched(model, before)

    def test_another_number_of_classes_is_another_classifier(self, outer):
        model = self.build(5)
        report = load_weights(model, outer[1], adapt=True)
        assert len(report.missing) == len(report.unused) == 2

    def test_one_of_several_is_not_guessed(self, outer, tmp_path):
        source, path = outer
        features = source.layers[-2].output
        heads = [keras.layers.Dense(4, name=name)(features) for name in ("age", "mood")]
        keras.Model(source.input, heads).save_weights(path)
        with pytest.raises(InputError, match="age/kernel or mood/kernel"):
            load_weights(self.build(), path, adapt=True)


def test_nothing_that_fits_is_an_error(tmp_path):
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="mine")])
    other.save_weights(tmp_path / "a.weights.h5")
    model = effnet_tf.model_fn(TINY, 4)
    before = model.get_weights()
    with pytest.raises(
        InputError, match=r"Nothing in '.*a.weights.h5' .* fits .*mine/kernel \(3, 2\)"
    ):
        load_weights(model, tmp_path / "a.weights.h5", strict=False)
    assert_untouched(model, before)


class TestSmallModels:
    @pytest.mark.parametrize("variant, endpoint", [("b2", "P1"), ("lite2", "P2"), ("b0", "stem")])
    def test_a_name_fetches_the_right_variant(self, variant, endpoint, monkeypatch):
        class Asked(Exception):
            pass

        def fetch(name, asked, _):
            raise Asked(asked)

        monkeypatch.setattr(published, "fetch", fetch)
        with pytest.raises(Asked, match=f"^{variant}$"):
            effnet_tf.feature_extractor(variant, endpoint, weights="imagenet")

    def test_without_a_variant_it_asks(self):
        model = effnet_tf.feature_extractor("lite2", "P1")
        with pytest.raises(InputError, match="lite0 or lite1.* pass variant= to say which"):
            load_weights(model, "imagenet")

    def test_changed_strides_need_no_other_weights(self, tmp_path):
        stages = tuple(dataclasses.replace(stage, strides=1) for stage in TINY.stages)
        model = effnet_tf.model_fn(TINY, 4)
        model.save_weights(tmp_path / "a.weights.h5")
        fine = dataclasses.replace(TINY, name="fine", stages=stages)
        again = effnet_tf.model_fn(fine, 4, weights=str(tmp_path / "a.weights.h5"))
        np.testing.assert_array_equal(
            again.get_layer("block3a").dwconv.kernel, model.get_layer("block3a").dwconv.kernel
        )


class TestAdapting:
    @pytest.fixture(scope="class")
    def rgb(self, tmp_path_factory):
        """(a lite0 classifier of RGB images, its weights file)."""
        keras.utils.set_random_seed(0)
        model = effnet_tf.model_fn("lite0", 10, input_shape=(64, 64, 3))
        path = tmp_path_factory.mktemp("rgb") / "a.weights.h5"
        model.save_weights(path)
        return model, str(path)

    @pytest.fixture(scope="class")
    def saved_tiny(self, tmp_path_factory):
        """The weights file of a tiny network of 4 classes."""
        path = tmp_path_factory.mktemp("tiny") / "a.weights.h5"
        tiny(num_classes=4).save_weights(path)
        return str(path)

    def test_other_classes_get_a_classifier_at_zero_and_say_so(self, rgb, capsys):
        model = effnet_tf.model_fn("lite0", 5, weights=rgb[1], input_shape=(64, 64, 3))
        assert (
            "predictions/kernel (1280, 10) -> (1280, 5): starts at zero" in capsys.readouterr().out
        )
        np.testing.assert_array_equal(
            model.get_layer("top_conv").kernel, rgb[0].get_layer("top_conv").kernel
        )
        assert not np.any(model.get_layer("predictions").get_weights()[0])

    def test_a_classifier_that_the_file_lacks(self, rgb, tmp_path, capsys):
        body = effnet_tf.model_fn("lite0", include_top=False, weights=rgb[1])
        assert "unused   2: predictions/kernel (1280, 10)" in capsys.readouterr().out
        body.save_weights(tmp_path / "notop.weights.h5")
        effnet_tf.model_fn("lite0", 3, weights=str(tmp_path / "notop.weights.h5"))
        assert "missing  2: predictions/kernel (1280, 3): starts at zero" in capsys.readouterr().out

    def test_a_classifier_that_was_trained_keeps_its_values(self, saved_tiny, capsys):
        model = tiny(name="another", num_classes=7)
        kernel, bias = model.get_layer("predictions").get_weights()
        model.get_layer("predictions").set_weights([kernel, bias + 1e-6])  # as after a step
        report = load_weights(model, saved_tiny, adapt=True)
        assert report.new == () and "(600, 7): keeps its values" in capsys.readouterr().out
        np.testing.assert_array_equal(model.get_layer("predictions").kernel, kernel)

    def test_every_door_starts_a_new_classifier_at_zero(self, saved_tiny):
        model = tiny(num_classes=7)
        report = load_weights(model, saved_tiny, adapt=True)
        assert report.new == ("predictions/kernel (600, 7)", "predictions/bias (7,)")
        shape = dict(input_shape=(32, 32, 3), weights=saved_tiny)
        flat = effnet_tf.model_fn(TINY, 7, flat=True, **shape)
        ends = effnet_tf.feature_extractor(TINY, "logits", num_classes=7, **shape)
        for each in (model, flat, ends):
            kernel, bias = each.get_layer("predictions").get_weights()
            assert not kernel.any() and not bias.any()

    def test_a_refused_file_leaves_a_new_classifier_as_it_was_drawn(self, saved_tiny):
        model = tiny(num_classes=7)
        with pytest.raises(InputError, match=r"\(600, 7\): keeps its values"):
            load_weights(model, saved_tiny)
        assert model.get_layer("predictions").get_weights()[0].any()

    @pytest.mark.parametrize("channels", [1, 2])
    def test_grey_images_mean_what_they_mean_in_rgb(self, rgb, channels, capsys):
        # Exactly so for Lite, whose constants are the same for every colour.
        model = effnet_tf.model_fn("lite0", 10, weights=rgb[1], input_shape=(64, 64, channels))
        assert (
            f"(3, 3, 3, 32) -> (3, 3, {channels}, 32): adapted from RGB" in capsys.readouterr().out
        )
        grey = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1)).astype("float32")
        np.testing.assert_allclose(
            model(np.repeat(grey, channels, -1)), rgb[0](np.repeat(grey, 3, -1)), rtol=1e-4
        )

    def test_a_fourth_channel_repeats_the_first(self, rgb):
        model = effnet_tf.model_fn("lite0", 10, weights=rgb[1], input_shape=(64, 64, 4))
        kernel = np.asarray(rgb[0].get_layer("stem_conv").kernel)
        np.testing.assert_allclose(
            model.get_layer("stem_conv").kernel, 0.75 * kernel[:, :, [0, 1, 2, 0]], rtol=1e-6
        )

    def test_strict_loading_adapts_nothing(self, rgb):
        model = effnet_tf.model_fn("lite0", 10, input_shape=(64, 64, 1))
        with pytest.raises(InputError, match="stem_conv/kernel"):
            load_weights(model, rgb[1])
        assert load_weights(model, rgb[1], adapt=True).reshaped

    def test_another_resolution_just_works(self, rgb, capsys):
        model = effnet_tf.model_fn("lite0", 10, weights=rgb[1], input_shape=(97, 33, 3))
        assert model(np.zeros((1, 97, 33, 3), "uint8")).shape == (1, 10)
        assert capsys.readouterr().out == ""

    def test_what_was_compiled_gets_the_new_constants(self, rgb, tmp_path):
        model = effnet_tf.model_fn(
            "lite0", 10, weights=rgb[1], input_shape=(64, 64, 3), preprocessing="imagenet"
        )
        images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3)).astype("uint8")
        model.predict(images, verbose=0)
        load_weights(model, rgb[1])
        np.testing.assert_allclose(model.predict(images, verbose=0), rgb[0](images), rtol=1e-5)
