"""What does batch norm's momentum do to a short training from scratch?

    pip install 'effnet_tf[cpu,digits]'
    python benchmarks/batch_norm_momentum.py    # about 2 minutes on 2 cores

A small network (phi -4 of B0) learns scikit-learn's digits at 32 x 32 pixels by Adam, four epochs
of 16 steps, once for each momentum from the same initial weights. The accuracies are those that
Keras validates after each epoch, with the moving statistics of batch norm; where these have hardly
left their initial values, they say nothing of what was learned. Writes batch_norm_momentum.json.
"""

import json
import pathlib
import sys

from effnet_tf import extras

RESULTS = pathlib.Path(__file__).resolve().parent / "batch_norm_momentum.json"
MOMENTA = (0.99, 0.9)
EPOCHS, STEPS, BATCH = 4, 16, 64


def digits():
    """Returns (images (N, 32, 32, 3) in [0, 255], labels (N,)) of scikit-learn's digits."""
    import numpy as np
    import tensorflow as tf
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(0).permutation(len(found.images))
    images = tf.image.resize(found.images[order][..., None] * (255 / 16), (32, 32))
    return np.repeat(images, 3, axis=-1), found.target[order]


def accuracies(momentum, images, labels):
    """Returns the validation accuracy after each epoch."""
    import keras

    import effnet_tf

    keras.utils.set_random_seed(0)
    model = effnet_tf.model_fn(
        effnet_tf.CompoundScaling().variant(-4),
        10,
        input_shape=(32, 32, 3),
        batch_norm_momentum=momentum,
        flat=True,
    )
    model.compile(
        keras.optimizers.Adam(3e-3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        jit_compile=False,
    )
    count = STEPS * BATCH
    history = model.fit(
        images[:count],
        labels[:count],
        batch_size=BATCH,
        epochs=EPOCHS,
        validation_data=(images[count:], labels[count:]),
        verbose=0,
    )
    return [round(value, 2) for value in history.history["val_accuracy"]]


def main():
    """Trains, prints the accuracies, writes them."""
    extras.require_or_exit("This benchmark", "tensorflow", "keras", "sklearn")
    images, labels = digits()
    found = {}
    for momentum in MOMENTA:
        found[momentum] = accuracies(momentum, images, labels)
        print(f"momentum {momentum}: validation accuracy {found[momentum]}", flush=True)
    results = {"command": " ".join(["python", *sys.argv]), "accuracy": found}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
