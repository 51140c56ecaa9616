"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.models.applications import decode_predictions as decode_predictions
from effnet_tf.models.applications import preprocess_input as preprocess_input
from effnet_tf.models.build import ENDPOINTS as ENDPOINTS
from effnet_tf.models.build import feature_extractor as feature_extractor
from effnet_tf.models.build import model_fn as model_fn
from effnet_tf.models.finetune import set_trainable as set_trainable
from effnet_tf.models.saved import load_model as load_model
from effnet_tf.models.trained import load_run as load_run

__all__: list[str]
