"""How does a variant become a Keras model?

`model_fn` builds any variant, `feature_extractor` its intermediate maps, and
`EfficientNetB0` ... `EfficientNetEdgeTPULarge` are the same with the arguments of
`keras.applications`. All arithmetic is in `config.blocks`.

The layers outside the blocks carry the names they have in keras.applications
(`stem_conv`, `top_activation`, `avg_pool`, `predictions`), so that programs that
look them up keep working.
"""

import keras

from effnet_tf import (
    extras,
    layers,
    optim,  # noqa: F401  registers what load_model may meet
    variants,
)
from effnet_tf.errors import InputError
from effnet_tf.layers import mbconv
from effnet_tf.weights import claims, loading

ENDPOINTS = (
    "stem",
    "reduction_1",
    "reduction_2",
    "reduction_3",
    "reduction_4",
    "reduction_5",
    "head",
    "pooled_features",
    "logits",
)
_PYRAMID = {f"P{i}": f"reduction_{i}" for i in range(1, 6)}  # the names of detection papers


def model_fn(
    variant,
    num_classes=None,
    *,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classifier_activation="softmax",
    dropout_rate=None,
    drop_connect_rate=0.2,
    preprocessing=True,
    name=None,
):
    """Builds an EfficientNet of any variant.

    The architecture is the same for every value of `weights`: the model takes pixels in
    [0, 255] and normalises them with the constants that belong to the weights, by default
    those of its family (B: ImageNet mean and deviation; Lite and EdgeTPU: (x - 127) / 128).

    Args:
        variant: a name of `effnet_tf.VARIANTS`, or a `Variant`.
        num_classes: classes of the classifier; by default the variant's (1000, or 1001
            for EdgeTPU, whose class 0 is the background).
        include_top: whether pooling, dropout and classifier follow the head.
        weights: None for random ones; a file, see `effnet_tf.load_weights`; or the name of
            published weights, which are downloaded once: "imagenet" (for B0 to B7 those of
            keras.applications), "autoaugment", "randaugment", "advprop",
            "noisy-student", "noisy-student-475" (L2), "baseline", each for the variants
            it was published for. With another `num_classes` the classifier stays random,
            with other channels the stem is adapted; both are printed.
        input_tensor: a Keras tensor to build on, instead of a new input.
        input_shape: (H, W, C); sides of at least 32 pixels or None. By default the
            variant's resolution with a classifier, (None, None, 3) without.
        pooling: without a classifier: None for the feature map, "avg" or "max".
        classifier_activation: activation of the classifier; None gives logits.
        dropout_rate: of the dropout before the classifier, in [0, 1); by default the
            variant's.
        drop_connect_rate: end of the ramp of stochastic depth, in [0, 1); paper 0.2.
        preprocessing: True for the constants above; "imagenet", "inception"
            (x * 2 / 255 - 1, as AdvProp's checkpoints need) or "lite" for these; False
            for a model whose caller normalises the pixels. Weights that say it themselves
            (by name, and files of Keras) win, and it is printed.
        name: of the model; by default "efficientnet-" and the variant.

    Returns:
        A `keras.Model` from images (N, H, W, C), uint8 or float in [0, 255], to
        - class scores (N, num_classes), float32 under every dtype policy, or
        - without top, the head's feature map (N, H/32, W/32, F), or (N, F) if pooled.

    Raises:
        InputError: unknown variant, a side below 32, another bad argument, or weights
            that do not fit.
    """
    variant = variants.find_variant(variant)
    extras.require_reader(weights)
    inputs, endpoints = _network(
        variant,
        num_classes=num_classes,
        input_tensor=input_tensor,
        input_shape=input_shape,
        include_top=include_top,
        activation=classifier_activation,
        dropout_rate=dropout_rate,
        drop_connect_rate=drop_connect_rate,
        preprocessing=preprocessing,
    )
    if include_top:
        outputs = endpoints["logits"]
    else:
        outputs = _pool(endpoints["head"], pooling)
    model = keras.Model(inputs, outputs, name=name or f"efficientnet-{variant.name}")
    if weights is not None:
        loading.load_weights(model, weights, adapt=True, variant=variant)
    return model


