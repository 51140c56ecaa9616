"""How does a name become a Keras model, and how is it fine-tuned?"""

from effnet_tf import faces

__getattr__, __dir__, __all__ = faces.attach(
    __name__,
    {
        "applications": ("decode_predictions", "preprocess_input"),
        "build": ("ENDPOINTS", "feature_extractor", "model_fn"),
        "finetune": ("set_trainable",),
        "saved": ("load_model",),
        "trained": ("load_run",),
    },
)
