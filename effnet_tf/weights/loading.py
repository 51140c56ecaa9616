"""How do weights get from a file into a model, with nothing skipped in silence?

Variables are matched by canonical name and shape (`names.py`), whatever the format
(`reading.py`); what does not match is an error (`strict=True`) or a printed table.
"""

import dataclasses
import math
import os
import re
from collections.abc import Mapping

import keras
import numpy as np

from effnet_tf import variants
from effnet_tf.errors import InputError, nearest
from effnet_tf.messages import log
from effnet_tf.variants import VARIANTS
from effnet_tf.weights import contents, keras_files, names, pixels, published, reading, report
from effnet_tf.weights.matching import match


def load_weights(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    ema: bool = True,
    strict: bool = True,
    adapt: bool = False,
    variant: str | variants.Variant | None = None,
) -> report.LoadReport:
    """Loads weights of any known origin into an EfficientNet.

    The format is found by looking at the file: a run directory or checkpoint of
    `train_tpu.py`; a checkpoint of Google's original code (or its extracted archive); a
    legacy `.h5`, a `.weights.h5` or a `.keras` file of keras.applications or of this
    package; a `.safetensors` or `.pth` file (PyTorch need not be there) of timm's
    `tf_efficientnet_*`, of EfficientNet-PyTorch or of Hugging Face's transformers (or the
    folder that these save), whatever prefix a training program put before its names.

    If the file says which pixels its model takes, the model gets these constants, in
    whatever form it holds them. TF1 and PyTorch files do not say it: build the model with
    `preprocessing="inception"` for AdvProp weights.

    Args:
        model: a `keras.Model` of this package.
        path: the above, or a name of published weights, see `model_fn`.
        ema: take averaged weights where the file has raw ones too.
        strict: raise unless file and model have the same variables. Otherwise what
            fits is loaded, adapted as below, and the report printed.
        adapt: accept, although strict, and print, what transfer learning needs. A
            classifier of other size, or missing on either side, keeps its initial values; one
            of the right size under another name is taken.
            Less than 3 input channels each get the sum of the RGB kernels over their
            number; more get R, G, B, R, ... times 3 over their number: responses keep
            their size. A model that ends early takes what it has.
        variant: name or `Variant` of the model, for one of so few blocks that they are the
            same in several variants.

    Returns:
        A `LoadReport`.

    Raises:
        InputError: nothing readable at `path`, values that are not finite, or (strict) a
            variable is missing, left over, or of another shape, or (not strict) nothing fits. The
            model is unchanged then.
    """
    source, constants, variables = str(path), None, _canonical(model)
    ours = _variants(variables, variant)
    if source in published.PUBLISHED:
        source, constants = _fetch(source, model, variables, ours)
    held = _read(source, ema, variables)
    arrays = {name: value for name, (_, value) in held.values.items()}
    found = match(_shapes(variables), arrays, adapt or not strict)
    done = report.describe(found, variables, held, source)
    if strict:
        wrong = found.without_ends(variables) if adapt else found
        report.require_agreement(wrong, done, ours)
    report.require_something(found, done)
    refuse_not_finite(
        source, {held.values[found.in_file(name)][0]: each for name, each in found.found.items()}
    )
    for name, value in found.found.items():
        variables[name].assign(value)
    if held.normalization is not None:
        constants = held.normalization
    done = dataclasses.replace(done, notes=pixels.set_constants(model, constants))
    if not (strict and done.exact):
        log.info(str(done))
    return done


def refuse_not_finite(path: str | os.PathLike, values: Mapping[str, np.ndarray]) -> None:
    """Refuses weights that no network can compute with.

    Args:
        path: of their file.
        values: {name: array}.

    Raises:
        InputError: one is NaN, infinite, or too large for float32.
    """
    bad = []
    for name, value in values.items():
        with np.errstate(over="ignore"):
            wrong = np.size(value) - np.isfinite(np.asarray(value).astype("float32")).sum()
        if wrong:
            bad.append(f"{name} ({wrong:,} of {np.size(value):,})")
    if bad:
        shown = ", ".join(bad[:3])
        if len(bad) > 3:
            shown += ", ..."
        raise InputError(
            f"'{path}' holds values that are NaN or infinite, in {len(bad)} of its variables: "
            f"{shown}. Use a file that was saved before that happened."
        )


def _canonical(model):
    """Returns {canonical name: variable} of a model, in its order."""
    variables, weights = {}, pixels.network_weights(model)
    paths = names.canonical(keras_files.split([weight.path for weight in weights]))
    for weight in weights:
        if variables.setdefault(paths[weight.path], weight) is not weight:
            raise InputError(
                f"Model '{model.name}' holds several networks (two variables are called "
                f"'{weight.path}'): load weights into each network on its own."
            )
    return variables


def _shapes(variables):
    return {name: tuple(variable.shape) for name, variable in variables.items()}


def _variants(variables, variant):
    """The names of the released variants that a model can be of."""
    if variant is None:
        return names.identify(_shapes(variables))
    kernels = names.block_kernels(variant)
    return [name for name in VARIANTS if names.block_kernels(name) == kernels]


def _read(path, ema, variables):
    """Reads a file for a model of these variables."""
    try:
        return reading.read(path, ema, _target(variables))
    except InputError as error:
        if re.fullmatch(r"[\w-]+", path) and "no weights at" in str(error):
            raise InputError(
                f"{error} Nor were weights of this name published. "
                f"{nearest(path, published.PUBLISHED)}"
            ) from error
        raise


def _target(variables):
    """What readers are told of a model of these variables."""
    split = keras_files.split([variable.path for variable in variables.values()])
    numbers = {}
    for name, (block, _) in zip(variables, split.values()):
        if block is not None:
            numbers[block] = names.block_number(name)
    return contents.Target(
        layers=list(dict.fromkeys(name.rpartition("/")[0] for name in variables)),
        numbers=numbers,
        parameters=sum(math.prod(variable.shape) for variable in variables.values()),
    )


def _fetch(name, model, variables, ours):
    """Downloads weights by name; returns (path, (mean, std))."""
    if not ours:
        raise InputError(
            f"No weights '{name}' were published for '{model.name}', which is not one of the "
            "released variants: pass weights=None or a file."
        )
    if len(ours) > 1:
        raise InputError(
            f"Model '{model.name}' could be the first blocks of {' or '.join(ours)}: pass "
            "variant= to say which."
        )
    classifier = variables.get("predictions/kernel")
    classes = VARIANTS[ours[0]].num_classes
    include_top = classifier is not None and classifier.shape[-1] == classes
    return published.fetch(name, ours[0], include_top)
