"""Networks of every kind of block: all that is made of a row follows from its description."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import variants
from effnet_tf.export import folding
from effnet_tf.models import finetune
from effnet_tf.scaling.operators import operators_of_network
from effnet_tf.variants import Stage, resolve
from effnet_tf.weights import model_names
from tests.helpers import tiny_net

# A stage of each kind, and of what a stage can have of its own.
STAGES = (
    Stage(8, 2, 3, 1, 1, 8, kind="conv", se_ratio=0.0),
    Stage(16, 1, 5, 2, 1, 8, kind="conv", activation="relu", skip=False),
    Stage(16, 2, 3, 1, 1, 16, kind="separable", project_activation=True),
    Stage(16, 2, 5, 2, 1, 16, kind="separable", se_ratio=0.5, activation="relu6"),
    Stage(24, 2, 3, 2, 2, 16, project_activation=True),
    Stage(24, 1, 3, 1, 2, 24, fused=True, se_ratio=0.0),
)


def row(stages=STAGES, **changes):
    fields = {"stem_filters": 8, "head_filters": 16, "resolution": 40, **changes}
    return dataclasses.replace(
        variants.VARIANTS["b0"], name="kinds", stages=stages, num_classes=5, **fields
    )


def images(side=40):
    return np.random.default_rng(1).integers(0, 256, (2, side, side, 3)).astype("float32")


@pytest.fixture(scope="module")
def forms():
    """The network in both forms, with the same weights."""
    made = [effnet_tf.model_fn(row(), flat=flat) for flat in (False, True)]
    tiny_net.randomise_batch_norm(made[0])
    share(*made)
    return made


def share(model, other):
    """Gives a network the weights of another one, by their canonical names."""
    names = model_names.canonical(other)
    for name, weight in model_names.canonical(model).items():
        names[name].assign(weight)


class TestTheDescription:
    def test_a_stage_has_its_own_squeeze_and_activation(self):
        blocks = variants.blocks(row())
        assert [block.kind for block in blocks] == [
            *("conv", "conv", "conv", "separable", "separable"),
            *("separable", "separable", "mbconv", "mbconv", "fused_mbconv"),
        ]
        assert [block.se_filters for block in blocks] == [0, 0, 2, 4, 4, 8, 8, 4, 6, 0]
        assert [block.activation for block in blocks[2:6:3]] == ["relu", "relu6"]
        assert [block.skip for block in blocks][:4] == [True, True, False, True]

    @pytest.mark.parametrize(
        "kind, names",
        [
            ("conv", ["project_conv", "se/reduce", "se/expand"]),
            ("separable", ["dwconv", "se/reduce", "se/expand", "project_conv"]),
        ],
    )
    def test_convolutions_of_a_kind(self, kind, names):
        (block,) = variants.blocks(row((Stage(16, 1, 5, 2, 1, 8, kind=kind),)))
        assert [each.name for each in block.convolutions] == names
        strided = block.convolutions[0]
        assert (strided.kernel_size, strided.strides, strided.activation) == (5, 2, "swish")
        assert names[-1] != "project_conv" or block.convolutions[-1].activation is None

    def test_a_file_of_before_is_read(self, tmp_path):
        path = tmp_path / "edgetpu.json"
        variants.save_variant(variants.VARIANTS["edgetpu-s"], str(path))
        row = json.loads(path.read_text())
        for stage in row["stages"]:
            for new in ("kind", "se_ratio", "activation", "project_activation", "experts"):
                del stage[new]
        path.write_text(json.dumps(row))
        assert any(stage["fused"] for stage in row["stages"])
        assert variants.read_variant(str(path)) == variants.VARIANTS["edgetpu-s"]

    def test_a_file_of_its_own_stages_is_read(self, tmp_path):
        path = str(tmp_path / "kinds.json")
        variants.save_variant(row(), path)
        assert variants.read_variant(path) == row()

    @pytest.mark.parametrize(
        "change, message",
        [
            (dict(kind="mlp"), "Stage 1 of variant 'kinds' is of kind 'mlp'.*'separable'"),
            (dict(kind="conv", expand_ratio=6), "expand_ratio must be 1, and not 6"),
            (dict(kind="separable", fused=True), "fused must be false"),
        ],
    )
    def test_refused(self, change, message):
        stage = dataclasses.replace(STAGES[0], **{"kind": "mbconv", **change})
        with pytest.raises(effnet_tf.InputError, match=message):
            resolve(row((stage,)))


class TestTheNetwork:
    def test_both_forms_compute_the_same(self, forms):
        one, other = (np.asarray(form(images())) for form in forms)
        np.testing.assert_allclose(one, other, atol=1e-6)

    @pytest.mark.parametrize("number", [0, 1])
    def test_folded_it_computes_the_same(self, forms, number):
        folded = folding.fold(forms[number])
        np.testing.assert_allclose(folded(images()), forms[number](images()), atol=1e-5)
        kinds = {type(layer) for layer in folded.layers}
        assert keras.layers.BatchNormalization not in kinds
        assert effnet_tf.DescribedBlock not in kinds

    def test_its_cost_is_that_of_the_built_one(self, forms):
        counted = effnet_tf.cost(row())
        for form in forms:
            assert effnet_tf.cost(form) == counted

    def test_files_of_either_form_load_into_the_other(self, forms, tmp_path):
        path = str(tmp_path / "net.keras")
        forms[0].save(path)
        again = keras.saving.load_model(path)
        np.testing.assert_array_equal(again(images()), forms[0](images()))
        flat = effnet_tf.model_fn(row(), flat=True, weights=path)
        np.testing.assert_allclose(flat(images()), forms[0](images()), atol=1e-6)

    def test_stages_freeze(self, forms):
        for form in forms:
            model = keras.models.clone_model(form)
            assert list(finetune.stages(model)) == [
                *("stem", "stage_1", "stage_2", "stage_3", "stage_4", "stage_5", "stage_6"),
                *("head", "classifier"),
            ]
            effnet_tf.set_trainable(model, "stage_4")
            assert not [w.path for w in model.trainable_weights if "block3" in w.path]
            assert [w.path for w in model.trainable_weights if "block4a" in w.path]

    @pytest.mark.slow
    def test_a_symmetric_one_pads_in_both_forms(self):
        symmetric = row(padding="symmetric", resolution=32)
        made = [effnet_tf.model_fn(symmetric, flat=flat) for flat in (False, True)]
        share(*made)
        np.testing.assert_allclose(*(model(images(32)) for model in made), atol=1e-6)

    def test_its_operators_are_its_convolutions(self):
        network = resolve(row())
        operators = list(operators_of_network(network))
        work = sum(op.work for op in operators if op.kind.endswith(("CONV_2D", "CONNECTED")))
        assert work == effnet_tf.cost(row()).multiply_adds
        # Its third block: a convolution, squeeze-and-excite, no sum.
        strided = next(i for i, op in enumerate(operators) if op[:3] == ("CONV_2D", 5, 2))
        assert [op.kind for op in operators[strided : strided + 7]] == [
            *("CONV_2D", "MEAN", "CONV_2D", "CONV_2D", "LOGISTIC", "MUL", "DEPTHWISE_CONV_2D")
        ]
