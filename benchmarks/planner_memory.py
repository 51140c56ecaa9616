"""How far is the memory that `effnet_tf.cost` counts from what a compiler reports?

    pip install 'effnet_tf[cpu,tpu-check]'
    python benchmarks/planner_memory.py             # about 15 minutes on 2 cores
    python benchmarks/planner_memory.py --only b0   # keep the figures of the others

libtpu, the TPU's own compiler, compiles our training and evaluation steps over 8 replicas of a v5e
in mixed_bfloat16, as benchmarks/tpu_step.py does, and says what device memory one replica needs.
Beside it stands what the planner counts for the same batch. 128 images are as many as the TPU has
lanes; of fewer it pads each map to 128. Writes planner_memory.json beside this file.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import pathlib
import signal
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # this checkout's effnet_tf and tools

import effnet_tf  # noqa: E402
from effnet_tf import extras  # noqa: E402
from effnet_tf.recipes import Recipe  # noqa: E402
from tools import tpu_stages  # noqa: E402
from tools.tpu_chips import REPLICAS  # noqa: E402

RESULTS = HERE / "planner_memory.json"
NETWORKS = ("b0", "lite0", "b2")
IMAGES = 128  # per replica
TIME_LIMIT = 60 * 60  # seconds, of one step
TOPOLOGY = "v5e:2x4"
MIB = 2**20


def counted(network):
    """Returns {step: MiB} of a network, as the planner counts it."""
    cost = effnet_tf.cost(network, batch_size=IMAGES, dtype="bfloat16")
    return {"train": cost.training_bytes / MIB, "eval": cost.inference_bytes / MIB}


def compiled(network, step):
    """Returns the MiB that the compiler reports for a step."""
    batch = IMAGES * REPLICAS
    recipe = Recipe(variant=network, batch_size=batch, eval_batch_size=batch, bn_sync="all")
    settings = {"recipe": dataclasses.asdict(recipe), "topology": TOPOLOGY, "step": step}
    print(f"{network}, {step}:", flush=True)
    return tpu_stages.check(settings | {"full": False, "time_limit": TIME_LIMIT})["total_mib"]


def row(network, reported):
    """Returns a row of the results: {step: {compiler, counted, error}}."""
    found = {"network": network, "images": IMAGES, "dtype": "bfloat16"}
    for step, mib in reported.items():
        ours = counted(network)[step]
        error = round(ours / mib - 1, 3)
        found[step] = {"compiler_mib": mib, "counted_mib": round(ours, 1), "error": error}
    return found


def write(rows):
    """Writes the results, and prints them."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "libtpu", "keras")}
    results = {"topology": TOPOLOGY, "versions": versions, "rows": rows}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for each in rows:
        print(json.dumps(each))


def main():
    """Compiles the networks, one step at a time; keeps those compiled before."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=NETWORKS, help="compile only this network")
    options = parser.parse_args()
    extras.require_or_exit("This benchmark", "tensorflow", "keras", "jax", "libtpu")
    rows = {}
    if RESULTS.exists():
        rows = {each["network"]: each for each in json.loads(RESULTS.read_text())["rows"]}
    for network in NETWORKS:
        if options.only in (None, network):
            reported = {step: compiled(network, step) for step in ("train", "eval")}
            rows[network] = row(network, reported)
            write(list(rows.values()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that folders are removed
    main()
