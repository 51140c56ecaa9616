"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.weights.loading import load_weights as load_weights
from effnet_tf.weights.report import LoadReport as LoadReport

__all__: list[str]
