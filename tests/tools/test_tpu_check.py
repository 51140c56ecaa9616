"""tools/tpu_check.py and fake_tpu.py: cheap parts always; the real compiler in a slow test."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import time

import pytest

from effnet_tf import recipes
from tools import tpu_check, tpu_chips, tpu_compiler, tpu_stages

ROOT = pathlib.Path(__file__).parents[2]
TINY = ["--variant", "b0", "--phi", "-8", "--image_size", "32", "--batch_size", "64"]


# --- the graph ------------------------------------------------------------------------------------

GRAPHS = """
import dataclasses, json, sys
import tensorflow as tf
from effnet_tf import recipes
from tools import fake_tpu, tpu_check, tpu_compiler

strategy = fake_tpu.strategy()
assert isinstance(strategy, tf.distribute.TPUStrategy) and strategy.num_replicas_in_sync == 8

options = tpu_check.parse(sys.argv[1:])
settings = {"recipe": dataclasses.asdict(recipes.from_options(options)), "step": options.step}
step, specs, parameters = fake_tpu.training_step(strategy, settings)
nodes = fake_tpu.trace(strategy, step, specs).graph.as_graph_def().node

with strategy.scope():
    total = tf.Variable([0.0, 0.0], aggregation=tf.VariableAggregation.MEAN)

def good(batch):
    context = tf.distribute.get_replica_context()
    total.assign_add(context.all_reduce("SUM", tf.reduce_sum(batch["x"], 0)))
    return total.read_value()

def bad(batch):
    return tf.numpy_function(lambda x: x, [batch["x"]], tf.float32)

small = {"x": tf.TensorSpec([3, 2], tf.float32)}
hlo = fake_tpu.one_replica_hlo(fake_tpu.trace(strategy, good, small))
try:
    fake_tpu.one_replica_hlo(fake_tpu.trace(strategy, bad, small))
except ValueError as error:
    refusal = tpu_compiler.unsupported(str(error))
print(json.dumps({"parameters": parameters, "images": specs["images"].shape.as_list(),
                  "operations": [node.op for node in nodes], "refusal": refusal,
                  "all_reduces": hlo.count(b"all-reduce")}))
"""


@pytest.fixture(scope="module")
def graphs():
    """What a process with a fake TPU traced; it would leak into this one."""
    finished = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}){GRAPHS}", *TINY],
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return json.loads(finished.stdout.splitlines()[-1])


def test_training_step_traces_for_a_tpu(graphs):
    assert graphs["parameters"] == 985_462
    assert graphs["images"] == [8, 32, 32, 3]
    # At least: each batch norm forwards and backwards, each gradient.
    assert graphs["operations"].count("CrossReplicaSum") > 100
    assert "TPUReplicateMetadata" in graphs["operations"]


def test_training_step_stays_on_the_tpu(graphs):
    on_the_host = {
        "PyFunc",
        "EagerPyFunc",
        "PyFuncStateless",
        "Print",
        "PrintV2",
        "ReadFile",
        "DecodeJpeg",
        "IteratorGetNext",
        "XlaHostCompute",
    }
    assert not on_the_host & set(graphs["operations"])


def test_one_replica_keeps_the_sum(graphs):
    assert graphs["all_reduces"] >= 1


def test_what_a_tpu_cannot_run_is_named(graphs):
    assert graphs["refusal"] == "A TPU cannot run PyFunc, which the step contains."


# --- options --------------------------------------------------------------------------------------


def test_every_recipe_option_is_known():
    options = tpu_check.parse([*TINY, "--topology", "v6e:2x4", "--ema_decay", "0"])
    chosen = recipes.from_options(options)
    assert (chosen.phi, chosen.ema_decay, chosen.bn_sync) == (-8.0, 0.0, "all")
    assert recipes.from_options(tpu_check.parse(["--bn_sync", "none"])).bn_sync == "none"


@pytest.mark.parametrize("name, chip", tpu_chips.CHIPS.items())
def test_examples_of_topologies(name, chip):
    assert chip.example.startswith(f"{name}:")
    assert tpu_chips.chip_of(chip.example) is chip


@pytest.mark.parametrize(
    "topology, why",
    [
        ("v5e", "There is no"),
        ("v9:2x4", "There is no"),
        ("v5e:two", "There is no"),
        ("", "There is no"),
        ("v5e:4x4", "has 16 replicas"),
        ("v3:2x4", "has 16 replicas"),
    ],
)
def test_topology_that_cannot_be_used(topology, why, capsys):
    assert tpu_check.main(["--topology", topology]) == 2
    error = capsys.readouterr().err
    assert why in error and "v5e:2x4" in error or "v3:2x2" in error


def test_missing_compiler(monkeypatch, capsys):
    for package in ("jax", "libtpu"):
        monkeypatch.setitem(sys.modules, package, None)
    assert tpu_check.main(TINY) == 2
    assert capsys.readouterr().err == (
        "error: Asking the TPU's compiler needs jax and libtpu, which are not installed: "
        "pip install 'effnet_tf[tpu-check]'\n"
    )


# --- the processes --------------------------------------------------------------------------------


@pytest.fixture
def found(monkeypatch):
    """As if jax and libtpu were installed."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)


