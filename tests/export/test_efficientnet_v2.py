"""EfficientNetV2 as files: what they say of their images, and the flat form."""

import dataclasses
import json

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import export
from effnet_tf.data import EvaluationCrop
from effnet_tf.export.about import About
from export import inspect, opened
from tests.helpers import tiny_v2


def build(name="v2-s", flat=False):
    keras.backend.clear_session(free_memory=False)
    return effnet_tf.model_fn(tiny_v2.row(name), 3, flat=flat)


class TestImages:
    """Evaluation squeezes whole images from 320 pixels up, and a file must say so."""

    about = About("v2-s", 384, crop_kind="v2")

    def test_the_crop_travels(self):
        assert About.from_json(self.about.to_json(), "here") == self.about
        assert self.about.evaluation_crop(384) == EvaluationCrop(384, 32, kind="v2")

    def test_files_of_before_have_the_crop_of_before(self):
        fields = json.loads(self.about.to_json())
        del fields["crop_kind"]
        assert About.from_json(json.dumps(fields), "here").crop_kind == "v1"

    def test_inspect_tells_it(self):
        assert inspect._crop(self.about) == (
            "384 x 384: the whole image, squeezed, resized with TF2's bilinear"
        )
        small = dataclasses.replace(self.about, image_size=300)
        assert "the central 90.4% of the short side, resized with TF2's" in inspect._crop(small)

    def test_of_a_model_with_a_variants_name_it_is_known(self):
        model = build()
        assert export.describe(model).crop_kind == "v2"
        assert export.describe(model, crop_kind="whole").crop_kind == "whole"
        model.name = "mine"
        assert export.describe(model).crop_kind == "v1"

    def test_of_a_keras_file_it_is_the_variants(self, capsys):
        model = build()
        file = opened.KerasFile("a.keras", (), None)
        about = file.about(model)
        assert (about.variant, about.crop_kind, about.mean) == ("v2-s", "v2", (128.0,) * 3)
        assert "middle 50% of the short side" in capsys.readouterr().out  # 32 pixels
        file._padding(384, "v2")
        assert "It sees the whole image, squeezed to a square" in capsys.readouterr().out
        said = dataclasses.replace(file, crop=0).about(model)
        assert (said.crop_kind, said.crop_padding) == ("v1", 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v2-b0", "v2-s"])
def test_the_flat_form_becomes_files(name, tmp_path):
    """test_baselines.py has the form of blocks."""
    model = build(name, flat=True)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3)).astype("uint8")
    export.to_saved_model(model, str(tmp_path / "a"), verify_with=images)
    export.to_onnx(model, str(tmp_path / "a.onnx"), verify_with=images)
    export.to_tflite(model, str(tmp_path / "a.tflite"), quantize="none", verify_with=images)
