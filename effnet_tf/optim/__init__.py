"""Which optimisers, schedules and weight average do recipes use?"""

from effnet_tf import faces

__getattr__, __dir__, __all__ = faces.attach(
    __name__,
    {
        "optimizers": (
            "LARS",
            "OPTIMIZERS",
            "SGD",
            "AdamW",
            "RMSprop",
            "WarmupCosine",
            "WarmupPolynomial",
            "WarmupStaircase",
            "clip",
            "decayed",
            "ema_decay",
            "l2_penalty",
            "optimizer",
            "schedule",
            "stage_of",
            "update_ema",
        )
    },
)