SETTINGS = {"time_limit": 60, "full": False, "topology": "v5e:2x4", "step": "train"}


def test_bad_input_of_the_child_is_bad_input(found, capsys):
    assert tpu_check.main([*TINY, "--batch_size", "60"]) == 2
    assert "8 replicas cannot share" in capsys.readouterr().err


def test_a_crash_shows_the_end_of_the_log():
    with pytest.raises(RuntimeError, match="building the network:(.|\n)*No module named 'nowhere'"):
        tpu_stages.check(SETTINGS, "nowhere:step")


def test_interrupted_run_leaves_nothing(found, monkeypatch, tmp_path, capsys):
    processes = []

    def interrupt(process, *_):
        processes.append(process)
        raise KeyboardInterrupt

    monkeypatch.setattr(tpu_stages.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tpu_stages, "_wait", interrupt)
    assert tpu_check.main(TINY) == 130
    assert processes[0].returncode is not None
    assert not list(tmp_path.iterdir())


def test_time_limit(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with pytest.raises(tpu_compiler.Refused, match="time limit ended optimising.*--time_limit"):
        tpu_stages._wait(process, tmp_path, "optimising", "never", time.monotonic() - 1)
    process.communicate(b"\n")


# --- what the compiler wrote ----------------------------------------------------------------------

BUFFERS = """BufferAssignment:
allocation 0: size 48, page 0, parameter 3, shape |f32[12]| at ShapeIndex {}, maybe-live-out:
 value: <8 p @0> (size=48,offset=0): f32[12]{0:T(128)}
allocation 1: size 4096, page 0, preallocated-temp:
 value: <9 fusion @0> (size=512,offset=0): bf16[8,32]{1,0:T(8,128)(2,1)}
allocation 2: size 7, page 0, constant:
allocation 3: size 999, color 1, page 0, preallocated-temp:
allocation 4: size 5, color 0, page 0, parameter 1, shape |u8[5]| at ShapeIndex {}:
"""


def test_buffers_of_device_memory_only():
    assert tpu_compiler.read_buffers(BUFFERS) == {
        "total": 48 + 4096 + 7 + 5,
        "arguments": 53,
        "temporaries": 4096,
    }


def compiled(folder):
    """Writes what the child processes leave in a folder."""
    dump = folder / "dump"
    dump.mkdir()
    (dump / "step.after_optimizations-buffer-assignment.txt").write_text(BUFFERS)
    (dump / "step.before_optimizations.txt").write_text("%a = f32[] all-reduce(%b)\n" * 3)
    (dump / "step.after_optimizations.txt").write_text(
        "%a = f32[] all-reduce-start(%b)\n%c = f32[] add(%all-reduce.1, %d)\n"
    )
    (folder / "step.json").write_text('{"parameters": 12}')
    (folder / "counts.json").write_text('{"flops": 3e11, "bytes_accessed": 3e10}')
    (folder / "log.txt").write_text(
        "I1 XLA::TPU rematerialization hbm reduction:  26.81G => 14.33G\n"
    )


def test_figures(tmp_path):
    compiled(tmp_path)
    figures = tpu_compiler.read_figures(tmp_path)
    assert figures == {
        "parameters": 12,
        "total_mib": 0.0,
        "arguments_mib": 0.0,
        "temporaries_mib": 0.0,
        "all_reduces": 3,
        "all_reduces_compiled": 1,
        "recomputed": "26.81G -> 14.33G",
        "flops": 3e11,
        "bytes_accessed": 3e10,
    }
    (tmp_path / "full.json").write_text(
        '{"flops": 4e11, "bytes_accessed": 2e10, "program_mib": 84.0}'
    )
    text = "\n".join(
        tpu_check.report(
            recipes.Recipe(batch_size=1024), SETTINGS, tpu_compiler.read_figures(tmp_path)
        )
    )
    assert "128 images on each of 8 replicas, v5e:2x4: it fits" in text
    assert "16,384 MiB" in text and "0.400 T" in text and "20.00 GB" in text


@pytest.mark.parametrize(
    "message, sentence",
    [
        (
            "Detected: PyFunc (No registered 'PyFunc' OpKernel for XLA_CPU_JIT) Print (No "
            "registered",
            "A TPU cannot run Print, PyFunc, which the step contains.",
        ),
        ("not constant", "XLA cannot compile the step: not constant"),
    ],
)
def test_unsupported(message, sentence):
    assert tpu_compiler.unsupported(message) == sentence


# --- the largest batch ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit, start, best",
    [
        (200, 128, 200),
        (207, 128, 200),
        (128, 128, 128),
        (64, 128, 64),
        (8, 128, 8),
        (7, 128, 0),
        (1000, 64, 960),
    ],
)  # the last within 64
def test_largest_batch(limit, start, best):
    tries = []

    def fits(count):
        tries.append(count)
        return count <= limit

    assert tpu_check.largest_batch(fits, start) == best
    assert len(tries) == len(set(tries)) <= tpu_check.MOST_TRIES
    assert not [count for count in tries if count % 8 or count < 8]


