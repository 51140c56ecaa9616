"""Which optimisers, schedules and weight average do recipes use?

Not handed on lazily: importing this package registers with Keras what saved models may hold.
"""

from effnet_tf.optim.optimizers import LARS, SGD, AdamW, RMSprop, optimizer
from effnet_tf.optim.schedules import (
    WarmupConstant,
    WarmupCosine,
    WarmupPolynomial,
    WarmupStaircase,
    schedule,
)
from effnet_tf.optim.updates import clip, decayed, ema_decay, l2_penalty, update_ema

__all__ = [
    "LARS",
    "SGD",
    "AdamW",
    "RMSprop",
    "WarmupConstant",
    "WarmupCosine",
    "WarmupPolynomial",
    "WarmupStaircase",
    "clip",
    "decayed",
    "ema_decay",
    "l2_penalty",
    "optimizer",
    "schedule",
    "update_ema",
]
