"""The export programs on a .keras file: what they assume, say, and refuse."""

import dataclasses
import json
import os

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf.errors import InputError
from effnet_tf.export import checksum, identify
from effnet_tf.export.tflite.options import Options
from effnet_tf.models import imagenet_classes
from effnet_tf.recipes import RECIPES
from export import images, opened
from tests import conftest
from tests.export.test_inputs import in_this_process  # noqa: F401 (a fixture)
from tests.helpers import hostile
from tests.programs.test_programs import export_here

L = keras.layers


def export(*arguments):
    """Runs an export program in this process; returns its exit code."""
    try:
        export_here(*arguments)
    except SystemExit as stopped:
        return stopped.code
    return 0


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with photos/ of cats and dogs, and keras files."""
    folder = tmp_path_factory.mktemp("place")
    conftest.write_photos(folder / "photos")
    for name, activation in (("lite", "relu6"), ("swish", "swish")):
        keras.Sequential(
            [
                keras.Input((32, 32, 3)),
                L.Rescaling(1 / 255),
                L.Conv2D(4, 3, activation=activation),
                L.GlobalAveragePooling2D(),
                L.Dense(2, "softmax"),
            ]
        ).save(folder / f"{name}.keras")
    (folder / "names.txt").write_bytes("\ufeffcat\r\ndog\r\n".encode())
    return folder


class TestCrop:
    @pytest.mark.parametrize(
        "options, padding, said",
        [
            ((), 32, "--crop 32, the default: images are cut to the middle 50% of the short side"),
            (("--crop", 0), 0, ""),
            (("--crop", "1.0"), 0, ""),
            (("--crop", "0.875"), 5, ""),
            (("--crop", 9), 9, ""),
        ],
    )
    def test_it_is_said_and_recorded(self, place, tmp_path, capsys, options, padding, said):
        assert (
            export(
                "saved_model",
                "--model",
                place / "lite.keras",
                "--labels",
                place / "names.txt",
                "--out",
                tmp_path / "out",
                *options,
            )
            == 0
        )
        about = identify.about(str(tmp_path / "out"))
        assert about.crop_padding == padding and about.class_names == ("cat", "dog")
        out = capsys.readouterr().out
        assert said in out and ("whole images, give --crop 0" in out) == (not options)

    @pytest.mark.parametrize("text", ["-1", "1.5", "0.0", "nan", "inf", "half", ""])
    def test_others_are_refused(self, place, text, capsys):
        assert (
            export("tflite", "--model", place / "lite.keras", "--out", "x", f"--crop={text}") == 2
        )
        assert "is not a crop" in capsys.readouterr().err

    def test_a_run_knows_its_own(self, place, capsys):
        assert export("tflite", "--workdir", place, "--out", "x", "--crop", 3) == 2
        assert "--crop goes with --model" in capsys.readouterr().err


class TestKinds:
    @pytest.mark.parametrize(
        "name, calibrated, kind",
        [("lite", True, "int8"), ("lite", False, "weights8"), ("swish", False, "weights8")],
    )
    def test_the_default_is_the_networks(self, place, tmp_path, capsys, name, calibrated, kind):
        options = ("--calibration", place / "photos") if calibrated else ()
        assert (
            export(
                "tflite", "--model", place / f"{name}.keras", "--out", tmp_path / "out", *options
            )
            == 0
        )
        assert f"quantize {kind}, the default" in capsys.readouterr().out
        assert identify.about(str(tmp_path / "out")).quantize == kind

    def test_a_nan_is_one_sentence(self, place, tmp_path, capsys):
        model = keras.models.load_model(place / "lite.keras")
        model.layers[1].bias.assign([0, np.nan, 0, 0])
        model.save(tmp_path / "nan.keras")
        for kind in ("int8", "none"):
            more = ("--calibration", place / "photos") if kind == "int8" else ()
            assert (
                export(
                    "tflite",
                    "--model",
                    tmp_path / "nan.keras",
                    "--quantize",
                    kind,
                    "--out",
                    tmp_path / "out",
                    *more,
                )
                == 2
            )
            error = capsys.readouterr().err
            assert error.count("\n") == 1 and "NaN or infinite" in error and "conv" in error
        assert os.listdir(tmp_path) == ["nan.keras"]


def test_a_report_beside_any_name(place, tmp_path):
    """With the file's checksum, and the picture of its layers where one can be drawn."""
    for name in ("a[0]{x}%s", hostile.NOT_UTF8):
        out = os.path.join(tmp_path, name, f"{name}.tflite")
        assert (
            export(
                "tflite",
                "--model",
                place / "lite.keras",
                "--calibration",
                place / "photos",
                "--effort",
                "quick",
                "--out",
                out,
            )
            == 0
        )
        with open(f"{out}.report.json", encoding="utf-8") as file:
            report = json.load(file)
        assert report["quantize"] == "int8" and list(report[checksum.FIELD]) == [
            os.path.basename(out)
        ]
        assert checksum.check(out)
        with open(out, "ab") as file:
            file.write(b"x")
        with pytest.raises(InputError, match="damaged, or was changed"):
            checksum.check(out)


def test_options_are_built_once(place, tmp_path, monkeypatch):
    built, check = [], Options.__post_init__
    monkeypatch.setattr(
        Options, "__post_init__", lambda options: built.append(options) or check(options)
    )
    assert export("tflite", "--model", place / "swish.keras", "--out", tmp_path / "m.tflite") == 0
    assert [options.quantize for options in built] == ["weights8"]


class TestImages:
    def test_what_is_left_out_is_said(self, place, tmp_path, capsys):
        folder = tmp_path / "mixed"
        (folder / "cat").mkdir(parents=True)
        for name in ("0.jpg", "1.png"):
            source = next((place / "photos").rglob(name))
            (folder / "cat" / name).write_bytes(source.read_bytes())
        (folder / "cat" / "loop").symlink_to(folder)
        os.mkfifo(folder / "cat" / "pipe.jpg")
        (folder / "cat" / "scan.tif").write_bytes(b"II*\0")
        (folder / "cat" / "broken.jpg").write_bytes(b"no image")
        source = opened.KerasFile("x.keras", ("cat", "dog"), None)
        about = effnet_tf.export.About("x", image_size=32, class_names=("cat", "dog"))
        pixels, labels = images.read(str(folder), source, about, 10)
        assert len(pixels) == 2 and labels.tolist() == [0, 0]
        out = capsys.readouterr().out
        for text in ("FIFO", "TIFF", "broken.jpg", "links to folders"):
            assert text in out

    @pytest.mark.parametrize("classes", [1000, 1001])
    def test_names_of_imagenet_by_one_word(self, classes):
        inputs = keras.Input((8, 8, 3))
        pixels = keras.layers.GlobalAveragePooling2D()(inputs)
        model = keras.Model(inputs, keras.layers.Dense(classes)(pixels))
        source = opened.KerasFile("x.keras", opened.read_labels("imagenet"), None, 0)
        assert source.about(model).class_names == imagenet_classes.names(classes)

    def test_a_run_whose_data_moved(self, place, tmp_path, monkeypatch):
        recipe = dataclasses.replace(RECIPES["smoke"], dataset="folder", data_dir="photos")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError, match="data_dir is 'photos', sought in .*--data_dir"):
            opened.Run("run", recipe, ("cat", "dog")).images(3)
        monkeypatch.chdir(place)
        assert len(opened.Run("run", recipe, ("cat", "dog")).images(3)[0]) == 3
        with pytest.raises(InputError, match="trained on .* cat, cow .2.*have cat, dog .2"):
            opened.Run("run", recipe, ("cat", "cow")).images(3)