def feature_extractor(
    variant,
    endpoints=ENDPOINTS[1:6],
    *,
    output_stride=32,
    num_classes=None,
    weights=None,
    input_tensor=None,
    input_shape=(None, None, 3),
    drop_connect_rate=0.2,
    preprocessing=True,
    name=None,
):
    """Builds the model of a variant's named intermediate results.

    | endpoint | what | shape for an input (N, H, W, 3) |
    |---|---|---|
    | stem | after the stem's activation | (N, H/2, W/2, F) |
    | reduction_1, P1 | the last block of stride 2 | (N, H/2, W/2, F), b0: F = 16 |
    | reduction_2, P2 | of stride 4 | (N, H/4, W/4, F), b0: 24 |
    | reduction_3, P3 | of stride 8 | (N, H/8, W/8, F), b0: 40 |
    | reduction_4, P4 | of stride 16 | (N, H/16, W/16, F), b0: 112 |
    | reduction_5, P5 | of stride 32 | (N, H/32, W/32, F), b0: 320 |
    | head | after the head's activation | (N, H/32, W/32, F) |
    | pooled_features | their mean over the map | (N, F) |
    | logits | the classifier without activation | (N, num_classes) |

    Sides are rounded up at every stride (SAME padding). `block.filters` of
    `effnet_tf.blocks(variant)` where `block.reduction` is i are the F of reduction_i.

    Args:
        variant: a name of `effnet_tf.VARIANTS`, or a `Variant`.
        endpoints: a name from the table, or several; by default reduction_1..5.
        output_stride: 32, or 16 or 8 for segmentation: no map is smaller than H over
            this, and the last stages are dilated instead. The weights are the same. On
            sides of 32 k + 1 pixels the samples of both networks coincide (DeepLab), but
            for the squeeze's mean, which is over more pixels.
        num_classes: classes of the classifier; by default the variant's.
        weights: None, a file or a name, as for `model_fn`. Only what the endpoints need
            is built, and only that is loaded.
        input_tensor: a Keras tensor to build on, instead of a new input.
        input_shape: (H, W, C), sides of at least 32 pixels or None.
        drop_connect_rate: as for `model_fn`.
        preprocessing: as for `model_fn`.
        name: of the model.

    Returns:
        A `keras.Model` from images in [0, 255] to a dict from endpoint, as it was called,
        to float tensor.

    Raises:
        InputError: unknown variant or endpoint, or a bad argument of `model_fn`.

    Example:
        >>> feature_extractor("b0", ["reduction_3"])(images)["reduction_3"]  # (N, H/8, W/8, 40)
    """
    variant = variants.find_variant(variant)
    endpoints = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    ours = {endpoint: _PYRAMID.get(endpoint, endpoint) for endpoint in endpoints}
    unknown = [endpoint for endpoint in endpoints if ours[endpoint] not in ENDPOINTS]
    if unknown or not endpoints:
        raise InputError(
            f"There is no endpoint '{unknown[0] if unknown else ''}'; "
            f"known: {', '.join((*ENDPOINTS, *_PYRAMID))}."
        )
    extras.require_reader(weights)
    inputs, found = _network(
        variant,
        num_classes=num_classes,
        input_tensor=input_tensor,
        input_shape=input_shape,
        include_top=True,
        activation=None,
        dropout_rate=None,
        drop_connect_rate=drop_connect_rate,
        preprocessing=preprocessing,
        output_stride=output_stride,
    )
    model = keras.Model(
        inputs,
        {endpoint: found[name] for endpoint, name in ours.items()},
        name=name or f"efficientnet-{variant.name}-features",
    )
    if weights is not None:
        loading.load_weights(model, weights, adapt=True, variant=variant)
    return model


