"""Which hyper-parameters say how a run learns, and when it looks up from learning?

The text beside each field says what it is, in which unit, and its source (recipe.py has the
sources' short names).
"""

import dataclasses

from effnet_tf.recipes.fields import field


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """Optimisation: batch, learning rate, optimiser, decay and averages."""

    epochs: int = field(
        350, "passes over the training images (main.py: 218,949 steps of 2,048)", low=1
    )
    batch_size: int = field(4096, "images per step, over all replicas (mnasnet: 4K)", low=1)
    base_learning_rate: float = field(
        0.016,
        "learning rate per 256 images of the batch (main.py; 0.256 at 4,096 as in the paper)",
        low=0,
    )
    warmup_epochs: float = field(5.0, "linear warm-up from 0 (mnasnet; main.py)", low=0)
    schedule: str = field(
        "staircase",
        "staircase of --decay_rate (paper), cosine to 0 (main.py: utils.py), "
        "polynomial to --end_learning_rate (main.py, for LARS), or constant (fine-tuning of "
        "EfficientNetV2)",
        choices=("staircase", "cosine", "polynomial", "constant"),
    )
    decay_rate: float = field(0.97, "factor of the learning-rate staircase (paper)", low=0.001)
    decay_epochs: float = field(2.4, "epochs per stair, counted from step 0 (paper)", low=0.001)
    decay_power: float = field(2.0, "of the polynomial schedule (main.py)", low=0.001)
    end_learning_rate: float = field(0.1, "of the polynomial schedule (main.py)", low=0)
    optimizer: str = field(
        "rmsprop",
        "rmsprop (paper), sgd, adamw (Keras'), or lars (main.py, large batches)",
        choices=("rmsprop", "sgd", "adamw", "lars"),
    )
    rmsprop_rho: float = field(0.9, "decay of the mean square of RMSProp (paper)", low=0, high=1)
    momentum: float = field(
        0.9, "momentum of RMSProp (paper), SGD and LARS; beta_1 of AdamW", low=0, high=1
    )
    rmsprop_epsilon: float = field(
        1e-3, "added to the mean square inside RMSProp's root (main.py: utils.py)", low=0
    )
    adam_beta_2: float = field(0.999, "of AdamW (Keras)", low=0, high=1)
    lars_coefficient: float = field(0.001, "of LARS, its eta (main.py)", low=0)
    weight_decay: float = field(
        1e-5,
        "times half the sum of squares of every trainable variable outside batch norm "
        "(paper; main.py); lars decays kernels once more in the optimiser (main.py), adamw only "
        "there",
        low=0,
    )
    decay_biases: bool = field(
        True, "decay biases as well as kernels (main.py; the code of EfficientNetV2 does not)"
    )
    clip_norm: float | None = field(
        None,
        "largest global norm of the gradient of a step; none: no clipping (main.py)",
        low=1e-12,
    )
    gradient_accumulation: int = field(
        1,
        "parts in which every replica works through its share of a batch, one after the other: "
        "less memory, same step; batch norm sees, and moves its statistics by, each part",
        low=1,
    )
    batch_norm_momentum: float = field(
        0.99,
        "of the moving statistics of batch norm (paper); a run of some hundred steps needs "
        "0.9, or it evaluates with statistics of its first steps",
        low=0,
        high=1,
    )
    bn_sync: str = field(
        "auto",
        "replicas that share batch statistics: none, all, group:N (all, if there are fewer than "
        "N), or auto, which is none "
        "up to 8 replicas and groups of max(8, replicas / 8) above (main.py: utils.py)",
    )
    label_smoothing: float = field(0.1, "share of the uniform label (main.py)", low=0, high=1)
    class_weights: str | None = field(
        None,
        "weights of the classes in the loss: balanced, so that each counts as much as any other, "
        'or a JSON file {"cat": 2.0, "dog": 0.5}; none: all 1 (main.py); of several names '
        "per image, that of the images which have one",
    )
    ema_decay: float = field(
        0.9999,
        "decay of the moving average of all weights, batch-norm statistics included; "
        "0 turns it off (main.py)",
        low=0,
        high=1,
    )


@dataclasses.dataclass(frozen=True)
class Loop:
    """The loop: precision, evaluation, checkpoints and what stops a run."""

    precision: str = field(
        "auto",
        "auto: mixed_bfloat16 on TPU, float32 elsewhere (main.py: bfloat16 on TPU)",
        choices=("auto", "float32", "mixed_bfloat16"),
    )
    remat: str = field(
        "none",
        "what is computed again in the backward pass instead of kept, for less memory: none, the "
        "widened map of every block (expansion), or all that is inside a block (block)",
        choices=("none", "expansion", "block"),
    )
    steps_per_loop: int = field(
        100,
        "training steps between two returns to Python, at most an epoch (main.py: 1,251)",
        low=1,
        high=2048,
    )
    eval_batch_size: int | None = field(
        None, "images per evaluation step, over all replicas; none: as batch_size", low=1
    )
    checkpoint_every: int | None = field(
        None, "steps between checkpoints within an epoch; none: only its end is saved", low=1
    )
    keep_checkpoints: int = field(3, "how many checkpoints stay in the workdir", low=1)
    keep: str = field(
        "last",
        "last: the newest checkpoints alone; best: besides them that of the best evaluation, which "
        "is then what is exported and loaded",
        choices=("last", "best"),
    )
    patience: int | None = field(
        None,
        "end the run once so many epochs in a row were evaluated no better than the best before; "
        "none: never",
        low=1,
    )
    background_saves: bool = field(True, "write checkpoints while training goes on")
    loss_spike: float = field(
        10.0,
        "a step whose loss is more than this many times the smoothed loss, and twice that of "
        "guessing, changes nothing, like one that is not finite; 0: off",
        low=0,
    )
    max_bad_steps: int = field(
        5,
        "after so many steps in a row that changed nothing, go back to the last checkpoint and "
        "skip the batches since",
        low=1,
    )
    max_rollbacks: int = field(3, "how often to go back before the run stops", low=0)
    extended_at: int = field(
        0,
        "the step of the last --extend, from which the schedule counts; 0: from the beginning",
        low=0,
        option=False,
    )
    seed: int = field(
        0, "of the initial weights, the order of the images and every draw", low=0, high=2**32 - 1
    )
