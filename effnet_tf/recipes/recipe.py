"""Which hyper-parameters does a training run have, and where does each come from?

`Recipe` holds every one of them once, with the paper's value as its default. They stand in
sections (network_and_data.py, progressive.py, optimisation_and_loop.py), which it inherits:
recipe.json stays flat, and `dataclasses.replace` takes any of them. Standard library only.

Sources, by the short names used in the sections:
  paper    arXiv 1905.11946, section 5.2.
  mnasnet  arXiv 1807.11626, section 5 (the paper trains "with similar settings").
  main.py  the original code, tensorflow/tpu models/official/efficientnet/main.py,
           and the files beside it.
"""

import dataclasses
import json
import re
from collections.abc import Sequence

from effnet_tf import columns, errors, variants
from effnet_tf.recipes import class_weights, fields
from effnet_tf.recipes.network_and_data import Augmentation, Data, FineTuning, Network
from effnet_tf.recipes.optimisation_and_loop import Loop, Optimisation
from effnet_tf.recipes.progressive import Progressive

# In the order of recipe.json and of --help.
SECTIONS = (Network, FineTuning, Data, Augmentation, Progressive, Optimisation, Loop)


@dataclasses.dataclass(frozen=True)
class Recipe(Loop, Optimisation, Progressive, Augmentation, Data, FineTuning, Network):
    """Every hyper-parameter of a training run; the defaults are the paper's.

    Its bases stand in the reverse order of SECTIONS: a dataclass has the fields of its last
    base first.

    Raises:
        InputError: a value outside its legal range.
    """

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            fields.check(field, getattr(self, field.name))
        if str(self.variant).endswith(variants.SUFFIX):
            # A run explains itself, wherever that file goes, and whatever becomes of it.
            text = variants.to_json(variants.find_variant(self.variant))
            object.__setattr__(self, "variant", text)
        if self.class_weights is not None:
            object.__setattr__(self, "class_weights", class_weights.kept(self.class_weights))
        self._check_what_is_frozen()
        self._check_bn_sync()
        self._check_dropout_grows()
        self._check_labels()

    def _check_what_is_frozen(self):
        freezes = self.freeze_until not in (None, "stem") or self.batch_norm != "trainable"
        if freezes and self.init_weights is None:
            raise errors.InputError(
                f"freeze_until {self.freeze_until} with batch_norm {self.batch_norm} would freeze "
                "random weights: give --init_weights, a file or 'imagenet'."
            )

    def _check_bn_sync(self):
        if not re.fullmatch(r"auto|none|all|group:[1-9]\d*", self.bn_sync):
            raise errors.InputError(
                f"bn_sync is {self.bn_sync!r}; it must be auto, none, all, or "
                "group:N with N replicas per group, such as group:8."
            )

    def _check_dropout_grows(self):
        if self.start_dropout_rate is not None and not self.progressive:
            raise errors.InputError(
                f"start_dropout_rate {self.start_dropout_rate} is for progressive learning alone: "
                "give --progressive, too."
            )

    def _check_labels(self):
        if self.labels == "multi" and self.sampling != "natural":
            raise errors.InputError(
                f"--sampling {self.sampling} has no use with --labels multi: an image that has "
                "several names comes in the turns of none of them; --class_weights balanced weighs "
                "the names."
            )

    def resolved_variant(self) -> variants.Variant:
        """Returns the `Variant` of this recipe: its family's row, or that scaled by phi.

        Raises:
            InputError: unknown variant, phi out of range, or an image below the
                network's `least_side` (32 pixels).
        """
        variant = variants.in_family(self.variant, self.family)
        if self.phi is not None:
            scaling = variants.CompoundScaling(self.alpha, self.beta, self.gamma)
            variant = scaling.variant(self.phi, base=variant)
        size = self.image_size
        if size is None:
            size = variant.resolution
        least = variants.resolve(variant).least_side
        variants.check_resolution(size, f"variant '{variant.name}'", least)
        return dataclasses.replace(variant, resolution=size)

    def shown(self, name: str) -> str:
        """Returns a field's value as a table shows it; a file of a variant by its name."""
        if name == "variant":
            return self.resolved_variant().name
        if name == "image_size":
            return str(self.resolved_variant().resolution)
        return str(getattr(self, name))

    def _repr_html_(self) -> str:
        """Returns what Jupyter shows: what is not the paper's; folded, all the other fields."""
        others, same = [["field", "value", "default"]], [["field", "value"]]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            shown = errors.shown(value)
            if value == field.default:
                same.append([field.name, shown])
            else:
                others.append([field.name, shown, str(field.default)])
        folded = f"<summary>{len(same) - 1} fields as by default</summary>"
        return f"{columns.as_html(others)}\n<details>{folded}\n{columns.as_html(same)}\n</details>"

    def learning_rate(self) -> float:
        """Returns the peak rate: `base_learning_rate * batch_size / 256` (main.py)."""
        return self.base_learning_rate * self.batch_size / 256

    def train_size(self) -> int:
        """Returns the side of the training images in pixels; of the last stage, if there are any.

        Raises:
            InputError: as `resolved_variant`; or they are below the network's `least_side`.
        """
        variant = self.resolved_variant()
        if self.train_image_size is None:
            return variant.resolution
        least = variants.resolve(variant).least_side
        variants.check_resolution(self.train_image_size, f"training '{variant.name}'", least)
        return self.train_image_size

    def to_json(self, history: Sequence[dict] = ()) -> str:
        """Returns the recipe as an indented JSON object, one field per line.

        Args:
            history: how a run of it was extended, see runs/going_on.py; the last entry.
        """
        fields = dataclasses.asdict(self)
        if history:
            fields["history"] = list(history)
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """Returns the recipe written by `to_json`, without its history.

        Raises:
            InputError: no JSON object, or a field this version does not know.
        """
        try:
            values = dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise errors.InputError(
                f"The recipe is not a JSON object: {errors.first_line(error)}."
            ) from error
        values.pop("history", None)
        unknown = sorted(set(values) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise errors.InputError(
                f"The recipe has fields this version does not know: {', '.join(unknown)}."
            )
        return cls(**values)


# Fields that may change when a run is resumed: they do not change what is computed.
FREE_TO_CHANGE = (
    "data_dir",
    "steps_per_loop",
    "eval_batch_size",
    "checkpoint_every",
    "keep_checkpoints",
    "keep",
    "patience",
    "background_saves",
    "max_bad_fraction",
    "max_bad_steps",
    "max_rollbacks",
)

# Of the network's fields, these leave its variables as they are.
WITHOUT_VARIABLES = ("image_size", "dropout_rate", "drop_connect_rate")
# Fields that no extension of a run can change: they say what a checkpoint holds, or which
# images have been seen at its position.
FIXED = (
    *(each.name for each in dataclasses.fields(Network) if each.name not in WITHOUT_VARIABLES),
    *("init_weights", "freeze_until", "batch_norm"),
    *("dataset", "labels", "train_split", "eval_split", "first_label", "holdout"),
    *("batch_size", "optimizer", "seed"),
)
# These are variables of the state, or none of it: not zero may become another, but not zero.
SWITCHES = ("ema_decay", "momentum")


def differences(old: Recipe, new: Recipe) -> list[str]:
    """Returns "epochs: 10 -> 20" and so on for the fields that make two another run."""
    return [
        _change(old, new, field.name)
        for field in dataclasses.fields(Recipe)
        if field.name not in FREE_TO_CHANGE and getattr(old, field.name) != getattr(new, field.name)
    ]


def fixed_differences(old: Recipe, new: Recipe) -> list[str]:
    """Returns "batch_size: 16 -> 32" and so on for what no extension of a run can change."""
    changed = [name for name in FIXED if getattr(old, name) != getattr(new, name)]
    changed += [name for name in SWITCHES if bool(getattr(old, name)) != bool(getattr(new, name))]
    return [_change(old, new, name) for name in changed]


def _change(old, new, name):
    return f"{name}: {getattr(old, name)} -> {getattr(new, name)}"