def load_model(path, compile=True):
    """Loads a `.keras` file that holds layers, or an optimiser, of this package.

    As `keras.saving.load_model`, which needs them registered first: in a program that
    only loads, nothing else would import them.

    Args:
        path: the `.keras` file.
        compile: whether to restore the optimiser, loss and metrics too.

    Returns:
        The `keras.Model`.

    Raises:
        InputError: the file reaches outside itself, claims more than it can hold, or has
            weights that are not finite.
    """
    claims.check_keras_file(str(path))
    model = keras.saving.load_model(path, compile=compile)
    loading.refuse_not_finite(
        path,
        {
            variable.path: variable.numpy()
            for variable in model.weights
            if "float" in variable.dtype
        },
    )
    return model


def _network(
    variant,
    *,
    num_classes,
    input_tensor,
    input_shape,
    include_top,
    activation,
    dropout_rate,
    drop_connect_rate,
    preprocessing,
    output_stride=32,
):
    """Builds the graph of a variant; returns (inputs, dict from endpoint to tensor)."""
    inputs, x = _input(variant, input_tensor, input_shape, include_top)
    network = variants.resolve(
        variant,
        channels=x.shape[-1],
        drop_connect_rate=drop_connect_rate,
        output_stride=output_stride,
        preprocessing=preprocessing,
    )
    endpoints = {}
    if network.mean:
        x = layers.Normalize(network.mean, network.std, name="normalization")(x)
    stem, head = network.stem.filters, network.head.filters
    x = endpoints["stem"] = _conv_bn_activation(x, stem, 3, 2, variant.activation, "stem")
    for block in network.blocks:
        x = _block_layer(block, variant.activation)(x)
        if block.reduction is not None:
            endpoints[f"reduction_{block.reduction}"] = x
    x = endpoints["head"] = _conv_bn_activation(x, head, 1, 1, variant.activation, "top")
    if include_top:
        _add_top(variant, endpoints, num_classes, activation, dropout_rate)
    return inputs, endpoints


def _input(variant, input_tensor, input_shape, include_top):
    """Returns (the model's inputs, the image tensor), checked."""
    if input_tensor is not None:
        tensor = input_tensor
        if not keras.backend.is_keras_tensor(tensor):
            raise InputError("input_tensor is not a Keras tensor; make one with keras.Input.")
        inputs = keras.utils.get_source_inputs(tensor)
        _check_shape(tuple(tensor.shape[1:]), variant)
        return inputs[0] if len(inputs) == 1 else inputs, tensor
    if input_shape is None:
        side = variant.resolution if include_top else None
        input_shape = (side, side, 3)
    _check_shape(tuple(input_shape), variant)
    inputs = keras.Input(input_shape, name="input_layer")
    return inputs, inputs


def _check_shape(shape, variant):
    if len(shape) != 3 or shape[2] is None or shape[2] < 1:
        raise InputError(
            f"The input shape is {shape}; it must be (height, width, channels), "
            "of which height and width may be None."
        )
    for side in shape[:2]:
        if side is not None:
            variants.check_resolution(side, f"variant '{variant.name}'")


def _conv_bn_activation(x, filters, kernel_size, strides, activation, prefix):
    x = layers.conv(filters, kernel_size, strides, f"{prefix}_conv")(x)
    x = layers.batch_norm(f"{prefix}_bn")(x)
    return keras.layers.Activation(activation, name=f"{prefix}_activation")(x)


def _block_layer(block, activation):
    layer = mbconv.FusedMBConv if block.fused else mbconv.MBConv
    return layer(
        block.filters,
        block.expanded_filters,
        block.kernel_size,
        block.strides,
        block.se_filters,
        block.drop_connect_rate,
        activation,
        block.skip,
        block.dilation_rate,
        name=block.name,
    )


