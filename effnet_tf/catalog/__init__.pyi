"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.catalog.conditions import Condition as Condition
from effnet_tf.catalog.listing import Listed as Listed
from effnet_tf.catalog.listing import list_models as list_models

__all__: list[str]
