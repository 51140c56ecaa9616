"""Compares our models with what Google's original code computed (tests/reference/).

python -m tests.helpers.goldens            # the table of docs/fidelity.md, all variants
python -m tests.helpers.goldens b0 lite0   # some
"""

import gzip
import json
import pathlib
import re
import sys
import zlib

import numpy as np

REFERENCE = pathlib.Path(__file__).parents[1] / "reference"
OFFICIAL = {"edgetpu-s": "edgetpu-S", "edgetpu-m": "edgetpu-M", "edgetpu-l": "edgetpu-L"}
# Our endpoints, by the original's names.
ENDPOINTS = {
    "stem": "stem",
    **{f"reduction_{i}": f"reduction_{i}" for i in range(1, 6)},
    "head_1x1": "head",
    "pooled_features": "pooled_features",
}


def variants():
    """The variants that have goldens: all EfficientNets but l2."""
    return [name for name in efficientnets() if name != "l2"]


def efficientnets_v2():
    """The variants of EfficientNetV2 that have goldens here, the small ones first."""
    return ["v2-b0", "v2-b2", "v2-b3", "v2-s", "v2-l"]


def condconvs():
    """The variants of CondConv that have goldens here."""
    return ["condconv-b0-4e", "condconv-b0-8e"]


def efficientnets():
    """The names of the variants that Google's original code has, too."""
    from effnet_tf.variants import EFFICIENTNETS

    return [variant.name for variant in EFFICIENTNETS.values()]


def read(variant):
    """The golden of a variant, as ../shared/goldens/README.md describes it."""
    name = f"efficientnet-{OFFICIAL.get(variant, variant)}.json.gz".replace("-v2", "v2")
    return json.loads(gzip.decompress((REFERENCE / name).read_bytes()))


def seeded_value(name, shape, kernel_gain, expert_shape=None):
    """The value that the golden run gave to a variable of the original code.

    `expert_shape` is that of one expert's kernel, where the variable holds those of several.
    """
    if expert_shape is not None:
        return _experts_value(name, shape, kernel_gain, expert_shape)
    random = np.random.RandomState(zlib.crc32(name.encode()))
    leaf = name.rsplit("/", 1)[-1]
    if leaf == "gamma":
        value = random.uniform(0.8, 1.2, shape)
    elif leaf == "moving_variance":
        value = random.uniform(0.5, 1.5, shape)
    elif leaf in ("beta", "moving_mean", "bias"):
        value = random.normal(0, 0.1, shape)
    elif leaf == "depthwise_kernel":
        value = random.normal(0, np.sqrt(2 / np.prod(shape[:2])), shape)
    elif len(shape) == 4:
        value = kernel_gain * random.normal(0, np.sqrt(2 / np.prod(shape[:3])), shape)
    else:
        value = random.normal(0, 0.05, shape)
    return value.astype("float32")


def _experts_value(name, shape, kernel_gain, expert_shape):
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("depthwise_condconv_kernel"):
        kernel_gain, taps = 1, expert_shape[:2]
    else:
        taps = expert_shape[:3]
    deviation = np.sqrt(2 / np.prod(taps)) * 2 / np.sqrt(shape[0])
    return (kernel_gain * random.normal(0, deviation, shape)).astype("float32")


def timm_value(name, shape):
    """The value that reference/make_timm.py gave to an entry of timm's state dicts."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, "int64")
    if name.endswith("running_var"):
        value = random.uniform(0.5, 1.5, shape)
    elif name.endswith(("bias", "running_mean")):
        value = random.normal(0, 0.1, shape)
    elif len(shape) == 1:
        value = random.uniform(0.8, 1.2, shape)
    else:
        value = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
    return value.astype("float32")


def load_seeded(model, golden):
    """Sets every weight of a model to the golden run's; order, leaf and shape must agree."""
    from effnet_tf.weights import pixels

    weights = pixels.network_weights(model)
    assert len(weights) == len(golden["variables"])
    for weight, (name, shape) in zip(weights, golden["variables"]):
        leaf = re.sub("(depthwise_)?(condconv_)?kernel", "kernel", name.rsplit("/", 1)[-1])
        assert (weight.name, tuple(weight.shape)) == (leaf, tuple(shape)), (weight.path, name)
        expert_shape = golden.get("expert_shapes", {}).get(name)
        weight.assign(seeded_value(name, shape, golden["kernel_gain"], expert_shape))


def images(height, width):
    """The seeded images of a case: (2, height, width, 3) uint8."""
    random = np.random.RandomState(zlib.crc32(b"%d,%d" % (height, width)))
    return random.randint(0, 256, (2, height, width, 3)).astype("uint8")


def endpoint_error(ours, golden):
    """Largest difference from an endpoint's recorded values, in its standard deviations."""
    assert ours.size == np.prod(golden["shape"]), (ours.shape, golden["shape"])
    flat = np.asarray(ours, np.float64).ravel()
    differences = [
        np.abs(flat[:8] - golden["first"]).max(),
        np.abs(flat[-8:] - golden["last"]).max(),
        abs(flat.mean() - golden["mean"]),
        abs(flat.std() - golden["std"]),
    ]
    return max(differences) / golden["std"]


def errors(variant, **options):
    """Returns {(height, width): (logits' error, worst endpoint's error)} of a variant."""
    import effnet_tf

    golden = read(variant)
    model = effnet_tf.feature_extractor(variant, [*ENDPOINTS.values(), "logits"], **options)
    load_seeded(model, golden)
    found = {}
    for case in golden["cases"]:
        ours = model(images(case["height"], case["width"]), training=False)
        logits = np.asarray(case["logits"])
        difference = np.abs(np.asarray(ours["logits"], np.float64) - logits).max()
        found[case["height"], case["width"]] = (
            difference / logits.std(),
            max(
                endpoint_error(np.asarray(ours[mine]), case["endpoints"][theirs])
                for theirs, mine in ENDPOINTS.items()
            ),
        )
    return found


def main(names):
    """Prints a Markdown table."""
    print("| variant | inputs | logits | endpoints |\n|---|---|---|---|", flush=True)
    for name in names or [*variants(), *efficientnets_v2(), *condconvs()]:
        found = errors(name)
        sizes = ", ".join(f"{height}x{width}" for height, width in found)
        logits, endpoints = (max(column) for column in zip(*found.values()))
        print(f"| {name} | {sizes} | {logits:.1e} | {endpoints:.1e} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
