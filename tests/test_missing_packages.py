"""extras.py: without any optional package all that needs none works; the rest is refused.

Programs and functions run in forks of one process; see tests/helpers/without.py.
"""

import pytest

from effnet_tf import extras
from tests import conftest
from tests.helpers import without
from tests.test_optional_packages import OPTIONAL

TINY = (
    "--recipe",
    "smoke",
    "--variant",
    "tiny",
    "--phi",
    "none",
    "--strategy",
    "cpu",
    "--epochs",
    "1",
    "--steps_per_loop",
    "1",
)
ONNX_FILE = b"\x08\x08\x3a\x02\x12\x00"  # version 8, and a graph with an empty name


@pytest.fixture(scope="module")
def server():
    """Runs programs in forks; see tests/helpers/without.py."""
    made = without.Server(OPTIONAL)
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of photos, and room for the rest."""
    root = tmp_path_factory.mktemp("without")
    conftest.write_photos(root / "photos", count=10)
    (root / "a.onnx").write_bytes(ONNX_FILE)
    return root


# --- all together ------------------------------------------------------------------------------


def test_all_that_needs_no_package_works_without_any(server, folder):
    run, image = folder / "run", folder / "photos" / "cat" / "0.jpg"
    data = (
        "--dataset",
        "folder",
        "--data_dir",
        folder / "photos",
        "--holdout",
        "0.4",
        "--batch_size",
        "4",
    )

    def done(program, *arguments, code=0):
        found, output = server.run(OPTIONAL, program, *arguments)
        assert found == code, output
        assert "Traceback" not in output and "Warning" not in output, output
        return output

    said = done("train_tpu", *TINY, *data, "--workdir", run)
    assert said.count("pip install 'effnet_tf[tensorboard]'") == 1
    assert said.count("pip install 'effnet_tf[plots]'") == 1
    assert not list(run.glob("*.png")) and (run / "result.json").exists()
    done("train_tpu", *TINY, *data, "--workdir", run)  # evaluated and complete already
    for kind, out in (("saved_model", folder / "saved"), ("tflite", folder / "a.tflite")):
        done("export", kind, "--workdir", run, "--out", out)
        assert "cat" in done("export", "classify", out, image)
        assert "cat" in done("export", "inspect", out)
    done("export", "bench", folder / "a.tflite", "--seconds", "0.01")
    said = done("export", "inspect", folder / "a.onnx")
    assert "needs onnx, which is not installed: pip install 'effnet_tf[onnx]'" in said
    said = done("data", "check", *TINY[:-6], *data, "--out", folder / "report")
    assert "[plots]" in said and "contact_sheet.png" not in said
    done("data", "prepare", *TINY[:-6], *data, "--out", folder / "small")


# --- each alone: a sentence at the door --------------------------------------------------------

REFUSED = (
    # What is missing, the extra that is named, and the program. The places do not exist: what
    # is missing is said before anybody looks at them.
    ("sklearn", "[demo]", "train_tpu", "--recipe", "digits", "--workdir", "NEW"),
    ("sklearn", "[demo]", "data", "check", "--recipe", "digits", "--out", "NEW"),
    ("keras_cv", "effnet_tf", "train_tpu", *TINY, "--random_erasing", "0.1", "--workdir", "NEW"),
    ("keras_cv", "effnet_tf", "train_tpu", *TINY, "--random_erasing", "0.1", "--dry_run"),
    ("keras_cv", "effnet_tf", "data", "check", "--random_erasing", "0.1", "--out", "NEW"),
    (
        "tensorflow_datasets",
        "effnet_tf",
        "train_tpu",
        *TINY,
        "--dataset",
        "cifar10",
        "--workdir",
        "NEW",
    ),
    ("onnx", "[onnx]", "export", "onnx", "--workdir", "none", "--out", "NEW"),
    ("onnxruntime", "[onnx]", "export", "onnx", "--workdir", "none", "--out", "NEW"),
    ("tf2onnx", "[onnx]", "export", "onnx", "--model", "none.keras", "--out", "NEW"),
    ("matplotlib", "[plots]", "export", "classify", "none.tflite", "none.png", "--picture", "NEW"),
    ("onnxruntime", "[onnx]", "export", "classify", "a.onnx", "none.png"),
    (
        "optuna",
        "[search]",
        "search",
        "architecture",
        "--workdir",
        "NEW",
        "--base",
        "b0",
        "--dataset",
        "digits",
    ),
    ("optuna", "[search]", "search", "architecture", "--workdir", "NEW", "--export", "best"),
    ("jax", "[tpu-check]", "tpu_check", "--variant", "b0"),
    ("libtpu", "[tpu-check]", "tpu_check", "--variant", "b0"),
)


@pytest.mark.parametrize(
    "missing, extra, program, arguments",
    [(missing, extra, program, arguments) for missing, extra, program, *arguments in REFUSED],
)
def test_refused_at_the_door(missing, extra, program, arguments, server, folder):
    places = {"NEW": str(folder / "new"), "a.onnx": str(folder / "a.onnx")}
    arguments = [places.get(argument, argument) for argument in arguments]
    code, output = server.run([missing], program, *arguments)
    *before, last = output.splitlines()
    project = extras.PACKAGES[missing].project
    assert code == 2 and "Traceback" not in output, output
    assert last.startswith("error: ") and project in last and " not installed: " in last, output
    assert extra in last and last.endswith(extras.command(missing)), last
    assert "Building" not in output and not (folder / "new").exists()


REFUSED_FUNCTIONS = (
    ("tf2onnx", "effnet_tf.export.to_onnx(None, 'no.onnx')"),
    ("onnxruntime", "effnet_tf.export.load('a.onnx')"),
    (
        "keras_cv",
        "effnet_tf.data.training(None, dataclasses.replace("
        "effnet_tf.RECIPES['smoke'], random_erasing=0.1), 32, 4)",
    ),
    ("sklearn", "effnet_tf.data.open_source(effnet_tf.RECIPES['digits'])"),
    ("matplotlib", "effnet_tf.plots.require('A picture')"),
)


@pytest.mark.parametrize("missing, call", REFUSED_FUNCTIONS)
def test_a_function_raises_a_sentence(missing, call, server, folder):
    call = call.replace("a.onnx", str(folder / "a.onnx"))
    code, output = server.run(
        [missing],
        "python",
        f"""
