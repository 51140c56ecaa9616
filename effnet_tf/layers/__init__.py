"""Which Keras layers are the networks made of? Plain numbers in; no layer knows a variant.

Feature maps are (N, H, W, C); padding is TensorFlow's SAME, or symmetric as PyTorch's. Not handed
on lazily: importing this package registers with Keras what saved models may hold.
"""

from effnet_tf.layers.blocks import DescribedBlock
from effnet_tf.layers.classifiers import is_new, start_at_zero
from effnet_tf.layers.cond_conv import CondConv, DepthwiseCondConv
from effnet_tf.layers.convolutions import conv_initializer, conv_layer, dense_initializer
from effnet_tf.layers.depth import allow_depth
from effnet_tf.layers.mbconv import FusedMBConv, MBConv
from effnet_tf.layers.norm import BatchNorm, batch_norm, check_batch_norm_mode
from effnet_tf.layers.normalize import Normalize, follow_weights, hidden_constants
from effnet_tf.layers.pixel_range import watch_range
from effnet_tf.layers.pixel_settings import change_settings, has_own_settings, settings_layers
from effnet_tf.layers.routing import Routing
from effnet_tf.layers.squeeze_excite import SqueezeExcite
from effnet_tf.layers.step_form import set_remat
from effnet_tf.layers.stochastic import DropConnect, Dropout, mask_seed, masks_from
from effnet_tf.layers.walking import batch_norms, flatten, holders, sublayers

__all__ = [
    "BatchNorm",
    "CondConv",
    "DepthwiseCondConv",
    "DescribedBlock",
    "DropConnect",
    "Dropout",
    "FusedMBConv",
    "MBConv",
    "Normalize",
    "Routing",
    "SqueezeExcite",
    "allow_depth",
    "batch_norm",
    "batch_norms",
    "change_settings",
    "check_batch_norm_mode",
    "conv_initializer",
    "conv_layer",
    "dense_initializer",
    "flatten",
    "follow_weights",
    "has_own_settings",
    "hidden_constants",
    "holders",
    "is_new",
    "mask_seed",
    "masks_from",
    "set_remat",
    "settings_layers",
    "start_at_zero",
    "sublayers",
    "watch_range",
]
