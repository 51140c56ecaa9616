"""Which networks are there, and which of them suits? No TensorFlow."""

from effnet_tf import faces

__getattr__, __dir__, __all__ = faces.attach(
    __name__, {"conditions": ("Condition",), "listing": ("Listed", "list_models")}
)
