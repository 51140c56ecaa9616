"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.errors import TrainingStopped as TrainingStopped
from effnet_tf.errors import WorkerLost as WorkerLost
from effnet_tf.train.rate_finder import find_learning_rate as find_learning_rate
from effnet_tf.train.session import run as run
from effnet_tf.train.strategy import choose_strategy as choose_strategy
from effnet_tf.train.trainer import Trainer as Trainer

__all__: list[str]
