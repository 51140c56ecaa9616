"""The names of this package, for type checkers (written by tests/helpers/stubs.py)."""

from effnet_tf.optim.optimizers import AdamW as AdamW
from effnet_tf.optim.optimizers import LARS as LARS
from effnet_tf.optim.optimizers import OPTIMIZERS as OPTIMIZERS
from effnet_tf.optim.optimizers import RMSprop as RMSprop
from effnet_tf.optim.optimizers import SGD as SGD
from effnet_tf.optim.optimizers import WarmupCosine as WarmupCosine
from effnet_tf.optim.optimizers import WarmupPolynomial as WarmupPolynomial
from effnet_tf.optim.optimizers import WarmupStaircase as WarmupStaircase
from effnet_tf.optim.optimizers import clip as clip
from effnet_tf.optim.optimizers import decayed as decayed
from effnet_tf.optim.optimizers import ema_decay as ema_decay
from effnet_tf.optim.optimizers import l2_penalty as l2_penalty
from effnet_tf.optim.optimizers import optimizer as optimizer
from effnet_tf.optim.optimizers import schedule as schedule
from effnet_tf.optim.optimizers import stage_of as stage_of
from effnet_tf.optim.optimizers import update_ema as update_ema

__all__: list[str]
