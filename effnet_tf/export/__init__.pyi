"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.export.about import About as About
from effnet_tf.export.about import describe as describe
from effnet_tf.export.report import Report as Report
from effnet_tf.export.runtimes import load as load
from effnet_tf.export.tflite.options import Options as Options
from effnet_tf.export.tolerances import TOLERANCE as TOLERANCE
from effnet_tf.export.tolerances import VerificationError as VerificationError
from effnet_tf.export.verifying import verify as verify
from effnet_tf.export.writing import to_onnx as to_onnx
from effnet_tf.export.writing import to_saved_model as to_saved_model
from effnet_tf.export.writing import to_tflite as to_tflite
from effnet_tf.isolated import WorkerError as WorkerError

__all__: list[str]
