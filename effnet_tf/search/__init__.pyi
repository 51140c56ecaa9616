"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.search.coefficient_search import answer as answer
from effnet_tf.search.coefficient_search import coefficients as coefficients
from effnet_tf.search.images import Images as Images
from effnet_tf.search.rewards import Objective as Objective
from effnet_tf.search.settings import Settings as Settings
from effnet_tf.search.space import Choices as Choices
from effnet_tf.search.space import Space as Space
from effnet_tf.search.verdict import Coefficients as Coefficients

__all__: list[str]
