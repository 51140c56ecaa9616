"""export/tflite/writing.py: every kind of TFLite file, from the model to the checked file."""

import collections
import contextlib
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import export
from effnet_tf.errors import InputError
from effnet_tf.export import folding, identify
from effnet_tf.export.tflite import flatbuffer, interpreter, linking
from tests.helpers import in_process
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)
from tests.helpers.tiny_net import randomise_batch_norm

pytestmark = pytest.mark.usefixtures("in_this_process")

TINY = effnet_tf.CompoundScaling().variant(-8)  # of seven stages: its sizes are compared
NAMES = ("tench", "Ä 猫", "great white shark", "d")
KINDS = {
    "none": {},
    "float16": {},
    "weights8": {"io": "uint8"},
    "dynamic": {"batch": "dynamic"},
    "int8": {"io": "uint8", "effort": "thorough", "batch": 2},
    "int16x8": {"effort": "quick"},
}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return randomise_batch_norm(effnet_tf.model_fn(TINY, 4, input_shape=(40, 36, 3)))


@pytest.fixture(scope="module")
def images():
    """Soft shapes, in all colours."""
    small = np.random.default_rng(1).uniform(0, 255, (12, 4, 4, 3))
    return np.clip(tf.image.resize(small, (40, 36), "bicubic"), 0, 255).round().astype("uint8")


@pytest.fixture(scope="module")
def written(model, images, tmp_path_factory):
    """Every kind of file: {kind: (path, report)}; int8 by processes of their own, as it is."""
    folder = tmp_path_factory.mktemp("files")
    found = {}
    for kind, options in KINDS.items():
        path = str(folder / f"{kind}.tflite")
        with contextlib.nullcontext() if kind == "int8" else in_process.jobs_here():
            report = export.to_tflite(
                model,
                path,
                quantize=kind,
                calibration=images,
                labels=np.arange(12) % 4,
                about=export.describe(model, class_names=NAMES),
                **options,
            )
        found[kind] = path, report
    return found


@pytest.mark.parametrize("kind", KINDS)
class TestEveryKind:
    def test_computes_what_the_model_computes(self, written, kind, model, images):
        scores = export.load(written[kind][0])(images)
        limit = {"none": 1e-5, "float16": 1e-3}.get(kind, 0.05)
        np.testing.assert_allclose(scores, model(images), atol=limit)

    def test_says_what_it_is(self, written, kind):
        path, report = written[kind]
        about = identify.about(path)
        assert about.quantize == kind and about.class_names == NAMES
        assert report.kind == kind and report.images == 12
        assert report.size_bytes == os.path.getsize(path)
        assert 0 <= report.accuracy <= 1 and report.model_accuracy == pytest.approx(
            report.accuracy, abs=0.2
        )

    def test_is_named_and_typed(self, written, kind):
        path, _ = written[kind]
        opened = interpreter.open_file(open(path, "rb").read())
        assert opened.get_signature_list() == {
            "serving_default": {"inputs": ["images"], "outputs": ["probabilities"]}
        }
        (details,) = opened.get_input_details()
        io, batch = (
            KINDS[kind].get(name, default) for name, default in (("io", "float"), ("batch", 1))
        )
        assert details["dtype"] == {"float": np.float32, "uint8": np.uint8}[io]
        assert details["shape_signature"].tolist() == [
            -1 if batch == "dynamic" else batch,
            40,
            36,
            3,
        ]

    def test_has_only_plain_operators(self, written, kind):
        operators = written[kind][1].operators
        assert not set(operators) & {
            "SHAPE",
            "PACK",
            "STRIDED_SLICE",
            "RESHAPE",
            "PAD",
            "VAR_HANDLE",
            "READ_VARIABLE",
            "CUSTOM",
        }
        assert not any(name.startswith("Flex") for name in operators)

    def test_delegation(self, written, kind):
        report = written[kind][1]
        total = sum(report.operators.values())
        if kind in ("none", "float16", "weights8"):
            assert (report.delegated, report.delegated_pieces) == (total, 1)
        assert (report.latency_ratio is None) == (kind == "none")


def test_nothing_but_the_files_is_left(written):
    folder = os.path.dirname(written["none"][0])
    assert sorted(os.listdir(folder)) == sorted(f"{kind}.tflite" for kind in KINDS)


def test_smaller_files_are_smaller(written):
    sizes = {kind: os.path.getsize(path) for kind, (path, _) in written.items()}
    assert sizes["int8"] < 0.5 * sizes["none"] and sizes["weights8"] < 0.4 * sizes["none"]
    assert sizes["weights8"] < sizes["float16"] < 0.6 * sizes["none"]


def test_the_report_has_the_layers_of_an_int8_file(written):
    report = written["int8"][1]
    assert (
        len(report.layers)
        == len(flatbuffer.operator_names(flatbuffer.read(open(written["none"][0], "rb").read())))
        - 1
    )  # all but the softmax
    assert all(value > 5 for value in report.layers.values())
    assert "worst layers" in str(report)
    assert not written["weights8"][1].layers


def expected_operators(variant):
    """Operators of a network by its blocks, one of them taking the mean off the pixels."""
    counts = collections.Counter(
        {"SUB": 1, "CONV_2D": 2, "MEAN": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}
    )
    swishes, channels = 2, effnet_tf.blocks(variant)[0].input_filters
    for block in effnet_tf.blocks(variant):
        expands = block.fused or block.expanded_filters != channels
        counts["CONV_2D"] += expands + 1 + 2 * bool(block.se_filters)
        counts["DEPTHWISE_CONV_2D"] += not block.fused
        counts["MEAN"] += bool(block.se_filters)
        counts["MUL"] += bool(block.se_filters)
        counts["LOGISTIC"] += bool(block.se_filters)
        swishes += expands + (not block.fused) + bool(block.se_filters)
        counts["ADD"] += block.strides == 1 and block.filters == channels
        channels = block.filters
    if variant.activation == "swish":
        counts += {"LOGISTIC": swishes, "MUL": swishes}
    return +counts


