"""Which images do people hand to a network, from where, and what stands before it?"""

import keras
import numpy as np
import tensorflow as tf

from tests.habits.facts import (
    IMAGES,
    LABELS,
    ONE_HOT,
    batch,
    history,
    norm,
    outcome,
    shape,
    trainable,
)

SHAPE = (32, 32, 3)


def _features(EfficientNet, shape, **arguments):
    return EfficientNet(include_top=False, weights=None, input_shape=shape, **arguments)


def grey_images(EfficientNet):
    """One channel, and grey images repeated to three."""
    one = _features(EfficientNet, (32, 32, 1), pooling="avg")
    inputs = keras.Input((32, 32, 1))
    x = keras.layers.Concatenate()([inputs] * 3)
    three = _features(EfficientNet, SHAPE, pooling="avg")
    model = keras.Model(inputs, three(x))
    grey = IMAGES[..., :1]
    return one.predict(grey, verbose=0), model.predict(grey, verbose=0), trainable(one)


def four_channels(EfficientNet):
    """RGB with depth or infrared, and three channels made of them by a convolution."""
    four = _features(EfficientNet, (32, 32, 4))
    images = batch(channels=4)
    inputs = keras.Input((32, 32, 4))
    x = keras.layers.Conv2D(3, 1, kernel_initializer="ones", name="to_rgb")(inputs)
    base = EfficientNet(include_top=False, weights=None, input_tensor=x)
    return four.predict(images, verbose=0), [norm(base(images))], shape(base.inputs[0])


def sides_that_differ(EfficientNet):
    """Wide images, and odd sides."""
    found = {}
    for height, width in ((32, 64), (48, 32), (37, 45)):
        model = _features(EfficientNet, (height, width, 3))
        images = np.resize(IMAGES, (1, height, width, 3))
        found[f"{height}x{width}"] = shape(model.output), norm(model(images))
    return found


def sides_unknown(EfficientNet):
    """input_shape=(None, None, 3): any even side later, also after training on another."""
    model = _features(EfficientNet, (None, None, 3), pooling="avg")
    found = [model.input_shape, model.output_shape]
    for side in (32, 64, 40):
        found.append(model.predict(batch(2, side), verbose=0))
    default = EfficientNet(include_top=False, weights=None)
    return found, default.input_shape, default.output_shape


def pixels_of_other_dtypes(EfficientNet):
    """uint8 as images are read, float64, float16, and int32."""
    model = EfficientNet(weights=None, input_shape=SHAPE)
    dtypes = ("uint8", "float64", "float16", "int32")
    found = {dtype: model(IMAGES.astype(dtype), training=False) for dtype in dtypes}
    found["one"] = model(np.expand_dims(IMAGES[0].astype("uint8"), 0), training=False)
    inputs = keras.Input(SHAPE, dtype="uint8")
    again = EfficientNet(weights=None, input_tensor=inputs)
    return found, again.inputs[0].dtype, again.predict(IMAGES.astype("uint8"), verbose=0)


def batches_of_a_fixed_size(EfficientNet):
    """keras.Input(batch_size=...), as for a TPU, and a batch_shape."""
    inputs = keras.Input(SHAPE, batch_size=4, name="images")
    model = EfficientNet(weights=None, input_tensor=inputs)
    other = keras.Input(batch_shape=(2, *SHAPE))
    return (
        model.inputs[0].name,
        list(model.output.shape),
        model.predict(IMAGES, verbose=0),
        list(EfficientNet(include_top=False, weights=None, input_tensor=other).output.shape),
    )


def preprocess_input(EfficientNet):
    """The function that every program calls, though it does nothing."""
    model = EfficientNet(weights=None, input_shape=SHAPE)
    prepared = EfficientNet.preprocess_input(np.copy(IMAGES))
    data = tf.data.Dataset.from_tensor_slices(IMAGES).map(EfficientNet.preprocess_input).batch(3)
    return model.predict(prepared, verbose=0), model.predict(data, verbose=0)