def _add_top(variant, endpoints, num_classes, activation, dropout_rate):
    """Adds pooled_features and logits (activated, if `activation`) to `endpoints`."""
    num_classes = variant.num_classes if num_classes is None else num_classes
    rate = variant.dropout_rate if dropout_rate is None else dropout_rate
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}; it must be at least 1.")
    if not 0 <= rate < 1:
        raise InputError(f"dropout_rate is {rate}; it must be in [0, 1).")
    # float32 from here on under every dtype policy.
    x = keras.layers.GlobalAveragePooling2D(
        data_format="channels_last", dtype="float32", name="avg_pool"
    )(endpoints["head"])
    endpoints["pooled_features"] = x
    if rate > 0:
        x = layers.Dropout(rate, dtype="float32", name="top_dropout")(x)
    endpoints["logits"] = keras.layers.Dense(
        num_classes,
        activation=activation,
        kernel_initializer=layers.dense_initializer(),
        dtype="float32",
        name="predictions",
    )(x)


def _pool(x, pooling):
    if pooling is None:
        return x
    if pooling == "avg":
        return keras.layers.GlobalAveragePooling2D("channels_last", name="avg_pool")(x)
    if pooling == "max":
        return keras.layers.GlobalMaxPooling2D("channels_last", name="max_pool")(x)
    raise InputError(f"pooling is {pooling!r}; it must be None, 'avg' or 'max'.")


def _constructor(function_name, variant_name):
    """Makes the drop-in constructor of one variant."""
    variant = variants.VARIANTS[variant_name]

    def build(
        include_top=True,
        weights="imagenet",
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=variant.num_classes,
        classifier_activation="softmax",
        name=function_name.lower(),  # noqa: B008  (of the constructor, not of a call)
        *,
        dropout_rate=None,
        drop_connect_rate=0.2,
        preprocessing=True,
    ):
        return model_fn(
            variant,
            classes,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classifier_activation=classifier_activation,
            dropout_rate=dropout_rate,
            drop_connect_rate=drop_connect_rate,
            preprocessing=preprocessing,
            name=name,
        )

    build.__name__ = build.__qualname__ = function_name
    build.__doc__ = _constructor_doc(variant)
    return build


def _constructor_doc(variant):
    return f"""Builds EfficientNet-{variant.name.upper()}, as keras.applications does.

    The arguments are those of `keras.applications.EfficientNetB0`, and its meaning is
    kept: pixels in [0, 255], `include_top=False` gives the feature map of
    `top_activation`. What differs is that the architecture does not change with
    `weights`. `model_fn` explains every argument.

    Args:
        include_top: whether pooling, dropout and classifier are there.
        weights: "imagenet" or another published name, a file, or None for random weights.
        input_tensor: a Keras tensor to build on.
        input_shape: (H, W, C), by default {variant.resolution} pixels with a classifier.
        pooling: without a classifier: None, "avg" or "max".
        classes: classes of the classifier.
        classifier_activation: activation of the classifier; None gives logits.
        name: of the model.
        dropout_rate: before the classifier; by default {variant.dropout_rate}.
        drop_connect_rate: end of the ramp of stochastic depth; paper 0.2.
        preprocessing: "imagenet", "inception" or "lite"; False where the caller normalises
            the pixels; True for what belongs to the weights.

    Returns:
        A `keras.Model` from images (N, H, W, C) in [0, 255] to float32 class scores
        (N, classes), or to features.

    Raises:
        InputError: a bad argument; the sentence says which.
    """


CONSTRUCTORS = {
    **{f"EfficientNetB{n}": f"b{n}" for n in range(9)},
    "EfficientNetL2": "l2",
    **{f"EfficientNetLite{n}": f"lite{n}" for n in range(5)},
    **{
        f"EfficientNetEdgeTPU{size}": f"edgetpu-{size[0].lower()}"
        for size in ("Small", "Medium", "Large")
    },
}
for _name, _variant in CONSTRUCTORS.items():
    globals()[_name] = _constructor(_name, _variant)
