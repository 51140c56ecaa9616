"""Fine-tunes a published EfficientNet on a folder of photos, in plain Keras.

    pip install '.[cpu,tensorboard]'
    python examples/finetune.py --data_dir photos --out runs/photos
    tensorboard --logdir runs/photos/logs

photos/ holds one folder of images per class. First the new classifier trains alone, then
the last stages with it, at a tenth of its rate; batch norm stays frozen, since few images
make poor statistics. `python train_tpu.py --recipe finetune` does the same with averaged
weights and exact resume, on TPUs too.
"""

import argparse
import dataclasses
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter

from effnet_tf import extras, quiet

extras.require_or_exit("This example", "tensorflow", "keras", "keras_cv", "tensorboard")

with quiet.starting():
    import keras
    import keras_cv
    import tensorflow as tf

import effnet_tf  # noqa: E402


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data_dir", required=True, help="one folder of images per class")
    parser.add_argument("--out", required=True, help="directory for model.keras and logs/")
    parser.add_argument(
        "--weights",
        default="imagenet",
        help="name of published weights, or a file (default: imagenet)",
    )
    parser.add_argument("--variant", default="b0", help="name of the network (default: b0)")
    parser.add_argument("--image_size", type=int, help="pixels; default: the variant's own")
    parser.add_argument(
        "--from_stage", default="stage_5", help="first stage that trains (default: stage_5)"
    )
    parser.add_argument("--epochs", type=int, default=10, help="of each of the two parts")
    return parser.parse_args()


def load_images(folder, size):
    """Returns (training batches with MixUp, held-out batches, class names)."""
    train, held_out = keras.utils.image_dataset_from_directory(
        folder,
        label_mode="categorical",
        image_size=(size, size),
        batch_size=effnet_tf.RECIPES["finetune"].batch_size,
        seed=0,
        validation_split=0.2,
        subset="both",
    )
    mixup = keras_cv.layers.MixUp(alpha=0.2)

    def mix(images, labels):
        mixed = mixup({"images": images, "labels": labels})
        return mixed["images"], mixed["labels"]

    mixed = train.map(mix, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    return mixed, held_out.prefetch(tf.data.AUTOTUNE), train.class_names


def fit(model, images, held_out, recipe, callbacks):
    """Trains what is trainable by the recipe's schedule."""
    model.compile(
        effnet_tf.optim.optimizer(recipe, steps_per_epoch=len(images)),
        keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        metrics=["accuracy"],
    )
    model.fit(
        images, validation_data=held_out, epochs=recipe.epochs, callbacks=callbacks, shuffle=False
    )  # the data set does it


def main():
    options = parse()
    keras.utils.set_random_seed(0)
    size = options.image_size or effnet_tf.VARIANTS[options.variant].resolution
    images, held_out, class_names = load_images(options.data_dir, size)
    # Pixels stay in [0, 255]: the model normalises them itself.
    model = effnet_tf.model_fn(
        options.variant, len(class_names), weights=options.weights, input_shape=(size, size, 3)
    )
    recipe = dataclasses.replace(effnet_tf.RECIPES["finetune"], epochs=options.epochs)
    callbacks = [keras.callbacks.TensorBoard(os.path.join(options.out, "logs"), write_graph=False)]

    effnet_tf.set_trainable(model, "classifier")
    fit(model, images, held_out, recipe, callbacks)
    effnet_tf.set_trainable(model, options.from_stage, recipe.batch_norm)
    fit(model, images, held_out, recipe, callbacks)

    path = pathlib.Path(options.out) / "model.keras"
    model.save(path)
    again = effnet_tf.load_model(path)  # as any other program would
    some, labels = next(iter(held_out))
    for scores, label in zip(again.predict(some[:5], verbose=0), labels):
        print(
            f"{class_names[scores.argmax()]} ({scores.max():.0%}), "
            f"really {class_names[int(tf.argmax(label))]}"
        )
    loss, accuracy = again.evaluate(held_out, verbose=0)
    print(f"Done: {accuracy:.2%} of the held-out images right; the model is {path}")


if __name__ == "__main__":
    main()
