"""What would keras.applications' EfficientNet-EdgeTPU be, if it had one?

Its own blocks where they are MBConv, and a fused block of stock layers with names like theirs.
"""

import keras
from keras.src.applications import efficientnet, imagenet_utils

WEIGHTS = efficientnet.CONV_KERNEL_INITIALIZER


def conv_bn(x, filters, size, strides, name, activation=None):
    """A convolution, batch norm and perhaps an activation: `..._conv`, `..._bn`, ..."""
    x = keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=WEIGHTS,
        name=f"{name}_conv",
    )(x)
    x = keras.layers.BatchNormalization(name=f"{name}_bn")(x)
    if activation is None:
        return x
    return keras.layers.Activation(activation, name=f"{name}_activation")(x)


def fused_block(inputs, activation, drop_rate, name, **row):
    """A k x k convolution expands, with the strides; a 1 x 1 one projects."""
    expanded = row["filters_in"] * row["expand_ratio"]
    x = conv_bn(inputs, expanded, row["kernel_size"], row["strides"], f"{name}expand", activation)
    x = conv_bn(x, row["filters_out"], 1, 1, f"{name}project")
    if row["id_skip"] and row["strides"] == 1 and row["filters_in"] == row["filters_out"]:
        if drop_rate > 0:
            shape = (None, 1, 1, 1)
            x = keras.layers.Dropout(drop_rate, noise_shape=shape, name=f"{name}drop")(x)
        x = keras.layers.Add(name=f"{name}add")([x, inputs])
    return x


def body(x, width, rows, activation):
    """Everything before the classifier; `rows` are arguments of blocks, with `fused`, `repeats`."""
    x = keras.layers.Normalization(axis=3)(keras.layers.Rescaling(1 / 255.0)(x))
    x = keras.layers.ZeroPadding2D(imagenet_utils.correct_pad(x, 3), name="stem_conv_pad")(x)
    x = keras.layers.Conv2D(
        _rounded(32, width), 3, 2, use_bias=False, kernel_initializer=WEIGHTS, name="stem_conv"
    )(x)
    x = keras.layers.BatchNormalization(name="stem_bn")(x)
    x = keras.layers.Activation(activation, name="stem_activation")(x)
    built, count = 0, sum(row["repeats"] for row in rows)
    for stage, row in enumerate(rows, 1):
        row = row | {key: _rounded(row[key], width) for key in ("filters_in", "filters_out")}
        kind = fused_block if row.pop("fused") else efficientnet.block
        for number in range(row.pop("repeats")):
            if number:
                row |= dict(strides=1, filters_in=row["filters_out"])
            name = f"block{stage}{chr(97 + number)}_"
            x = kind(x, activation, drop_rate=0.2 * built / count, name=name, **row)
            built += 1
    return conv_bn(x, _rounded(1280, width), 1, 1, "top", activation)


def _rounded(filters, width):
    return max(8, int(filters * width + 4) // 8 * 8)


def build(width, rows, activation, dropout_rate, default_size, **arguments):
    """Builds the model as keras.applications builds its own, with the same arguments."""
    tensor = arguments["input_tensor"]
    shape = imagenet_utils.obtain_input_shape(
        arguments["input_shape"],
        default_size=default_size,
        min_size=32,
        data_format="channels_last",
        require_flatten=arguments["include_top"],
        weights=arguments["weights"],
    )
    images = keras.Input(shape) if tensor is None else tensor
    x = body(images, width, rows, activation)
    if arguments["include_top"]:
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
        x = keras.layers.Dropout(dropout_rate, name="top_dropout")(x)
        activation = arguments["classifier_activation"]
        x = keras.layers.Dense(arguments["classes"], activation=activation, name="predictions")(x)
    elif arguments["pooling"] == "avg":
        x = keras.layers.GlobalAveragePooling2D(name="avg_pool")(x)
    elif arguments["pooling"] == "max":
        x = keras.layers.GlobalMaxPooling2D(name="max_pool")(x)
    inputs = images if tensor is None else keras.utils.get_source_inputs(tensor)
    model = keras.Model(inputs, x, name=arguments["name"])
    if arguments["weights"] is not None:
        model.load_weights(arguments["weights"])
    return model
