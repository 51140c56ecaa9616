"""How do weights of any known origin get into a model?"""

from effnet_tf import faces

__getattr__, __dir__, __all__ = faces.attach(
    __name__, {"loading": ("load_weights",), "report": ("LoadReport",)}
)
