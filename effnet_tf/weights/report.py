"""What did loading weights do, variable by variable, and is it what was asked for?"""

import dataclasses
from collections.abc import Mapping, Sequence

import keras

from effnet_tf.errors import InputError, shown
from effnet_tf.weights import contents, names
from effnet_tf.weights.matching import Match

_MOST = 6  # names that a line shows


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
            the file has in another shape, or under another name.
        missing: "name (shape)" of the model's variables that were not set; those of the
            user's own layers say that they keep their values.
        unused: "name (shape)" of the file's variables that the model did not take, by
            their names in the file.
        variants: names of the released variants that the file fits.
        notes: what became of the constants that normalise the pixels, if anything did.
        new: "name (shape)" of the variables of a new classifier, which start at zero; they are
            among those `reshaped` or `missing`, too.
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
    new: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether file and model agreed in everything; if not, it was printed."""
        return not (self.reshaped or self.missing or self.unused or self.notes)

    def __str__(self) -> str:
        which = {True: ", averaged weights", False: ", raw weights", None: ""}[self.ema]
        kind = self.kind
        if self.variants:
            kind += f", of {' or '.join(self.variants)}"
        lines = [f"weights: {self.source} ({kind}{which})", f"  matched  {len(self.matched)}"]
        for what in ("reshaped", "missing", "unused"):
            lines.append(f"  {what:8} {_shorten(getattr(self, what))}")
        lines += [f"  pixels   {note}" for note in self.notes]
        return "\n".join(lines)


def _shorten(items):
    if not items:
        return "0"
    text = f"{len(items)}: {', '.join(items[:_MOST])}"
    if len(items) > _MOST:
        text += f" and {len(items) - _MOST} more"
    return text


def describe(
    match: Match,
    variables: Mapping[str, keras.Variable],
    held: contents.Contents,
    source: str,
    new: bool = False,
) -> LoadReport:
    """Returns the report of a match.

    Args:
        match: of the model and the file.
        variables: canonical name -> variable, of the model.
        held: what the file holds.
        source: its path.
        new: whether the classifier is new, and will start at zero.
    """
    theirs = contents.shapes_of(held.values)
    ours = {name: f"{each.path} {tuple(each.shape)}" for name, each in variables.items()}

    def changed(name, done):
        variable = variables[name]
        shape = theirs[match.in_file(name)]
        return f"{variable.path} {shape} -> {tuple(variable.shape)}: {done}"

    others = {*match.adapted, *match.renamed}
    exact = [name for name in match.found if name not in others]
    adapted = [changed(name, "adapted from RGB") for name in match.adapted]
    renamed = [
        changed(name, f"taken from {shown(held.values[other][0])}")
        for name, other in match.renamed.items()
    ]
    fresh = [name for name in ours if new and name.startswith("predictions/")]
    fates = _fates(match, fresh)
    kept = [changed(name, fates[name]) for name in match.reshaped]
    said = ours | {name: f"{ours[name]}: {fate}" for name, fate in fates.items()}
    return LoadReport(
        source,
        held.kind,
        held.ema,
        matched=tuple(variables[name].path for name in exact),
        reshaped=(*adapted, *renamed, *kept),
        missing=tuple(said[name] for name in match.missing),
        unused=tuple(f"{shown(held.values[name][0])} {theirs[name]}" for name in match.unused),
        variants=tuple(names.identify(theirs)),
        new=tuple(ours[name] for name in fresh),
    )


def _fates(match, fresh):
    """Returns {name: what becomes of it} of variables that the file does not set."""
    return {
        **dict.fromkeys(match.reshaped, "keeps its values"),
        **dict.fromkeys(match.own, "yours, keeps its values"),
        **dict.fromkeys(fresh, "starts at zero"),
    }


def require_agreement(match: Match, report: LoadReport, ours: Sequence[str], way_out: str) -> None:
    """Refuses weights that are not those of the model.

    Args:
        match: what there is to complain about.
        report: of the whole file.
        ours: the released variants that the model can be of.
        way_out: which argument would help, in a half-sentence; or nothing.

    Raises:
        InputError: file and model differ, or are the first blocks of different variants,
            which can have the same shapes.
    """
    others = bool(ours and report.variants) and not set(ours) & set(report.variants)
    theirs, mine = " or ".join(report.variants), " or ".join(ours)
    if match.wrong:
        problem = "does not fit this model"
        if match.reshaped and ours and not report.variants:
            problem = f"holds a network that is none of effnet_tf's, and this model is {mine}"
        if others:
            problem = f"holds weights of variant {theirs}, and this model is {mine}"
            way_out = ""  # what fits would be noise
        if way_out:
            way_out = f" ({way_out}.)"
        raise InputError(
            f"'{report.source}' ({report.kind}) {problem}; {_differences(report)}.{way_out}"
        )
    if others:
        raise InputError(f"'{report.source}' holds weights of variant {theirs}, not of {mine}.")


def require_something(match: Match, report: LoadReport) -> None:
    """Raises InputError if nothing of a file fits the model, although not all has to."""
    if not match.found and (match.missing or match.reshaped):
        raise InputError(
            f"Nothing in '{report.source}' ({report.kind}) fits this model: reshaped "
            f"{_shorten(report.reshaped)}; unused {_shorten(report.unused)}."
        )


def _differences(report):
    found = {what: getattr(report, what) for what in ("reshaped", "missing", "unused")}
    return "; ".join(f"{what} {_shorten(items)}" for what, items in found.items() if items)
