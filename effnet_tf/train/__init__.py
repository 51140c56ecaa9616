"""How does a recipe become a trained checkpoint?"""

from effnet_tf import faces

__getattr__, __dir__, __all__ = faces.attach(
    __name__,
    {
        "guard": ("TrainingStopped",),
        "rate_finder": ("find_learning_rate",),
        "session": ("WorkerLost", "run"),
        "strategy": ("choose_strategy",),
        "trainer": ("Trainer",),
    },
)
