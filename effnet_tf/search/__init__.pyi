"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.search.images import Images as Images
from effnet_tf.search.proxy import Settings as Settings
from effnet_tf.search.rewards import Objective as Objective
from effnet_tf.search.space import Choices as Choices
from effnet_tf.search.space import Space as Space

__all__: list[str]
