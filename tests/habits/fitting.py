"""How do people call `fit`: with which callbacks, on what, and how compiled?"""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.habits.facts import IMAGES, LABELS, ONE_HOT, history, moved, values

SHAPE = (32, 32, 3)


def _compiled(EfficientNet, optimizer="sgd", **arguments):
    model = EfficientNet(weights=None, input_shape=SHAPE)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], **arguments)
    return model


def _fit(model, **arguments):
    return model.fit(IMAGES, LABELS, verbose=0, shuffle=False, **arguments)


def callbacks_that_watch(EfficientNet):
    """EarlyStopping, ReduceLROnPlateau, schedules, logs: all that do not write a model."""
    steps = []
    callbacks = [
        keras.callbacks.EarlyStopping("val_loss", patience=1, restore_best_weights=True),
        keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.5, patience=1, min_delta=10.0),
        keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate * 0.9),
        keras.callbacks.LambdaCallback(on_batch_end=lambda batch, logs: steps.append(batch)),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.CSVLogger("log.csv"),
        keras.callbacks.ProgbarLogger(),
    ]
    model = _compiled(EfficientNet)
    fitted = _fit(
        model, epochs=2, batch_size=2, validation_data=(IMAGES, LABELS), callbacks=callbacks
    )
    with open("log.csv") as file:
        return history(fitted), steps, file.readline()


def a_board(EfficientNet):
    """TensorBoard with histograms of the weights."""
    pytest.importorskip("tensorboard")
    model = _compiled(EfficientNet)
    _fit(model, callbacks=[keras.callbacks.TensorBoard("logs", histogram_freq=1, write_graph=True)])
    found = set()
    for name in os.listdir("logs/train"):
        for event in tf.compat.v1.train.summary_iterator(f"logs/train/{name}"):
            found |= {value.tag for value in event.summary.value}
    return sorted(tag for tag in found if "seed" not in tag)


def the_best_checkpoint(EfficientNet):
    """ModelCheckpoint of the whole model and of weights, then the best one loaded."""
    callbacks = [
        keras.callbacks.ModelCheckpoint("best.keras", monitor="loss", save_best_only=True),
        keras.callbacks.ModelCheckpoint("{epoch}.weights.h5", save_weights_only=True),
    ]
    model = _compiled(EfficientNet)
    _fit(model, epochs=2, callbacks=callbacks)
    best = keras.saving.load_model("best.keras")
    model.load_weights("1.weights.h5")
    return sorted(os.listdir()), [m.predict(IMAGES, verbose=0) for m in (best, model)]


def interrupted_and_resumed(EfficientNet):
    """BackupAndRestore: the second fit begins where the first was interrupted."""

    def stop(epoch, logs):
        if epoch == 1:
            raise RuntimeError("out of power")

    stopping = keras.callbacks.LambdaCallback(on_epoch_begin=stop)
    with pytest.raises(RuntimeError):
        _fit(
            _compiled(EfficientNet),
            epochs=2,
            callbacks=[keras.callbacks.BackupAndRestore("b"), stopping],
        )
    model = _compiled(EfficientNet)
    fitted = _fit(model, epochs=2, callbacks=[keras.callbacks.BackupAndRestore("b")])
    return fitted.epoch, history(fitted), model.optimizer.iterations.numpy()


def averaged_weights(EfficientNet):
    """use_ema with SwapEMAWeights, and averages that overwrite."""
    found = []
    for overwrite in (None, 1):
        optimizer = keras.optimizers.SGD(
            0.01, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=overwrite
        )
        callbacks = []
        if not overwrite:
            callbacks = [keras.callbacks.SwapEMAWeights(swap_on_epoch=True)]
        model = _compiled(EfficientNet, optimizer)
        fitted = _fit(model, validation_data=(IMAGES, LABELS), callbacks=callbacks)
        found.append((history(fitted), model.predict(IMAGES, verbose=0)))
    return found


def accumulated_gradients(EfficientNet):
    """gradient_accumulation_steps of an optimiser."""
    model = _compiled(EfficientNet, keras.optimizers.SGD(0.01, gradient_accumulation_steps=2))
    before, found = values(model), []
    for _ in range(2):
        model.train_on_batch(IMAGES, LABELS)
        found.append(len([path for path in moved(model, before) if "moving" not in path]))
    return found, model.predict(IMAGES, verbose=0)


def decay_without_batch_norm(EfficientNet):
    """AdamW that leaves gamma, beta and biases alone, with its gradients clipped."""
    optimizer = keras.optimizers.AdamW(0.001, weight_decay=0.5, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["gamma", "beta", "bias"])
    model = _compiled(EfficientNet, optimizer)
    fitted = _fit(model)
    decays = [v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)]
    return history(fitted), decays, model.predict(IMAGES, verbose=0)


def scaled_losses(EfficientNet):
    """LossScaleOptimizer around another."""
    model = _compiled(
        EfficientNet, keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3))
    )
    return history(_fit(model)), float(model.optimizer.dynamic_scale)


def batch_by_batch(EfficientNet):
    """train_on_batch, test_on_batch and predict_on_batch."""
    model = _compiled(EfficientNet)
    found = [model.train_on_batch(IMAGES, LABELS), model.test_on_batch(IMAGES, LABELS)]
    return [[float(each) for each in line] for line in found], model.predict_on_batch(IMAGES)


def part_held_out(EfficientNet):
    """validation_split, metrics of Keras, and evaluate's dict."""
    model = EfficientNet(weights=None, input_shape=SHAPE)
    metrics = ["accuracy", keras.metrics.TopKCategoricalAccuracy(2), keras.metrics.F1Score()]
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True), loss, metrics=metrics)
    fitted = model.fit(IMAGES, ONE_HOT, validation_split=0.5, verbose=0)
    found = model.evaluate(IMAGES, ONE_HOT, return_dict=True, verbose=0)
    return {k: np.mean(v) for k, v in fitted.history.items()}, {
        k: np.mean(v) for k, v in found.items()
    }


def a_tuner(EfficientNet):
    """KerasTuner's search over a model that a function builds."""
    tuner_of = pytest.importorskip("keras_tuner")

    def build(choices):
        base = EfficientNet(include_top=False, weights=None, input_shape=SHAPE, pooling="avg")
        base.trainable = choices.Boolean("train")
        model = keras.Sequential([base, keras.layers.Dense(3, activation="softmax")])
        rate = choices.Choice("rate", [1e-2, 1e-3])
        model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
        return model

    tuner = tuner_of.RandomSearch(build, "val_loss", max_trials=1, directory=".", seed=1)
    tuner.search(IMAGES, LABELS, validation_data=(IMAGES, LABELS), verbose=0)
    found = tuner.get_best_models()[0].evaluate(IMAGES, LABELS, verbose=0)
    return tuner.get_best_hyperparameters()[0].values, float(found)
