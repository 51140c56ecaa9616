"""models/counting.py: what a built model costs, against the stage table and published counts."""

import keras
import pytest
import tensorflow as tf
from keras import layers as L

import effnet_tf
from effnet_tf.errors import InputError

SIDE = 64


def build(name="b0", flat=False, **options):
    options = {"weights": None, "input_shape": (SIDE, SIDE, 3), **options}
    return effnet_tf.model_fn(name, flat=flat, **options)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("name", ["b0", "lite0", "edgetpu-s"])
def test_both_forms_cost_what_the_table_says(name, flat):
    assert effnet_tf.cost(build(name, flat)) == effnet_tf.cost(name, resolution=SIDE)


@pytest.fixture(scope="module")
def any_size():
    """A backbone that takes any size, with a head of the user's, and half of it frozen."""
    network = build(flat=True, input_shape=(None, None, 3), include_top=False)
    for layer in network.layers[:100]:
        layer.trainable = False
    outputs = L.Dense(7)(L.GlobalAveragePooling2D()(network.output))
    return keras.Model(network.input, outputs)


def test_heads_and_frozen_parts(any_size):
    counted = effnet_tf.cost(any_size, resolution=65)
    rest = effnet_tf.cost("b0", resolution=65, num_classes=7)
    assert counted.params == rest.params and counted.multiply_adds == rest.multiply_adds
    assert counted.activation_bytes == rest.activation_bytes
    assert 0 < counted.trainable_params < rest.trainable_params


def test_a_network_inside_another_and_a_second_input():
    image = keras.Input((SIDE, SIDE, 3), name="image")
    row = keras.Input((4,), name="row")
    joined = L.Concatenate()([build(include_top=False, pooling="avg")(image), row])
    counted = effnet_tf.cost(keras.Model({"image": image, "row": row}, L.Dense(2)(joined)))
    alone = effnet_tf.cost("b0", resolution=SIDE, num_classes=1)
    assert counted.multiply_adds == alone.multiply_adds - 1280 + (1280 + 4) * 2


def test_published_counts_of_others():
    """Tan & Le, table 2 (B0), and MobileNetV2's 300.8 M, as its authors' table rounds it."""
    other = keras.applications.MobileNetV2(weights=None)
    assert effnet_tf.cost(other).multiply_adds == 300_774_272
    assert effnet_tf.cost(other).params == 3_538_984


def test_transposed_convolutions_and_functions():
    @tf.function
    def twice(values):
        return tf.matmul(values, tf.ones((6, 2)))

    inputs = keras.Input((8, 8, 3))
    wide = L.Conv2DTranspose(5, 3, strides=2, padding="same")(inputs)
    end = L.Lambda(twice, output_shape=(2,))(L.Dense(6)(L.GlobalMaxPooling2D()(wide)))
    counted = effnet_tf.cost(keras.Model(inputs, end))
    assert counted.multiply_adds == 8 * 8 * 3 * 3 * 3 * 5 + 5 * 6 + 6 * 2
    assert counted.activation_bytes == 4 * (16 * 16 * 5 + 6 + 2)


def test_what_cannot_be_counted(any_size):
    with pytest.raises(InputError, match=r"takes images of any size: pass resolution"):
        effnet_tf.cost(any_size)
    with pytest.raises(InputError, match=r"has its classes"):
        effnet_tf.cost(any_size, num_classes=3)
    with pytest.raises(InputError, match=r"cannot take images of 32 pixels: build it for"):
        effnet_tf.cost(build(), resolution=32)
    with pytest.raises(InputError, match=r"is not built yet"):
        effnet_tf.cost(keras.Sequential([L.Dense(2)]))
    with pytest.raises(InputError, match=r"keras.Model belongs here, not 3"):
        effnet_tf.cost(3)
    sequence = keras.Model(rows := keras.Input((5, 3)), L.GRU(2)(rows))
    with pytest.raises(InputError, match=r"holds a loop \("):
        effnet_tf.cost(sequence)


def test_a_size_that_the_pixels_decide():
    @tf.function
    def bright(pixels):
        return tf.boolean_mask(pixels, pixels[..., 0] > 0)

    inputs = keras.Input((8, 8, 3))
    chosen = L.Lambda(bright, output_shape=(3,))(inputs)
    with pytest.raises(InputError, match=r"takes a size from its pixels \("):
        effnet_tf.cost(keras.Model(inputs, L.Dense(2)(chosen)))
