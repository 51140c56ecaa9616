"""Real weights files of other people's programs, and what models compute with them."""

import gzip
import json

import numpy as np
import tensorflow as tf

import effnet_tf
from tests.helpers import goldens


def write_tf1(folder, variables, scope="efficientnet-b0", ema=True, extra=()):
    """Writes a TF1 checkpoint as the original code's Saver does; returns its prefix.

    Args:
        folder: where; gets model.ckpt.* and `checkpoint`.
        variables: {name: array} of the averaged weights (without `ema`: of the raw ones).
        scope: of the model; replaces the first part of the names.
        ema: write averages under .../ExponentialMovingAverage, and noise as raw weights.
        extra: names of more variables.
    """
    random = np.random.default_rng(0)
    tensors = {"global_step": np.int64(218_949)}
    for name, value in variables.items():
        name = f"{scope}/{name.partition('/')[2]}"
        noise = random.normal(0, 1, value.shape).astype("float32")
        tensors[name] = noise if ema else value
        if ema:
            tensors[f"{name}/ExponentialMovingAverage"] = value
        if "moving_" not in name:
            tensors[f"{name}/RMSProp"] = np.ones_like(value)
            tensors[f"{name}/RMSProp_1"] = noise
    for name in extra:
        tensors[name] = np.zeros(3, "float32")
    prefix = str(folder / "model.ckpt")
    names = sorted(tensors)
    tf.raw_ops.SaveV2(  # the operation that a Saver runs
        prefix=prefix,
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[tensors[name] for name in names],
    )
    tf.compat.v1.train.update_checkpoint_state(str(folder), prefix)
    return prefix


def seeded(golden):
    """{name: array}: the weights of the golden run of a variant."""
    return {
        name: goldens.seeded_value(
            name, shape, golden["kernel_gain"], golden.get("expert_shapes", {}).get(name)
        )
        for name, shape in golden["variables"]
    }


def seed_keras(model, mean, variance):
    """Gives a keras.applications model (Keras 2 or 3) weights that are not its initial ones."""
    random = np.random.RandomState(0)
    for weight in model.weights:
        leaf = weight.name.split("/")[-1].split(":")[0]
        shape = tuple(weight.shape)
        weight.assign(
            {
                "mean": lambda: mean,
                "variance": lambda: variance,
                "count": lambda: 0,
                "gamma": lambda: random.uniform(0.8, 1.2, shape),
                "moving_variance": lambda: random.uniform(0.5, 1.5, shape),
                "moving_mean": lambda: random.normal(0, 0.1, shape),
                "beta": lambda: random.normal(0, 0.1, shape),
                "bias": lambda: random.normal(0, 0.1, shape),
            }.get(leaf, lambda: random.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape))()
        )


def logits_error(model, golden):
    """Largest difference from the golden's logits, in their standard deviations."""
    case = golden["cases"][0]
    expected = np.asarray(case["logits"])
    images = goldens.images(case["height"], case["width"])
    return np.abs(np.asarray(model(images)) - expected).max() / expected.std()


def classifier(variant, golden, **arguments):
    case = golden["cases"][0]
    return effnet_tf.model_fn(
        variant,
        input_shape=(case["height"], case["width"], 3),
        classifier_activation=None,
        **arguments,
    )


def assert_untouched(model, before):
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, other)


TIMM = json.loads(gzip.decompress((goldens.REFERENCE / "timm.json.gz").read_bytes()))


def timm_state(name):
    return {key: goldens.timm_value(key, shape) for key, shape in TIMM[name]["state"].items()}
