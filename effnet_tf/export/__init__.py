"""How does a Keras model become a file that other programs run, and is it right?"""

from effnet_tf import faces

__getattr__, __dir__, __all__ = faces.attach(
    __name__,
    {
        "about": ("About", "describe"),
        "placing": ("WorkerError",),
        "report": ("Report",),
        "runtimes": ("load",),
        "tflite.options": ("Options",),
        "tolerances": ("TOLERANCE", "VerificationError"),
        "verifying": ("verify",),
        "writing": ("to_onnx", "to_saved_model", "to_tflite"),
    },
)
