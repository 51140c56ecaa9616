"""How is a network scaled to a budget? No TensorFlow."""

from effnet_tf.scaling.latency import Table, read_table
from effnet_tf.scaling.planning import OutOfReach, Plan, plan
from effnet_tf.scaling.strategies import STRATEGIES

__all__ = ["STRATEGIES", "OutOfReach", "Plan", "Table", "plan", "read_table"]