import dataclasses, effnet_tf
try:
    {call}
except effnet_tf.MissingPackage as error:
    print(error)
""",
    )
    assert code == 0, output
    assert output.strip().endswith(f"is not installed: {extras.command(missing)}"), output


def test_without_tensorboard_the_rest_of_a_run_is_written(server, folder):
    code, output = server.run(
        ["tensorboard"],
        "python",
        f"""
import numpy as np
from effnet_tf.recipes import RECIPES
from effnet_tf.train import reporting
board = reporting.TensorBoard({str(folder)!r}, RECIPES["smoke"])
board.scalars(1, {{"loss": 2.5}})
board.batch(np.zeros((1, 8, 8, 3), "uint8"), ["a"])
board.close()
""",
    )
    assert code == 0 and output.count("effnet_tf[tensorboard]") == 1, output
    assert (folder / "augmented.png").exists() and not (folder / "tensorboard").exists()


@pytest.mark.parametrize(
    "inner, module",
    [
        ("kiwisolver", "matplotlib.figure"),
        ("scipy", "sklearn.datasets"),
        ("markdown", "tensorboard.plugins.core.core_plugin"),
    ],
)
def test_a_broken_package_is_not_called_missing(inner, module, server):
    code, output = server.run(
        [inner],
        "python",
        f"""
from effnet_tf import extras
try:
    extras.load("{module}", "It")
    print("it does not need {inner}")
except extras.MissingPackage as error:
    print(error)
""",
    )
    assert code == 0 and "not installed" not in output, output
    assert f"which is installed but cannot be imported (No module named '{inner}')" in output or (
        "does not need" in output and inner == "markdown"
    ), output
