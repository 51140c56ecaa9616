"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.data.bad_images import BadExamples as BadExamples
from effnet_tf.data.bad_images import TooManyBad as TooManyBad
from effnet_tf.data.batches import evaluation as evaluation
from effnet_tf.data.batches import training as training
from effnet_tf.data.crops import EvaluationCrop as EvaluationCrop
from effnet_tf.data.records import Chosen as Chosen
from effnet_tf.data.records import Features as Features
from effnet_tf.data.records import Listed as Listed
from effnet_tf.data.records import RecordFiles as RecordFiles
from effnet_tf.data.source import Source as Source
from effnet_tf.data.sources import open_source as open_source
from effnet_tf.data.sources import synthetic as synthetic

__all__: list[str]
