"""How deep may a graph of layers be?

Keras walks a graph by functions that call themselves, one call for each layer on the way from the
output to the input, and Python stops at 1,000 calls. EfficientNetV2-XL has 1,041 such layers in
its flat form; keras.applications' largest network has some 900.
"""

import sys

_PYTHONS_OWN = 1000


def allow_depth(layers: int) -> None:
    """Lets Keras make models of graphs of so many layers, from now on in this process.

    For good: what users make of such a network, such as a model with a classifier of their own or
    a clone, is as deep.

    Args:
        layers: of the graph, at least those on its longest way.
    """
    if layers > _PYTHONS_OWN / 2:  # the rest is for what calls Keras
        sys.setrecursionlimit(max(sys.getrecursionlimit(), _PYTHONS_OWN + 2 * layers))
