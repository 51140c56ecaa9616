"""Which networks can be found: what may each stage of a frame be?

The factorised space of MnasNet (Tan et al., "MnasNet: Platform-Aware Neural Architecture Search for
Mobile", CVPR 2019, arXiv 1807.11626, section 3.2): any row is the frame, and each of its stages
("blocks" in the paper) chooses for itself. The blocks of a stage are alike; strides, image size,
stem and head are the frame's.
"""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from effnet_tf.errors import InputError
from effnet_tf.variants import Stage, Variant, find_variant, round_filters, scaled_stages

Spec = list[dict[str, Any]]  # of each stage {choice: value}, as JSON has it


@dataclasses.dataclass(frozen=True)
class Choices:
    """What a stage may be, besides what it is in the frame.

    The paper has all of these but the expansion, and another skip, pooling.

    Attributes:
        kind: of its blocks: one full convolution; depthwise and pointwise; or MBConv.
        kernel_size: side of the full or depthwise kernel, in pixels.
        expand_ratio: hidden channels over input channels, of MBConv.
        se_ratio: squeeze-and-excite width over input channels, 0 for none; not of "conv".
        skip: whether blocks add their input to their output, where both have one shape.
        filters: factors on the frame's filters.
        layers: added to the frame's repeats, of which at least one is left.
    """

    kind: tuple[str, ...] = ("conv", "separable", "mbconv")
    kernel_size: tuple[int, ...] = (3, 5)
    expand_ratio: tuple[float, ...] = (3, 6)
    se_ratio: tuple[float, ...] = (0.0, 0.25)
    skip: tuple[bool, ...] = (True, False)
    filters: tuple[float, ...] = (0.75, 1.25)
    layers: tuple[int, ...] = (-1, 1)


# What changes a block of a kind, besides filters, layers and skip.
MATTERS = {
    "conv": ("kernel_size",),
    "separable": ("kernel_size", "se_ratio"),
    "mbconv": ("kernel_size", "expand_ratio", "se_ratio"),
    "fused": ("kernel_size", "expand_ratio", "se_ratio"),
}


class Space:
    """All networks of a frame.

    Args:
        frame: a name of `VARIANTS`, a file of a variant, or a `Variant`.
        choices: what its stages may be.

    Raises:
        InputError: there is no such variant, or the frame has a kind of block that is not in
            `MATTERS`.

    Example:
        >>> space = Space("b0")
        >>> space.options()["stage2_kernel_size"]
        (3, 5)
    """

    def __init__(self, frame: str | Variant, choices: Choices = Choices()):  # noqa: B008
        self.frame, self.choices = find_variant(frame), choices
        self._stages = [self._options(number) for number in range(len(self.frame.stages))]

    def options(self) -> dict[str, tuple]:
        """Returns {name of a choice, such as "stage2_kernel_size": its values}.

        Choices without an alternative are left out; so is a value that gives the network of another
        one, as factors on few filters do: these are multiples of 8. The frame's value is the first.
        """
        found = {}
        for number, options in enumerate(self._stages, 1):
            for name, values in options.items():
                if len(values) > 1:
                    found[f"stage{number}_{name}"] = values
        return found

    def spec(self, chosen: Mapping[str, Any]) -> Spec:
        """Returns the spec of what was chosen, without what makes no difference.

        That is an expansion of what does not expand, or a skip where no shape allows one. So
        equal networks have equal specs.

        Args:
            chosen: values by the names of `options`; a name that is missing has the frame's.
        """
        spec: Spec = []
        entering = None
        for number, options in enumerate(self._stages):
            picked = {
                name: chosen.get(f"stage{number + 1}_{name}", values[0])
                for name, values in options.items()
            }
            names = ["kind", *MATTERS[picked["kind"]], "filters", "layers"]
            filters = self._filters(number, picked["filters"])
            if self._may_skip(number, picked["layers"], entering, filters):
                names.append("skip")
            spec.append({name: picked[name] for name in names})
            entering = filters
        return spec

    def variant(self, spec: Spec, name: str | None = None) -> Variant:
        """Returns the network of a spec, a row that can be scaled like its frame.

        Args:
            spec: of `spec`, or read from JSON.
            name: of the variant; by default the frame's with "-searched".

        Raises:
            InputError: it is not a spec of this space; says what is wrong in which stage.
        """
        self._check(spec)
        stages: list[Stage] = []
        entering = self.frame.stages[0].input_filters
        for stage, row in zip(self.frame.stages, spec):
            stages.append(_changed(stage, row, entering))
            entering = stages[-1].filters
        name = name or f"{self.frame.name}-searched"
        return dataclasses.replace(self.frame, name=name, stages=tuple(stages))

    def size(self) -> int:
        """Returns how many different networks there are."""
        ways = collections.Counter({None: 1})  # to reach a stage with so many filters
        for number, options in enumerate(self._stages):
            blocks = sum(_count(options, MATTERS[kind]) for kind in options["kind"])
            following: collections.Counter = collections.Counter()
            for entering, count in ways.items():
                for factor in options["filters"]:
                    filters = self._filters(number, factor)
                    shapes = self._shapes(number, entering, filters)
                    following[filters] += count * blocks * shapes
            ways = following
        return sum(ways.values())

    def _shapes(self, number, entering, filters):
        """Returns how many ways of layers and skips a stage has."""
        options = self._stages[number]
        found = 0
        for layers in options["layers"]:
            may_skip = self._may_skip(number, layers, entering, filters)
            found += len(options["skip"]) if may_skip else 1
        return found

    def _options(self, number):
        """Returns {choice: values} of a stage, the frame's first."""
        stage = self.frame.stages[number]
        found = {}
        for name, own in _own(self.frame, stage).items():
            found[name] = tuple(dict.fromkeys((*own, *getattr(self.choices, name))))
        found["filters"] = _distinct(found["filters"], lambda x: self._filters(number, x))
        found["layers"] = _distinct(found["layers"], lambda x: self._repeats(number, x))
        return found

    def _filters(self, number, factor):
        """Returns the scaled filters of a stage; 0 where rounding leaves none."""
        return self._rounded(_times(self.frame.stages[number].filters, factor))

    def _rounded(self, filters):
        frame = self.frame
        return round_filters(filters, frame.width_coefficient, frame.ten_percent_rule)

    def _repeats(self, number, added):
        """Returns the scaled repeats of a stage; 0 where none is left."""
        stages = list(self.frame.stages)
        repeats = stages[number].repeats + added
        if repeats < 1:
            return 0
        stages[number] = dataclasses.replace(stages[number], repeats=repeats)
        scaled = list(scaled_stages(dataclasses.replace(self.frame, stages=tuple(stages))))
        return scaled[number][1]

    def _may_skip(self, number, layers, entering, filters):
        """Whether a block of a stage has an output of its input's shape."""
        stage = self.frame.stages[number]
        if entering is None:  # what the builder declares of the first stage
            entering = self._rounded(stage.input_filters)
        return self._repeats(number, layers) > 1 or (stage.strides == 1 and entering == filters)

    def _check(self, spec):
        """Refuses what is no spec of this space."""
        count = len(self._stages)
        if not isinstance(spec, list) or len(spec) != count:
            raise InputError(
                f"A spec of '{self.frame.name}' is a list of {count} stages, and not {spec!r}."
            )
        chosen = {}
        for number, (row, options) in enumerate(zip(spec, self._stages), 1):
            _check_row(number, row, options)
            chosen.update({f"stage{number}_{name}": value for name, value in row.items()})
        for number, (row, wanted) in enumerate(zip(spec, self.spec(chosen)), 1):
            if set(row) != set(wanted):
                raise InputError(
                    f"Stage {number} of the spec has {_listed(row)}; with these values it must "
                    f"have {_listed(wanted)}, and nothing else."
                )


