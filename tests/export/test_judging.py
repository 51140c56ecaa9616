"""export/judging.py, reference.py, measuring.py: what is compared, and what does not pass."""

import dataclasses
import types

import keras
import numpy as np
import pytest

from effnet_tf.export import folding, judging, reference
from effnet_tf.export.tflite import interpreter, measuring
from tests.export.tflite import test_flatbuffer

data = test_flatbuffer.data
model = test_flatbuffer.model
images = test_flatbuffer.images


def test_sqnr_is_that_of_the_definition():
    exact = np.array([[1.0, 3.0], [2.0, -2.0]])
    noisy = exact + [[0.1, -0.1], [0.2, 0.2]]  # a constant per image is no error
    assert measuring.sqnr(exact, noisy) == pytest.approx(10 * np.log10(10 / 0.02))
    assert measuring.sqnr(exact, exact) == np.inf
    assert np.isnan(measuring.sqnr(exact, exact * np.nan))
    one = np.array([[1.0], [2.0]])  # a single score has no mean to take off
    assert measuring.sqnr(one, one * 1.1) == pytest.approx(20)


def answer_of(model, images):
    return reference.answer_of(
        model, folding.fold(model), {"images": np.asarray(images, "float32")}
    )


def answer(scores):
    return {"scores": np.asarray(scores), "logits": np.log(np.asarray(scores))}


