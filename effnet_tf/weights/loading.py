"""How do weights get from a file into a model, with nothing skipped in silence?

Variables are matched by canonical name and shape (`names.py`), whatever the format
(`reading.py`); what does not match is an error (`strict=True`) or a printed table.
"""

import dataclasses
import math
import re

import numpy as np

from effnet_tf.errors import InputError, nearest
from effnet_tf.layers import Normalize, flatten
from effnet_tf.variants import VARIANTS
from effnet_tf.weights import names, published, reading


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did; `print(report)` shows it as a short table.

    Attributes:
        source: the file or checkpoint that was read.
        kind: its format.
        ema: True for averaged weights, False for raw ones of a file that may have both,
            None where the file has one set only.
        matched: names of the variables that were set from the file as it is.
        reshaped: "name (shape in file) -> (shape in model): what was done" of those that
            the file has in another shape.
        missing: "name (shape)" of the model's variables that were not set.
        unused: "name (shape)" of the file's variables that the model did not take, by
            their names in the file.
        variants: names of the released variants that the file fits.
        notes: what became of the constants that normalise the pixels, if anything did.
    """

    source: str
    kind: str
    ema: bool | None = None
    matched: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()
    variants: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def exact(self):
        """Whether file and model agreed in everything; if not, it was printed."""
        return not (self.reshaped or self.missing or self.unused or self.notes)

    def __str__(self):
        which = {True: ", averaged weights", False: ", raw weights", None: ""}[self.ema]
        of = f", of {' or '.join(self.variants)}" if self.variants else ""
        lines = [
            f"weights: {self.source} ({self.kind}{of}{which})",
            f"  matched  {len(self.matched)}",
        ]
        for what in ("reshaped", "missing", "unused"):
            lines.append(f"  {what:8} {_shorten(getattr(self, what))}")
        lines += [f"  pixels   {note}" for note in self.notes]
        return "\n".join(lines)


def _shorten(items, most=6):
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{len(items)}: {', '.join(items[:most])}{rest}" if items else "0"


def load_weights(model, path, *, ema=True, strict=True, adapt=False, variant=None):
    """Loads weights of any known origin into an EfficientNet.

    The format is found by looking at the file: a run directory or checkpoint of
    `train_tpu.py`; a checkpoint of Google's original code (or its extracted archive); a
    legacy `.h5`, a `.weights.h5` or a `.keras` file of keras.applications or of this
    package; a `.safetensors` or (with PyTorch installed) `.pth` file of timm's
    `tf_efficientnet_*`.

    If the file says which pixels its model takes, the model's `Normalize` layer gets
    these constants. TF1 and timm files do not say it: build the model with
    `preprocessing="inception"` for AdvProp weights. Models that contain this one and have
    predicted before go on with the old constants: compile them again.

    Args:
        model: a `keras.Model` of this package.
        path: the above, or a name of published weights, see `model_fn`.
        ema: take averaged weights where the file has raw ones too.
        strict: raise unless file and model have the same variables. Otherwise what
            fits is loaded, adapted as below, and the report printed.
        adapt: accept, although strict, and print, what transfer learning needs. A
            classifier of other size, or missing on either side, keeps its initial values.
            Less than 3 input channels each get the sum of the RGB kernels over their
            number; more get R, G, B, R, ... times 3 over their number: responses keep
            their size. A model that ends early takes what it has.
        variant: name or `Variant` of the model, for one of so few blocks that they are the
            same in several variants.

    Returns:
        A `LoadReport`.

    Raises:
        InputError: nothing readable at `path`, values that are not finite, or (strict) a
            variable is missing, left over, or of another shape. The model is unchanged then.
    """
    path, constants, variables = str(path), None, _canonical(model)
    ours = _variants(variables, variant)
    if path in published.PUBLISHED:
        path, constants = _fetch(path, model, variables, ours)
    contents = _read(path, ema, variables)
    match = _match(variables, contents.values, adapt or not strict)
    report = _report(match, variables, contents, path)
    if strict:
        _check(match.allowed(variables) if adapt else match, report, ours)
        if ours and report.variants and not set(ours) & set(report.variants):
            # The first blocks of two variants can have the same shapes.
            raise InputError(
                f"'{path}' holds weights of variant {' or '.join(report.variants)}, "
                f"not of {' or '.join(ours)}."
            )
    refuse_not_finite(
        path, {contents.values[name][0]: value for name, value in match.found.items()}
    )
    for name, value in match.found.items():
        variables[name].assign(value)
    known = contents.normalization if contents.normalization is not None else constants
    report = dataclasses.replace(report, notes=_normalize(model, known))
    if not (strict and report.exact):
        print(report)
    return report


def refuse_not_finite(path, values):
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
        raise InputError(
            f"'{path}' holds values that are NaN or infinite, in {len(bad)} of its "
            f"variables: {', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''}. Take "
            "a file from before that happened."
        )


def _read(path, ema, variables):
    """Reads a file for a model of these variables."""
    layers = list(dict.fromkeys(name.rpartition("/")[0] for name in variables))
    keys = names.split_keras([variable.path for variable in variables.values()])
    numbers = {
        key: int(name.split("/")[0].removeprefix("blocks_"))
        for name, (key, _) in zip(variables, keys.values())
        if key is not None
    }
    parameters = sum(math.prod(variable.shape) for variable in variables.values())
    try:
        return reading.read(path, ema, reading.Target(layers, numbers, parameters))
    except InputError as error:
        if re.fullmatch(r"[\w-]+", path) and "no weights at" in str(error):
            raise InputError(
                f"{error} Nor were weights of this name published. "
                f"{nearest(path, published.PUBLISHED)}"
            ) from error
        raise


def _variants(variables, variant):
    """The names of the released variants that a model can be of."""
    if variant is None:
        return names.identify(_shapes(variables))
    kernels = names.block_kernels(variant)
    return [name for name in VARIANTS if names.block_kernels(name) == kernels]


def _canonical(model):
    """Returns {canonical name: variable} of a model, in its order."""
    variables = {}
    paths = names.canonical(names.split_keras([weight.path for weight in model.weights]))
    for weight in model.weights:
        if variables.setdefault(paths[weight.path], weight) is not weight:
            raise InputError(
                f"Model '{model.name}' holds several networks (two variables are "
                f"'{weight.path}'): load into each of them."
            )
    return variables


def _shapes(variables):
    return {name: tuple(variable.shape) for name, variable in variables.items()}


def _fetch(name, model, variables, variants):
    """Downloads weights by name; returns (path, (mean, std))."""
    if not variants:
        raise InputError(
            f"No weights '{name}' were published for '{model.name}', which is none of "
            "the released variants: pass weights=None, or a file."
        )
    if len(variants) > 1:
        raise InputError(
            f"Model '{model.name}' could be the first blocks of "
            f"{' or '.join(variants)}: say which by variant=."
        )
    classifier = variables.get("predictions/kernel")
    classes = VARIANTS[variants[0]].num_classes
    return published.fetch(
        name, variants[0], classifier is not None and classifier.shape[-1] == classes
    )


@dataclasses.dataclass(frozen=True)
class _Match:
    """Canonical names, by how file and model agree on them."""

    found: dict  # name -> the array to assign
    adapted: tuple  # of `found`, those that the file has in another shape
    reshaped: tuple
    missing: tuple
    unused: tuple

    def allowed(self, variables):
        """Returns what is left to complain about where a classifier may differ."""

        def is_classifier(name):
            return name.startswith("predictions/")

        ours = {name.split("/")[0] for name in variables}

        def comes_later(name):
            part = name.split("/")[0]
            # Other people's layers on top of the network, and its end.
            return (
                is_classifier(name)
                or part not in ours
                and (not re.match(r"stem_|blocks_|top_", part) or "top_conv" not in ours)
            )

        return dataclasses.replace(
            self,
            adapted=(),
            reshaped=tuple(name for name in self.reshaped if not is_classifier(name)),
            missing=tuple(name for name in self.missing if not is_classifier(name)),
            unused=tuple(name for name in self.unused if not comes_later(name)),
        )


def _match(variables, values, adapt):
    found, adapted, reshaped = {}, [], []
    for name, shape in _shapes(variables).items():
        value = values[name][1] if name in values else None
        if value is not None and value.shape == shape:
            found[name] = value
        elif value is not None:
            stem = _adapt_stem(name, value, shape) if adapt else None
            (reshaped if stem is None else adapted).append(name)
            if stem is not None:
                found[name] = stem
    return _Match(
        found,
        tuple(adapted),
        tuple(reshaped),
        tuple(name for name in variables if name not in values),
        tuple(name for name in values if name not in variables),
    )


def _adapt_stem(name, kernel, shape):
    """Returns an RGB stem kernel (k, k, 3, F) for other channels; None if it is none."""
    if name != "stem_conv/kernel" or kernel.shape != (*shape[:2], 3, shape[3]):
        return None
    channels = shape[2]
    if channels < 3:
        return np.repeat(kernel.sum(2, keepdims=True) / channels, channels, axis=2)
    return kernel[:, :, np.arange(channels) % 3] * (3 / channels)


def _report(match, variables, contents, path):
    shapes = {name: value.shape for name, (_, value) in contents.values.items()}

    def ours(name):
        return f"{variables[name].path} {tuple(variables[name].shape)}"

    def changed(name, done):
        return f"{variables[name].path} {shapes[name]} -> {tuple(variables[name].shape)}: {done}"

    return LoadReport(
        path,
        contents.kind,
        contents.ema,
        matched=tuple(variables[name].path for name in match.found if name not in match.adapted),
        reshaped=(
            *(changed(name, "adapted from RGB") for name in match.adapted),
            *(changed(name, "keeps its initial values") for name in match.reshaped),
        ),
        missing=tuple(map(ours, match.missing)),
        unused=tuple(f"{contents.values[name][0]} {shapes[name]}" for name in match.unused),
        variants=tuple(names.identify(shapes)),
    )


def _check(match, report, ours):
    """Raises InputError if file and model differ."""
    wrong = (*match.adapted, *match.reshaped, *match.missing, *match.unused)
    if not wrong:
        return
    problem = "does not fit this model"
    if report.variants and ours and not set(ours) & set(report.variants):
        problem = (
            f"holds weights of variant {' or '.join(report.variants)}, and this model is "
            f"{' or '.join(ours)}"
        )
    lines = [
        f"{what} {_shorten(getattr(report, what))}"
        for what in ("reshaped", "missing", "unused")
        if getattr(report, what)
    ]
    raise InputError(
        f"'{report.source}' ({report.kind}) {problem}; {'; '.join(lines)}. "
        "(strict=False loads what fits, adapt=True accepts another classifier.)"
    )


def _normalize(model, constants):
    """Gives the model's Normalize layers the constants of the file; returns notes of it."""
    if constants is None:
        return ()
    normalizers = [layer for layer in flatten(model) if isinstance(layer, Normalize)]
    if not constants:
        return tuple(
            f"the file's model left them to its caller; this one does "
            f"{_formula(layer.mean, layer.std)}"
            for layer in normalizers
        )
    wanted = [np.ravel(values).astype(float) for values in constants]
    if not normalizers:
        return (f"the weights expect {_formula(*wanted)}, which this model leaves to its caller",)
    notes = []
    for layer in normalizers:
        channels = len(layer.mean)
        mean, std = (
            np.broadcast_to(
                values if len(values) in (1, channels) else values.mean(), channels
            ).tolist()
            for values in wanted
        )
        if not np.allclose([mean, std], [layer.mean, layer.std], rtol=1e-5, atol=1e-4):
            layer.mean, layer.std = mean, std
            notes.append(_formula(mean, std))
    if notes:  # what was traced has the old constants inside
        model.train_function = model.test_function = model.predict_function = None
    return tuple(notes)


def _formula(mean, std):
    mean, std = (", ".join(f"{value:.6g}" for value in values) for values in (mean, std))
    return f"(x - [{mean}]) / [{std}]"
