"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.layers.mbconv import FusedMBConv as FusedMBConv
from effnet_tf.layers.mbconv import MBConv as MBConv
from effnet_tf.layers.squeeze_excite import BatchNorm as BatchNorm
from effnet_tf.layers.squeeze_excite import DropConnect as DropConnect
from effnet_tf.layers.squeeze_excite import Dropout as Dropout
from effnet_tf.layers.squeeze_excite import Normalize as Normalize
from effnet_tf.layers.squeeze_excite import SqueezeExcite as SqueezeExcite
from effnet_tf.layers.squeeze_excite import batch_norm as batch_norm
from effnet_tf.layers.squeeze_excite import check_batch_norm_mode as check_batch_norm_mode
from effnet_tf.layers.squeeze_excite import conv as conv
from effnet_tf.layers.squeeze_excite import conv_initializer as conv_initializer
from effnet_tf.layers.squeeze_excite import dense_initializer as dense_initializer
from effnet_tf.layers.squeeze_excite import flatten as flatten
from effnet_tf.layers.squeeze_excite import group_moments as group_moments
from effnet_tf.layers.squeeze_excite import mask_seed as mask_seed
from effnet_tf.layers.squeeze_excite import masks_from as masks_from

__all__: list[str]
