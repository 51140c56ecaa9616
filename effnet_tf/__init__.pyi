"""The public names, for type checkers: __init__.py loads them when they are first used."""

from typing import Protocol

import keras

from effnet_tf import catalog as catalog
from effnet_tf import data as data
from effnet_tf import export as export
from effnet_tf import inference as inference
from effnet_tf import layers as layers
from effnet_tf import models as models
from effnet_tf import optim as optim
from effnet_tf import recipes as recipes
from effnet_tf import runs as runs
from effnet_tf import scaling as scaling
from effnet_tf import search as search
from effnet_tf import train as train
from effnet_tf import variants as variants
from effnet_tf import weights as weights
from effnet_tf.catalog import list_models as list_models
from effnet_tf.costs import cost as cost
from effnet_tf.errors import InputError as InputError
from effnet_tf.extras import MissingPackage as MissingPackage
from effnet_tf.extras import MissingTensorFlow as MissingTensorFlow
from effnet_tf.layers import BatchNorm as BatchNorm
from effnet_tf.layers import CondConv as CondConv
from effnet_tf.layers import DepthwiseCondConv as DepthwiseCondConv
from effnet_tf.layers import DescribedBlock as DescribedBlock
from effnet_tf.layers import DropConnect as DropConnect
from effnet_tf.layers import Dropout as Dropout
from effnet_tf.layers import FusedMBConv as FusedMBConv
from effnet_tf.layers import MBConv as MBConv
from effnet_tf.layers import Normalize as Normalize
from effnet_tf.layers import Routing as Routing
from effnet_tf.layers import SqueezeExcite as SqueezeExcite
from effnet_tf.layers import set_remat as set_remat
from effnet_tf.models import feature_extractor as feature_extractor
from effnet_tf.models import load_model as load_model
from effnet_tf.models import load_run as load_run
from effnet_tf.models import model_fn as model_fn
from effnet_tf.models import set_trainable as set_trainable
from effnet_tf.models.applications import decode_predictions as decode_predictions
from effnet_tf.models.applications import preprocess_input as preprocess_input
from effnet_tf.optim import LARS as LARS
from effnet_tf.optim import SGD as SGD
from effnet_tf.optim import AdamW as AdamW
from effnet_tf.optim import RMSprop as RMSprop
from effnet_tf.optim import WarmupConstant as WarmupConstant
from effnet_tf.optim import WarmupCosine as WarmupCosine
from effnet_tf.optim import WarmupPolynomial as WarmupPolynomial
from effnet_tf.optim import WarmupStaircase as WarmupStaircase
from effnet_tf.recipes import RECIPES as RECIPES
from effnet_tf.recipes import Recipe as Recipe
from effnet_tf.variants import VARIANTS as VARIANTS
from effnet_tf.variants import Block as Block
from effnet_tf.variants import CompoundScaling as CompoundScaling
from effnet_tf.variants import Cost as Cost
from effnet_tf.variants import Stage as Stage
from effnet_tf.variants import Variant as Variant
from effnet_tf.variants import blocks as blocks
from effnet_tf.weights import LoadReport as LoadReport
from effnet_tf.weights import load_weights as load_weights

__version__: str
__all__: list[str]

class _Constructor(Protocol):
    """Builds one variant with the arguments of `keras.applications.EfficientNetB0`."""

    def __call__(
        self,
        include_top: bool = True,
        weights: str | None = ...,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int = ...,
        classifier_activation: str | None = "softmax",
        name: str = ...,
        *,
        dropout_rate: float | None = None,
        drop_connect_rate: float = 0.2,
        batch_norm_momentum: float | None = None,
        preprocessing: bool | str = True,
        family: str | None = None,
    ) -> keras.Model: ...

class _ConstructorV2(Protocol):
    """Builds one variant with the arguments of `keras.applications.EfficientNetV2B0`."""

    def __call__(
        self,
        include_top: bool = True,
        weights: str | None = ...,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: tuple[int | None, int | None, int] | None = None,
        pooling: str | None = None,
        classes: int = ...,
        classifier_activation: str | None = "softmax",
        include_preprocessing: bool = True,
        name: str = ...,
        *,
        dropout_rate: float | None = None,
        drop_connect_rate: float = 0.2,
        batch_norm_momentum: float | None = None,
        preprocessing: bool | str = True,
        family: str | None = None,
    ) -> keras.Model: ...

EfficientNetB0: _Constructor
EfficientNetB1: _Constructor
EfficientNetB2: _Constructor
EfficientNetB3: _Constructor
EfficientNetB4: _Constructor
EfficientNetB5: _Constructor
EfficientNetB6: _Constructor
EfficientNetB7: _Constructor
EfficientNetB8: _Constructor
EfficientNetL2: _Constructor
EfficientNetLite0: _Constructor
EfficientNetLite1: _Constructor
EfficientNetLite2: _Constructor
EfficientNetLite3: _Constructor
EfficientNetLite4: _Constructor
EfficientNetEdgeTPUSmall: _Constructor
EfficientNetEdgeTPUMedium: _Constructor
EfficientNetEdgeTPULarge: _Constructor
EfficientNetCondConvB0_4E: _Constructor
EfficientNetCondConvB0_8E: _Constructor
EfficientNetCondConvB0_8EDepth: _Constructor
EfficientNetV2B0: _ConstructorV2
EfficientNetV2B1: _ConstructorV2
EfficientNetV2B2: _ConstructorV2
EfficientNetV2B3: _ConstructorV2
EfficientNetV2S: _ConstructorV2
EfficientNetV2M: _ConstructorV2
EfficientNetV2L: _ConstructorV2
EfficientNetV2XL: _ConstructorV2
MobileNet: _Constructor
MobileNetV2: _Constructor
MobileNetV3Large: _Constructor
MobileNetV3Small: _Constructor
ResNet50: _Constructor
