"""Where do batches of images come from?

`open_source` opens a data set, `training` and `evaluation` make batches of it;
`python -m effnet_tf.data` looks at a data set before a run, and prepares a smaller copy.
"""

from effnet_tf import faces

__getattr__, __dir__, __all__ = faces.attach(
    __name__,
    {
        "bad_images": ("BadExamples", "TooManyBad"),
        "batches": ("evaluation", "training"),
        "crops": ("EvaluationCrop",),
        "records": ("Chosen", "Features", "Listed", "RecordFiles"),
        "source": ("Source",),
        "sources": ("open_source", "synthetic"),
    },
)
