"""Damaged and hostile files of PyTorch's, by the thousand: a sentence or values, nothing else.

They are read in a process of its own (tests/helpers/fuzzing.py), where a hang, a crash, a command,
an import or a file that is written is the end.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save

from tests.helpers.torch_pickles import Writer, call

ROOT = pathlib.Path(__file__).parents[2]
COUNT = 1000
MEMORY = 100  # MiB for files of some kB; each may claim 64 MiB (claims.SMALL)


def arrays():
    """A few variables of a network, by names of EfficientNet-PyTorch."""
    random = np.random.default_rng(0)
    shapes = {
        "_conv_stem.weight": (4, 3, 3, 3),
        "_bn0.weight": (4,),
        "_bn0.running_var": (4,),
        "_blocks.0._depthwise_conv.weight": (4, 1, 3, 3),
        "_blocks.0._project_conv.weight": (2, 4, 1, 1),
        "_fc.weight": (5, 2),
    }
    return {name: random.normal(0, 1, shape).astype("float32") for name, shape in shapes.items()}


def torch_file(zipped):
    writer = Writer(zipped)
    state = {"state_dict": writer.state(arrays()), "epoch": 3, "args": call("a.Options", "b", 0.5)}
    return writer.file(state)


def hostile(zipped):
    """A file of weights that calls what it should not."""
    writer = Writer(zipped)
    attack = call("posixpath.join", call("os.system", "touch pwned"))
    return writer.file({**writer.state(arrays()), "_fc.bias": attack})


def results(paths, count):
    """What tests/helpers/fuzzing.py found of some files."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.helpers.fuzzing", str(count), *map(str, paths)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr[-3000:]}"
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_thousands_of_damaged_files(tmp_path):
    files = {
        "zip.pth": torch_file(True),
        "legacy.pth": torch_file(False),
        "hostile_zip.pth": hostile(True),
        "hostile_legacy.pth": hostile(False),
        "model.safetensors": save(arrays(), {"format": "pt"}),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    found = results([tmp_path / name for name in files], COUNT)
    assert found.pop("memory") < MEMORY
    for path, outcomes in found.items():
        print(path, outcomes)
        assert sum(outcomes.values()) == COUNT and outcomes["sentence"] > COUNT / 10
        # What damages no more than numbers, or a name, is not seen.
        assert outcomes["values"] > 0 or "hostile" in path