def _own(frame: Variant, stage: Stage) -> dict[str, tuple]:
    """Returns what a stage of the frame is, by the names of the choices."""
    kind = _kind(stage)
    if kind not in MATTERS:
        raise InputError(
            f"'{frame.name}' has blocks of the kind '{kind}', and cannot be the frame of a search: "
            f"that knows {_listed(MATTERS)}."
        )
    own: dict[str, tuple] = dict.fromkeys(("kernel_size", "expand_ratio", "se_ratio"), ())
    for name in MATTERS[kind]:
        own[name] = (getattr(stage, name),)
    if "se_ratio" in MATTERS[kind] and stage.se_ratio is None:
        own["se_ratio"] = (frame.se_ratio,)
    return {"kind": (kind,), **own, "skip": (stage.skip,), "filters": (1.0,), "layers": (0,)}


def _kind(stage: Stage) -> str:
    """Returns the kind of a stage as a choice, of which a fused MBConv is one."""
    if stage.fused:
        return "fused"
    return stage.kind


def _changed(stage: Stage, row: Mapping[str, Any], entering: int) -> Stage:
    """Returns a stage of the frame as a row of a spec has it."""
    fused = row["kind"] == "fused"
    # What ends a block of MobileNetV1 is a habit of that kind, and of no other.
    is_own = row["kind"] == _kind(stage)
    return dataclasses.replace(
        stage,
        kind="mbconv" if fused else row["kind"],
        fused=fused,
        project_activation=is_own and stage.project_activation,
        kernel_size=row["kernel_size"],
        expand_ratio=row.get("expand_ratio", 1),
        se_ratio=row.get("se_ratio", 0.0),
        skip=row.get("skip", stage.skip),
        input_filters=entering,
        filters=_times(stage.filters, row["filters"]),
        repeats=stage.repeats + row["layers"],
    )


def _times(filters: int, factor: float) -> int:
    return round(filters * factor)


def _distinct(values: Iterable, result: Callable[[Any], int]) -> tuple:
    """Returns the values, of those with one result the first, of those with 0 none."""
    found: dict[int, Any] = {}
    for value in values:
        found.setdefault(result(value), value)
    found.pop(0, None)
    return tuple(found.values())


def _count(options: Mapping[str, tuple], names: Iterable[str]) -> int:
    return math.prod(len(options[name]) for name in names)


def _check_row(number: int, row: Any, options: Mapping[str, tuple]) -> None:
    if not isinstance(row, dict):
        raise InputError(f"Stage {number} of the spec must be an object, and is {row!r}.")
    for name, value in row.items():
        if name not in options:
            raise InputError(
                f"Stage {number} of the spec has no choice '{name}': there are {_listed(options)}."
            )
        if value not in options[name]:
            raise InputError(
                f"Stage {number} of the spec has {name} {value!r}; in this space it must be "
                f"{' or '.join(map(repr, options[name]))}."
            )
    if "kind" not in row:
        raise InputError(f"Stage {number} of the spec has no kind.")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
