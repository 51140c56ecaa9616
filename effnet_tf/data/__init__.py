"""Where do batches of images come from?

`open_source` opens a data set, `training` and `evaluation` make batches of it;
`python -m effnet_tf.data` looks at a data set before a run, and prepares a smaller copy.
"""

import importlib

# Loaded when first used: the program's --help, and its say over TensorFlow's chatter, come first.
_HOME = {
    "bad": ("BadExamples", "TooManyBad"),
    "batches": ("evaluation", "training"),
    "records": ("Chosen", "Features", "Listed", "RecordFiles"),
    "source": ("Source",),
    "sources": ("open_source", "synthetic"),
}
__all__ = sorted(name for names in _HOME.values() for name in names)


def __getattr__(name):
    for module, names in _HOME.items():
        if name in names:
            return getattr(importlib.import_module(f"effnet_tf.data.{module}"), name)
    raise AttributeError(f"module 'effnet_tf.data' has no attribute '{name}'")
