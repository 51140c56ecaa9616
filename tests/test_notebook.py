"""What a notebook shows: tables, progress on one line that moves, a mistake in one sentence.

The notebook is run by nbclient in a real kernel, where both are installed.
"""

import os
import pathlib
import re
import sys

import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).parents[1]
CELLS = {
    "variants": "import effnet_tf\neffnet_tf.VARIANTS",
    "train": """
from tests.helpers import tiny_net
tiny_net.register()
result = effnet_tf.train.run(tiny_net.recipe(num_classes=2, epochs=2), "run")
""",
    "bar": """
from effnet_tf import progress
for _ in progress.bar("Reading", 50, iterable=range(50)):
    pass
""",
    "mistake": "effnet_tf.model_fn('b99')",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """{cell: its outputs}."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    from jupyter_client import AsyncKernelManager
    from jupyter_client.kernelspec import KernelSpec

    class Manager(AsyncKernelManager):
        """Starts this Python, whatever kernels are installed."""

        @property
        def kernel_spec(self):
            argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=argv, display_name="this", language="python")

    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
        client = nbclient.NotebookClient(
            notebook,
            km=Manager(),
            allow_errors=True,
            timeout=600,
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute()
    return {name: cell.outputs for name, cell in zip(CELLS, notebook.cells)}


def text(outputs, stream):
    """What a cell wrote to a stream."""
    return "".join(
        each.text for each in outputs if each.output_type == "stream" and each.name == stream
    )


def test_variants_are_a_table(outputs):
    (shown,) = outputs["variants"]
    assert "<table>" in shown.data["text/html"] and shown.data["text/plain"].startswith("variant ")


def test_training_is_one_line_that_moves(outputs):
    lines = text(outputs["train"], "stdout").split("\n")
    moving = [line for line in lines if "\r" in line]
    # An advice on slow images may stand between the steps of an epoch and its evaluation.
    assert sum("held-out" in line for line in moving) == 2 and len(moving) <= 3, moving
    assert all(line.count("\r") >= 2 for line in moving)
    assert re.search(r"compiling the first step 0:0[1-9]", moving[0])


def test_a_bar_is_one_line(outputs):
    (line, rest) = text(outputs["bar"], "stderr").split("\n")
    assert line.count("\r") >= 2 and "50/50" in line and not rest


def test_a_mistake_is_a_sentence(outputs):
    (shown,) = outputs["mistake"]
    first, where, code, sentence = shown.traceback
    assert code.strip() == CELLS["mistake"] and "There is no variant 'b99'" in sentence