def images_in_folders(EfficientNet):
    """image_dataset_from_directory, prefetched, with its class names."""
    for number, image in enumerate(IMAGES):
        keras.utils.save_img(_folder("dogs" if number % 2 else "cats") + f"/{number}.png", image)
    data = keras.utils.image_dataset_from_directory(
        "photos", image_size=(32, 32), batch_size=2, label_mode="categorical", shuffle=False
    )
    names = data.class_names
    base = _features(EfficientNet, SHAPE, pooling="avg")
    model = keras.Sequential([base, keras.layers.Dense(2, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    fitted = model.fit(data.cache().prefetch(tf.data.AUTOTUNE), validation_data=data, verbose=0)
    return names, history(fitted)


def _folder(name):
    import os

    os.makedirs(f"photos/{name}", exist_ok=True)
    return f"photos/{name}"


def a_sequence_of_batches(EfficientNet):
    """keras.utils.PyDataset, and a plain generator."""

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            part = slice(2 * index, 2 * index + 2)
            return IMAGES[part], LABELS[part]

    model = EfficientNet(weights=None, input_shape=SHAPE)
    model.compile("sgd", "sparse_categorical_crossentropy")
    first = model.fit(Batches(workers=1, use_multiprocessing=False), shuffle=False, verbose=0)
    rows = ((IMAGES[:2], LABELS[:2]) for _ in range(2))
    return history(first), history(model.fit(rows, steps_per_epoch=2, verbose=0))


_AUGMENTATIONS = {
    "Equalization": {},  # first: after another layer Keras finds a cycle in its graph
    "AugMix": {},
    "AutoContrast": {},
    "CenterCrop": dict(height=32, width=32),
    "RandomBrightness": dict(factor=0.2),
    "RandomColorDegeneration": dict(factor=0.5),
    "RandomColorJitter": dict(brightness_factor=0.2),
    "RandomContrast": dict(factor=0.2),
    "RandomCrop": dict(height=32, width=32),
    "RandomElasticTransform": {},
    "RandomErasing": {},
    "RandomFlip": dict(mode="horizontal"),
    "RandomGaussianBlur": dict(factor=1.0),
    "RandomGrayscale": {},
    "RandomHue": dict(factor=0.2),
    "RandomInvert": {},
    "RandomPerspective": {},
    "RandomPosterization": dict(factor=4),
    "RandomRotation": dict(factor=0.15),
    "RandomSaturation": dict(factor=0.5),
    "RandomSharpness": dict(factor=0.5),
    "RandomShear": dict(x_factor=0.2),
    "RandomTranslation": dict(height_factor=0.1, width_factor=0.1),
    "RandomZoom": dict(height_factor=0.1),
    "Rescaling": dict(scale=1.0),
    "Resizing": dict(height=32, width=32),
    "Solarization": {},
}


def every_augmentation_in_the_model(EfficientNet):
    """Keras' layers before the network, inside one model, called in training."""
    base, found = EfficientNet(weights=None, input_shape=SHAPE), []
    layers = [getattr(keras.layers, name)(**more) for name, more in _AUGMENTATIONS.items()]
    for number in range(0, len(layers), 7):
        chosen = layers[number : number + 7]
        model = keras.Sequential([keras.Input(SHAPE), *chosen, base])
        found.append(model(IMAGES, training=True))
    return found


def images_mixed(EfficientNet):
    """CutMix and MixUp, which change the labels, too."""
    model, found = EfficientNet(weights=None, input_shape=SHAPE), []
    model.compile("sgd", "categorical_crossentropy")
    for layer in (keras.layers.CutMix(seed=1), keras.layers.MixUp(seed=2)):
        mixed = layer({"images": IMAGES, "labels": ONE_HOT}, training=True)
        found.append(float(model.train_on_batch(mixed["images"], mixed["labels"])))
    return found


def augmentations_of_the_guide(EfficientNet):
    """The EfficientNet guide's own, in front of a functional model that is trained and saved."""
    inputs, factor = keras.Input(SHAPE), 0.1
    x = keras.layers.RandomRotation(0.15, seed=1)(inputs)
    x = keras.layers.RandomTranslation(factor, factor, seed=2)(x)
    x = keras.layers.RandomFlip(seed=3)(x)
    x = keras.layers.RandomContrast(factor, seed=4)(x)
    base = EfficientNet(include_top=False, weights=None, input_tensor=x, pooling="avg")
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(base.output))
    model.compile("sgd", "sparse_categorical_crossentropy")
    fitted = model.fit(IMAGES, LABELS, verbose=0)
    model.save("augmented.keras")
    again = keras.saving.load_model("augmented.keras")
    return [layer.name for layer in again.layers], history(fitted), again.predict(IMAGES, verbose=0)


def augmentations_in_the_data(EfficientNet):
    """A Sequential of layers that `Dataset.map` calls, with MixUp on batches."""
    augment = keras.Sequential(
        [keras.layers.RandomFlip(seed=1), keras.layers.RandomZoom(0.1, seed=2)]
    )
    mix = keras.layers.MixUp(seed=3)
    one_hot = keras.utils.to_categorical(LABELS, 3)
    data = tf.data.Dataset.from_tensor_slices((IMAGES, one_hot)).batch(4)
    data = data.map(lambda x, y: (augment(x, training=True), y))
    data = data.map(lambda x, y: mix({"images": x, "labels": y}, training=True))
    data = data.map(lambda both: (both["images"], both["labels"]))
    model = EfficientNet(weights=None, input_shape=SHAPE)
    model.compile("sgd", "categorical_crossentropy")
    return history(model.fit(data, verbose=0))


def resized_inside_the_model(EfficientNet):
    """Images of any side, resized by the model itself."""
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Resizing(32, 32, crop_to_aspect_ratio=True)(inputs)
    model = keras.Model(inputs, EfficientNet(weights=None, input_shape=SHAPE)(x))
    model.save("any.keras")
    again = keras.saving.load_model("any.keras")
    return again.predict(batch(2, 50), verbose=0), again.input_shape


def inputs_that_do_not_fit(EfficientNet):
    """Other sides, channels and ranks than the model was built for."""
    model = EfficientNet(weights=None, input_shape=SHAPE)
    wrong = {"side": batch(side=40), "channels": batch(channels=4), "rank": IMAGES[0]}
    return {
        name: outcome(lambda x=x: model.predict(x, verbose=0).shape) for name, x in wrong.items()
    }