def test_search_prints_each_try(found, monkeypatch, capsys, tmp_path):
    def check(settings):
        count = settings["recipe"]["batch_size"] // 8
        if count > 40:
            raise tpu_compiler.Refused("RESOURCE_EXHAUSTED: too much")
        return {
            "parameters": 1,
            "total_mib": 2.0,
            "arguments_mib": 1.0,
            "temporaries_mib": 1.0,
            "all_reduces": 3,
            "all_reduces_compiled": 2,
            "flops": 3e11,
            "bytes_accessed": 3e10,
        }

    monkeypatch.setattr(tpu_stages, "check", check)
    path = tmp_path / "tries.json"
    assert (
        tpu_check.main([*TINY, "--batch_size", "256", "--largest_batch", "--json", str(path)]) == 0
    )
    assert "fits: 320 (40 images per replica)" in capsys.readouterr().out
    tries = json.loads(path.read_text())
    assert [row["batch_size"] // 8 for row in tries] == [32, 64, 48, 40]
    assert ["refused" in row for row in tries] == [False, True, True, False]


# --- the real compiler ----------------------------------------------------------------------------


@pytest.mark.slow
def test_real_compiler(tmp_path):
    """A tiny net fits; a millionfold batch does not, and the compiler says so."""
    for name in ("jax", "libtpu"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install 'effnet_tf[tpu-check]'")

    def run(*arguments):
        return subprocess.run(
            [
                sys.executable,
                "tools/tpu_check.py",
                *TINY,
                "--json",
                str(tmp_path / "out.json"),
                *arguments,
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

    finished = run()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    [figures] = json.loads((tmp_path / "out.json").read_text())
    assert 20 < figures["total_mib"] < 40
    assert figures["total_mib"] >= figures["arguments_mib"] + figures["temporaries_mib"]
    assert figures["all_reduces"] > figures["all_reduces_compiled"] >= 40
    assert figures["bytes_accessed"] > 2**20 * figures["total_mib"] and figures["flops"] > 1e8

    finished = run("--batch_size", str(2**23))
    assert finished.returncode == 1
    assert "refused: RESOURCE_EXHAUSTED" in finished.stdout
