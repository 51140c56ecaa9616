"""Which Keras layers are the networks made of? Plain numbers in; no layer knows a variant."""

from effnet_tf import faces

__getattr__, __dir__, __all__ = faces.attach(
    __name__,
    {
        "squeeze_excite": (
            "BatchNorm",
            "DropConnect",
            "Dropout",
            "Normalize",
            "SqueezeExcite",
            "batch_norm",
            "check_batch_norm_mode",
            "conv",
            "conv_initializer",
            "dense_initializer",
            "flatten",
            "group_moments",
            "mask_seed",
            "masks_from",
        ),
        "mbconv": ("FusedMBConv", "MBConv"),
    },
)
