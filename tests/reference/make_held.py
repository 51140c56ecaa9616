"""Writes tests/reference/held: small files of every kind that users hold, and what they answer.

    python -m tests.reference.make_held

Made once, by commit f2df79c, before the library was laid out anew; tests/test_held_files.py
loads them. Only public names are used here, so that later commits can write their own.
"""

import dataclasses
import pathlib
import shutil

import keras
import numpy as np

import effnet_tf
from effnet_tf import export, train

HELD = pathlib.Path(__file__).parent / "held"
FAMILIES = {"b": "b0", "lite": "lite0", "edgetpu": "edgetpu-s"}
KINDS = ("none", "float16", "weights8", "int8", "int16x8")
CLASSES = ("red", "green", "blue")


def variant(base):
    """A network of three blocks of 8 channels, of the kinds that the family has."""
    whole = effnet_tf.VARIANTS[base]
    stages = [
        dataclasses.replace(stage, filters=8, input_filters=8, repeats=1 + number % 2)
        for number, stage in enumerate(whole.stages[:2])
    ]
    return dataclasses.replace(
        whole,
        name=f"held-{base}",
        resolution=32,
        stem_filters=8,
        head_filters=16,
        num_classes=3,
        stages=tuple(stages),
    )


def register():
    """Makes the variants known to this process, for recipes that name them."""
    effnet_tf.VARIANTS.update({f"held-{base}": variant(base) for base in FAMILIES.values()})


def network(base):
    """The network, with statistics in its batch norms as of a trained one."""
    keras.utils.set_random_seed(7)
    model = effnet_tf.model_fn(variant(base), len(CLASSES), input_shape=(32, 32, 3))
    random = np.random.default_rng(7)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(random.uniform(0.5, 1.5, layer.moving_mean.shape))
    return model


def recipe():
    """Four epochs of two steps; the run is stopped in the third."""
    return dataclasses.replace(
        effnet_tf.RECIPES["smoke"],
        variant="held-b0",
        phi=None,
        dataset="synthetic",
        num_classes=3,
        batch_size=16,
        epochs=4,
        steps_per_loop=1,
        checkpoint_every=1,
        keep_checkpoints=1,
        drop_connect_rate=0.3,
    )


class Stop(Exception):
    """Ends the run in the middle."""


def stopped_run(folder):
    """Trains until step 5, of 8; then a copy to the end, whose last state is kept."""
    from effnet_tf.train.trainer import Trainer

    snapshot = Trainer.snapshot

    def stop(trainer):
        if trainer.step > 5:
            raise Stop
        return snapshot(trainer)

    Trainer.snapshot = stop
    try:
        train.run(recipe(), str(folder))
    except Stop:
        Trainer.snapshot = snapshot
    copy = folder.with_name("finished")
    shutil.copytree(folder, copy)
    metrics = train.run(recipe(), str(copy))
    from effnet_tf.runs import checkpoints

    state = checkpoints.read(checkpoints.newest(str(copy / "checkpoints")))
    shutil.rmtree(copy)
    for name in ("tensorboard", "augmented.png", "learning_curve.png", ".lock"):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return state, metrics


def main():
    """Writes all."""
    register()
    shutil.rmtree(HELD, ignore_errors=True)
    HELD.mkdir()
    images = np.random.default_rng(3).integers(0, 256, (40, 32, 32, 3)).astype("uint8")
    answers = {"images": images[:8]}
    for family, base in FAMILIES.items():
        model = network(base)
        answers[family] = model.predict(images[:8], verbose=0)
        model.save(HELD / f"{family}.keras")
    model = network("b0")
    model.save_weights(HELD / "b.weights.h5")
    model.save(HELD / "b.h5")
    about = export.describe(model, class_names=CLASSES)
    export.to_saved_model(model, str(HELD / "saved_model"), about=about)
    export.to_onnx(model, str(HELD / "b.onnx"), about=about)
    for kind in KINDS:
        path = str(HELD / f"b-{kind}.tflite")
        export.to_tflite(
            model, path, quantize=kind, about=about, calibration=images, min_sqnr=-100.0
        )
        answers[f"tflite-{kind}"] = export.load(path)(images[:8])
    state, metrics = stopped_run(HELD / "run")
    answers |= {f"state/{name}": value for name, value in state.items()}
    answers["eval_loss"] = np.float64(metrics["eval_loss"])
    np.savez_compressed(HELD / "answers.npz", **answers)


if __name__ == "__main__":
    main()
