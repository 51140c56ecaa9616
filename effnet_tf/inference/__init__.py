"""What does a trained network say of images, and how often is it right?"""

from effnet_tf import faces

__getattr__, __dir__, __all__ = faces.attach(
    __name__,
    {
        "evaluating": ("Evaluation", "MultiEvaluation", "evaluate"),
        "embedding": ("Embedding", "embed"),
        "explaining": ("Explanation", "explain"),
        "predicting": ("Prediction", "predict"),
        "subjects": ("Options", "Subject", "open_subject"),
    },
)
