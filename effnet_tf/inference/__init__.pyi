"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.inference.embedding import Embedding as Embedding
from effnet_tf.inference.embedding import embed as embed
from effnet_tf.inference.evaluating import Evaluation as Evaluation
from effnet_tf.inference.evaluating import MultiEvaluation as MultiEvaluation
from effnet_tf.inference.evaluating import evaluate as evaluate
from effnet_tf.inference.explaining import Explanation as Explanation
from effnet_tf.inference.explaining import explain as explain
from effnet_tf.inference.predicting import Prediction as Prediction
from effnet_tf.inference.predicting import predict as predict
from effnet_tf.inference.subjects import Options as Options
from effnet_tf.inference.subjects import Subject as Subject
from effnet_tf.inference.subjects import open_subject as open_subject

__all__: list[str]
