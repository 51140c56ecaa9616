"""How do weights get from a file into a model, with nothing skipped in silence?

Variables are matched by canonical name and shape (`names.py`), whatever the format
(`reading.py`); what does not match is an error (`strict=True`) or a printed table.
"""

import contextlib
import dataclasses
import os
import re
from collections.abc import Mapping

import keras
import numpy as np

from effnet_tf import programs, variants
from effnet_tf.errors import InputError, nearest, shown
from effnet_tf.layers import flatten, is_new, start_at_zero
from effnet_tf.layers.walking import check_model
from effnet_tf.messages import log
from effnet_tf.variants import VARIANTS
from effnet_tf.weights import (
    agreement,
    claims,
    model_names,
    names,
    pixels,
    published,
    reading,
    report,
    timm_names,
)
from effnet_tf.weights.matching import match


def load_weights(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    ema: bool = True,
    strict: bool = True,
    adapt: bool = False,
    variant: str | variants.Variant | None = None,
    family: str | None = None,
) -> report.LoadReport:
    """Loads weights of any known origin into an EfficientNet.

    The format is found by looking at the file: a run directory or checkpoint of
    `train_tpu.py`; a checkpoint of Google's original code (or its extracted archive); a
    legacy `.h5`, a `.weights.h5` or a `.keras` file of keras.applications, keras_hub (or the
    folder of its preset) or of this package; a `.safetensors` or `.pth` file (PyTorch need not
    be there) of timm, of torchvision, of EfficientNet-PyTorch or of Hugging Face's
    transformers (or the folder that these save), whatever prefix a training program put
    before its names.

    Weights of a family whose networks pad otherwise or have another epsilon than the model
    (`variants.FAMILIES`) are refused, and it is said how to build the right one.

    If the file says which pixels its model takes, the model gets these constants, in
    whatever form it holds them. TF1 and PyTorch files do not say it: build the model with
    `preprocessing="inception"` for AdvProp weights, and for EfficientNetV2's of ImageNet-21k
    that were fine-tuned on ImageNet.

    Args:
        model: an EfficientNet, in either form, or a `keras.Model` with one inside: in its own
            graph, nested, in a wrapper such as `TimeDistributed`, or in layers of yours.
        path: the above, or a name of published weights, see `model_fn`.
        ema: take averaged weights where the file has raw ones too.
        strict: raise unless file and model have the same variables. Otherwise what
            fits is loaded, adapted as below, and the report printed.
        adapt: accept, although strict, and print, what transfer learning needs. Your own
            layers around the network keep their values, unless the file has them. A
            classifier for which the file has nothing of its size starts at zero if it is still
            new, and else keeps its values; one of the right size under another name is taken.
            Less than 3 input channels each get the sum of the RGB kernels over their
            number; more get R, G, B, R, ... times 3 over their number: responses keep
            their size. A model that ends early takes what it has.
        variant: name or `Variant` of the model, for one of so few blocks that they are the
            same in several variants.
        family: "tf", "timm", "torchvision" or "keras_hub": whose weights these are, for files
            that do not say it. Of timm's names two families make use.

    Returns:
        A `LoadReport`.

    Raises:
        InputError: nothing readable at `path`, values that are not finite, or (strict) a
            variable is missing, left over, or of another shape, or (not strict) nothing fits; or
            the weights are of another family than the model, or nobody says of which. The
            model is unchanged then.
    """
    check_model(model)
    source, constants, variables = str(path), None, model_names.canonical(model)
    ours = _variants(variables, variant)
    if source in published.PUBLISHED:
        source, constants = _fetch(source, model, variables, ours, family)
        family = published.FAMILY  # whatever names their files have
    held = _explained(source, reading.read, ema, model_names.target(model, variables))
    arrays = {name: value for name, (_, value) in held.values.items()}
    optional = model_names.optional(model, variables)
    adapts = adapt or not strict
    found = match(_shapes(variables), arrays, adapts, optional)
    new = adapts and _has_new_classifier(model, variables, found.found)
    done = report.describe(found, variables, held, source, new)
    if strict:
        way_out = _way_out(found, _shapes(variables), arrays, optional, adapt)
        report.require_agreement(_complaints(found, adapt), done, ours, way_out)
    report.require_something(found, done)
    row = variant or next(iter(done.variants or ours), None)
    agreement.require(model, source, held.families, family, row)
    refuse_not_finite(
        source, {held.values[found.in_file(name)][0]: each for name, each in found.found.items()}
    )
    _assign(model, variables, found.found, optional, new)
    if held.normalization is not None:
        constants = held.normalization
    done = dataclasses.replace(done, notes=pixels.set_constants(model, constants))
    if not (strict and done.exact):
        log.info(str(done))
    return done