def test_float_operators_are_exactly_those_of_the_network(written):
    assert written["none"][1].operators == expected_operators(TINY)


@pytest.mark.parametrize("variant, total", [("b0", 239), ("lite0", 61)])
def test_published_counts(variant, total):
    """239 and 61 of the networks themselves, and the subtraction of the pixels' mean."""
    counted = expected_operators(effnet_tf.VARIANTS[variant])
    assert counted.total() - counted["SUB"] == total


@pytest.mark.slow
@pytest.mark.parametrize("preprocessing", [True, False])
@pytest.mark.parametrize("variant, total", [("b0", 239), ("lite0", 61), ("edgetpu-s", None)])
def test_whole_networks(variant, total, preprocessing, tmp_path):
    network = effnet_tf.model_fn(variant, preprocessing=preprocessing)
    pixels = np.random.default_rng(0).uniform(-1, 1, (2, *network.input_shape[1:]))
    report = export.to_tflite(
        network,
        str(tmp_path / "m.tflite"),
        quantize="none",
        verify_with=(255 * (pixels + 1) / 2 if preprocessing else pixels),
    )
    counted = expected_operators(effnet_tf.VARIANTS[variant])
    if not preprocessing:
        del counted["SUB"]
    assert report.operators == counted
    assert total in (None, counted.total() - counted["SUB"])
    assert report.delegated == counted.total()


class TestOptions:
    @pytest.mark.parametrize(
        "options, message",
        [
            ({"quantize": "int4"}, "quantize is 'int4'; it must be one of none, float16"),
            ({"io": "int8"}, "goes with quantize 'int8'"),
            ({"io": "uint8", "quantize": "int16x8"}, "io 'float' only"),
            ({"batch": 0}, "at least 1, or 'dynamic'"),
            ({"batch": "many"}, "at least 1, or 'dynamic'"),
            ({"batch": "dynamic", "quantize": "int16x8"}, "fixed batch"),
            ({"keep_float": "auto"}, "for quantize 'int8'"),
            ({"quantize": "int8"}, "needs calibration images"),
        ],
    )
    def test_bad_ones_are_a_sentence(self, model, options, message, tmp_path):
        with pytest.raises(InputError, match=message):
            export.to_tflite(model, str(tmp_path / "m.tflite"), **options)
        assert os.listdir(tmp_path) == []

    def test_other_models_are_refused(self, tmp_path):
        dense = effnet_tf.model_fn(TINY, include_top=False, input_shape=(40, 36, 3))
        two = keras.Model(
            [keras.Input((8, 8, 3)), other := keras.Input((8, 8, 3))],
            keras.layers.Dense(2)(keras.layers.Flatten()(other)),
        )
        for network, message in ((dense, "one score per class"), (two, "one image")):
            with pytest.raises(InputError, match=message):
                export.to_tflite(
                    network, str(tmp_path / "m.tflite"), verify_with=np.zeros((1, 40, 36, 3))
                )

    def test_calibration_images_of_another_size(self, model, tmp_path):
        with pytest.raises(InputError, match="calibration.*40, 36, 3"):
            export.to_tflite(
                model,
                str(tmp_path / "m.tflite"),
                quantize="int8",
                calibration=np.zeros((2, 8, 8, 3)),
            )


def test_class_names_must_be_as_many_as_classes(model, tmp_path):
    with pytest.raises(InputError, match="2 class names for 4 classes"):
        export.to_tflite(
            model, str(tmp_path / "m.tflite"), about=export.describe(model, class_names=("a", "b"))
        )
    assert os.listdir(tmp_path) == []


def test_without_preprocessing_ranges_are_those_of_the_images(images, tmp_path):
    """Such a model takes what its caller normalised, in int8 files, too."""
    network = randomise_batch_norm(
        effnet_tf.model_fn(
            TINY, 4, input_shape=(40, 36, 3), preprocessing=False, classifier_activation=None
        )
    )
    path = str(tmp_path / "m.tflite")
    report = export.to_tflite(network, path, quantize="int8", calibration=images / 127.5 - 1)
    (details,) = interpreter.open_file(open(path, "rb").read()).get_input_details()
    assert list(
        interpreter.open_file(open(path, "rb").read()).get_signature_list()["serving_default"][
            "outputs"
        ]
    ) == ["logits"]
    assert details["dtype"] == np.float32 and report.sqnr_db > 20


def test_best_of_both_is_written(model, images, tmp_path, capsys):
    """A net whose channels were rescaled, the same function, loses much without equalisation."""
    network, random = folding.fold(model), np.random.default_rng(0)
    for link in linking.links(network):
        link.scale(2 ** random.uniform(-5, 5, link.tensors[0].shape[-1]))
    reports = [
        export.to_tflite(
            network,
            str(tmp_path / "m.tflite"),
            quantize="int8",
            calibration=images,
            equalize=equalize_,
            effort="quick",
        )
        for equalize_ in (False, True)
    ]
    assert "dB equalised, with corrected biases; the better one" in capsys.readouterr().out
    assert reports[1].sqnr_db > reports[0].sqnr_db + 6
    assert reports[1].layers_before


def test_fold_takes_the_deviation_into_the_first_kernel(model, images):
    folded = folding.fold(model)
    np.testing.assert_allclose(folded(images), model(images), atol=1e-5)
    assert not [
        layer for layer in folded.layers if isinstance(layer, keras.layers.BatchNormalization)
    ]
