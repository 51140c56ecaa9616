"""One process of tests/train/test_strategy.py: trains some steps, writes its state and log.

python -m tests.helpers.worker OUT DEVICES     DEVICES 0: a worker of TF_CONFIG
"""

import sys

import numpy as np
import tensorflow as tf

from effnet_tf import data
from effnet_tf.train import strategy as strategy_lib
from effnet_tf.train.trainer import Trainer
from tests.helpers import tiny_net


def main(out, devices):
    tiny_net.register()
    name = "multiworker" if devices == 0 else "cpu" if devices == 1 else "mirrored"
    strategy = strategy_lib.choose_strategy(name, virtual_devices=devices if devices > 1 else None)
    recipe = tiny_net.recipe(
        variant="tinier",
        bn_sync="all",
        dropout_rate=0.0,
        drop_connect_rate=0.0,
        warmup_epochs=0.0,
        eval_batch_size=24,
    )
    trainer = Trainer(recipe, data.open_source(recipe), strategy)
    trainer.start()
    trainer.train_steps(trainer.train_iterator(0), tf.constant(6))
    state = {name.replace("/", "|"): value for name, value in trainer.snapshot().items()}
    metrics = trainer.evaluate()
    stopped = [
        strategy_lib.any_worker(strategy, flag)
        for flag in (False, not strategy_lib.is_chief(strategy) or devices != 0)
    ]
    assert stopped == [False, True]  # a notice to one worker reaches all
    np.savez(out, rows=trainer.rows_since(0), metrics=str(metrics), **state)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