EXACT = answer([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_bytes(bytes(1000))
    return str(tmp_path / "file")


def judged(path, scores, kind="none", facts=None, **more):
    return judging.judge(kind, path, EXACT, answer(scores), facts or {}, **more)


class TestJudge:
    def test_a_good_file(self, path):
        report = judged(path, EXACT["scores"] + [[1e-6, -1e-6, 0]], labels=np.array([0, 1]))
        assert report.largest_difference == pytest.approx(1e-6)
        assert (report.top1_agreement, report.top5_agreement) == (1, 1)
        assert (report.accuracy, report.model_accuracy) == (0.5, 0.5)
        assert report.size_bytes == 1000 and report.sqnr_db > 90
        assert "a difference of at most 1e-04" in str(report)
        assert "2 images: those given" in str(report)

    @pytest.mark.parametrize(
        "kind, scores",
        [
            ("none", [[0.501, 0.299, 0.2], [0.1, 0.2, 0.7]]),
            ("int8", [[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]),
            ("SavedModel", [[0.2, 0.3, 0.5], [0.7, 0.2, 0.1]]),
        ],
    )
    def test_past_the_tolerance(self, path, kind, scores):
        with pytest.raises(judging.VerificationError, match="does not compute"):
            judged(path, scores, kind)

    def test_a_network_that_says_nothing_is_told_from_a_wrong_file(self, path):
        same, other = answer([[0.501, 0.499]] * 2), answer([[0.499, 0.501]] * 2)
        with pytest.raises(judging.VerificationError, match="by only 0.002.*train it longer"):
            judging.judge("weights8", path, same, other, {})
        with pytest.raises(judging.VerificationError) as caught:
            judged(path, EXACT["scores"][:, ::-1], "weights8")
        assert "train it longer" not in str(caught.value)

    @pytest.mark.parametrize("kind", judging.TOLERANCE)
    def test_nan_is_never_right(self, path, kind):
        with pytest.raises(judging.VerificationError, match="not finite"):
            judged(path, np.full((2, 3), np.nan), kind)

    def test_resource_variables(self, path):
        with pytest.raises(judging.VerificationError, match="resource variables"):
            judged(path, EXACT["scores"], facts={"operators": {"VAR_HANDLE": 2, "CONV_2D": 1}})

    def test_a_limit_of_ones_own(self, path):
        scores = [[0.48, 0.31, 0.21], [0.1, 0.2, 0.7]]
        report = judged(path, scores, "int8", min_sqnr=20, min_agreement=1.0)
        assert "at least 20 dB (as asked)" in report.tolerance
        with pytest.raises(judging.VerificationError, match="less of the .* 90 dB .as asked"):
            judged(path, scores, "int8", min_sqnr=90)
        other = [[0.38, 0.41, 0.21], [0.1, 0.2, 0.7]]
        with pytest.raises(judging.VerificationError, match="best class on at least 60.0% .as"):
            judged(path, other, "int8", simulated=answer(other), min_agreement=0.6)

    @pytest.mark.parametrize("kind", ["weights8", "int8", "int16x8"])
    def test_a_coarse_file_is_told_from_a_broken_one(self, path, kind, caplog):
        """It is compared with what its own numbers say; far from the model, it is warned of."""
        coarse = [[0.3, 0.4, 0.3], [0.2, 0.2, 0.6]]
        broken = [[0.05, 0.15, 0.8], [0.8, 0.15, 0.05]]
        report = judged(path, coarse, kind, simulated=answer(coarse))
        assert 0 < report.sqnr_db < 10 and report.simulated_db is None
        assert f"{kind} is coarse for this network" in caplog.text
        assert "the model's on 50.0% of the 2 images" in caplog.text
        with pytest.raises(judging.VerificationError, match="its own 8-bit numbers say"):
            judged(path, broken, kind, simulated=answer(coarse))

    def test_a_good_file_is_not_warned_of(self, path, caplog):
        scores = [[0.49, 0.31, 0.2], [0.1, 0.2, 0.7]]
        simulated = answer([[0.491, 0.309, 0.2], [0.1, 0.2, 0.7]])
        report = judged(path, scores, "int8", simulated=simulated)
        assert report.simulated_db > 40 and "as simulated" in str(report)
        assert not caplog.text

    def test_every_kind_says_why(self):
        for tolerance in judging.TOLERANCE.values():
            assert tolerance.reason
            assert (tolerance.difference is None) != (tolerance.sqnr is None)


def test_the_report_shows_the_worst_layers(path):
    layers = {f"layer{n}": 20.0 + n for n in range(12)} | {"in_float": 150.0}
    report = judged(path, EXACT["scores"], facts={"layers": [{"layer0": 3.0}, layers]})
    assert report.worst_layers() == ["layer0", "layer1", "layer2"]
    assert "20.0 dB  layer0 (3.0 dB before)" in str(report)
    assert dataclasses.replace(report, layers={"in_float": 150.0}).worst_layers() == []


class TestLayers:
    def test_a_file_against_itself(self, data, images):
        found = measuring.layers(data, data, images)
        assert set(found.values()) == {150.0}
        assert list(found)[0].startswith("full") and list(found)[-1].startswith("dense")

    def test_short_names(self):
        assert measuring.short_name("net_1/block1a_dwconv_1/BiasAdd;net_1/x") == (
            "block1a_dwconv/BiasAdd"
        )
        assert measuring.short_name("StatefulPartitionedCall:0") == "StatefulPartitionedCall:0"


def test_latencies_are_ratios_of_medians(data, monkeypatch):
    """By a clock that only the files move: the second takes twice as long, and all stumble."""
    clock, costs = [0.0], iter([0.01, 0.02])

    class Timed(interpreter.Classifier):
        def __init__(self, file, **options):
            super().__init__(file, **options)
            self.cost, self.runs = next(costs), 0

        def __call__(self, images):
            self.runs += 1
            stumble = 100 if self.runs in (1, 4) else 1  # the first warms up
            clock[0] += self.cost * stumble * len(images)
            return super().__call__(images)

    monkeypatch.setattr(
        measuring,
        "time",
        types.SimpleNamespace(monotonic=lambda: clock[0], perf_counter=lambda: clock[0]),
    )
    monkeypatch.setattr(measuring.interpreter, "Classifier", Timed)
    first, ratio = measuring.latencies([data, data], seconds=0.2)
    assert first == pytest.approx(0.01) and ratio == pytest.approx(2)


class TestAnswerOfAModel:
    def ends(self, model, *layers):
        x = model.layers[-2].output
        for layer in layers:
            x = layer(x)
        return keras.Model(model.input, x)

    @pytest.mark.parametrize(
        "end",
        [
            keras.layers.Softmax(),
            keras.layers.Activation("sigmoid"),
            keras.ops.softmax,
            keras.Sequential([keras.layers.Softmax()]),
        ],
    )
    def test_logits_of_every_end(self, model, images, end):
        dense = keras.layers.Dense(3)
        bare = answer_of(self.ends(model, dense), images)
        np.testing.assert_array_equal(bare["scores"], bare["logits"])
        whole = self.ends(model, dense, end)
        found = answer_of(whole, images)
        np.testing.assert_allclose(found["logits"], bare["logits"], atol=1e-5)
        np.testing.assert_allclose(found["scores"], whole(images), atol=1e-5)
        assert np.abs(found["logits"] - found["scores"]).max() > 0.01

    def test_logits_that_float32_probabilities_do_not_hold(self, model, images):
        sharp = self.ends(model, keras.layers.Dense(3, "softmax"))
        sharp.layers[-1].bias.assign([0.0, 200.0, -200.0])
        found = answer_of(sharp, images)
        assert found["scores"].min() == 0 and found["logits"].min() < -150

    def test_a_model_of_half_precision_is_compared_in_float32(self, images):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            half = test_flatbuffer.small_net()
        finally:
            keras.config.set_dtype_policy("float32")
        found = answer_of(half, images)["scores"]
        assert (
            found.dtype == np.float32
            and np.abs(found - np.asarray(half(images), "float32")).max() > 1e-5
        )

    def test_folding_that_changes_the_model_is_no_reference(self, model, images):
        wrong = keras.models.clone_model(model)
        wrong.layers[-1].bias.assign(np.arange(32.0))
        with pytest.raises(judging.VerificationError, match="Folding batch norm changed"):
            reference.answer_of(model, wrong, {"images": images})