def _assign(model, variables, values, optional, new):
    for name, value in values.items():
        variables[name].assign(value)
    if new:
        start_at_zero(_classifier(model, variables))
    if optional & set(values):
        model_names.finalize(model)


def _has_new_classifier(model, variables, found):
    """Whether a model has a classifier that is still new, and a file has nothing for it."""
    if "predictions/kernel" not in variables or "predictions/kernel" in found:
        return False
    return is_new(_classifier(model, variables))


def _classifier(model, variables):
    kernel = id(variables["predictions/kernel"])
    return next(layer for layer in flatten(model) if kernel in map(id, layer.weights))


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
            bad.append(f"{shown(name)} ({wrong:,} of {np.size(value):,})")
    if bad:
        some = ", ".join(bad[:3])
        if len(bad) > 3:
            some += ", ..."
        raise InputError(
            f"'{path}' holds values that are NaN or infinite, in {len(bad)} of its variables: "
            f"{some}. Use a file that was saved before that happened."
        )


def _complaints(found, adapt):
    """Returns the part of a match that has to agree."""
    if adapt:
        return found.without_ends()
    return found


def _way_out(found, shapes, arrays, optional, adapt):
    """Says which argument would help where file and model do not agree."""
    if not _complaints(found, adapt).wrong:
        return ""
    if not adapt:
        with contextlib.suppress(InputError):  # it has a classifier too many
            adapted = match(shapes, arrays, True, optional)
            if adapted.found and not adapted.without_ends().wrong and not programs.is_running():
                return "adapt=True accepts this, and keeps the values of what does not fit"
    if not found.found:
        return ""
    if programs.is_running():
        return "--variant, --phi and --family say which network it is"
    return "strict=False loads what fits"


def _shapes(variables):
    return {name: tuple(variable.shape) for name, variable in variables.items()}


def _variants(variables, variant):
    """The names of the released variants that a model can be of."""
    if variant is None:
        return names.identify(_shapes(variables))
    kernels = names.block_kernels(variant)
    return [name for name in VARIANTS if names.block_kernels(name) == kernels]


def family_of(path: str | os.PathLike, variant: str | variants.Variant | None) -> str | None:
    """Returns the family that weights say they are of; None if they do not.

    Args:
        path: as of `load_weights`.
        variant: that they are for; None where nobody knows.

    Raises:
        InputError: there is nothing readable.
    """
    source = str(path)
    if source in published.PUBLISHED:
        return published.FAMILY
    said = _explained(source, reading.families, claims.most_bytes(claims.PARAMETERS))
    if said == timm_names.FAMILIES:
        said = variants.of_timm(variant)
    if not said or said == timm_names.FAMILIES:
        return None
    return said[0]  # where there are others, they compute the same


def _explained(path, read, *arguments):
    """Reads what lies at `path`; where there is nothing, says which names there are, too."""
    try:
        return read(path, *arguments)
    except InputError as error:
        if re.fullmatch(r"[\w-]+", path) and "no weights at" in str(error):
            raise InputError(
                f"{error} Nor were weights of this name published. "
                f"{nearest(path, published.PUBLISHED)}"
            ) from error
        raise


def _fetch(name, model, variables, ours, family):
    """Downloads weights by name, if they fit; returns (path, (mean, std))."""
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
    agreement.require(model, name, (published.FAMILY,), family, ours[0])
    classifier = variables.get("predictions/kernel")
    classes = published.find(name, ours[0]).num_classes or VARIANTS[ours[0]].num_classes
    include_top = classifier is not None and classifier.shape[-1] == classes
    return published.fetch(name, ours[0], include_top)
