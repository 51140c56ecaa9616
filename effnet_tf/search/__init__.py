"""How are the coefficients of compound scaling, or a whole network, searched?

`python -m effnet_tf.search` has the programs. Names are imported when first asked for: `--help`
needs no TensorFlow.
"""

from effnet_tf import faces

__getattr__, __dir__, __all__ = faces.attach(
    __name__,
    {
        "coefficient_search": ("answer", "coefficients"),
        "images": ("Images",),
        "rewards": ("Objective",),
        "settings": ("Settings",),
        "space": ("Choices", "Space"),
        "verdict": ("Coefficients",),
    },
)
