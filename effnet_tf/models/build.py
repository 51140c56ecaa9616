"""How does a variant become a Keras model?

`resolve` turns its row into plain numbers, `graph` these into layers, and weights are loaded
into the result: `model_fn` for classifiers, `feature_extractor` for intermediate maps.
"""

import os
from collections.abc import Sequence

import keras

from effnet_tf import (
    optim,  # noqa: F401  registers what saved models may hold
    variants,
)
from effnet_tf.errors import InputError
from effnet_tf.layers.shapes import Shape
from effnet_tf.models import graph
from effnet_tf.variants import Variant
from effnet_tf.weights import loading

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
    variant: str | Variant,
    num_classes: int | None = None,
    *,
    include_top: bool = True,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Shape | None = None,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    dropout_rate: float | None = None,
    drop_connect_rate: float = 0.2,
    preprocessing: bool | str = True,
    name: str | None = None,
) -> keras.Model:
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
    if not include_top:
        num_classes = dropout_rate = None  # whatever they are, nothing takes them
    network = variants.resolve(
        variant,
        num_classes=num_classes,
        channels=graph.channels_of(input_tensor, input_shape),
        dropout_rate=dropout_rate,
        drop_connect_rate=drop_connect_rate,
        preprocessing=preprocessing,
    )
    if input_shape is None and include_top:
        input_shape = (network.side, network.side, 3)
    inputs, images = graph.images(network, input_tensor, input_shape)
    endpoints = graph.features(network, images)
    if include_top:
        endpoints |= graph.classifier(network, endpoints["head"], classifier_activation)
        outputs = endpoints["logits"]
    else:
        outputs = graph.pool(endpoints["head"], pooling)
    model = keras.Model(inputs, outputs, name=name or f"efficientnet-{network.name}")
    _load(model, weights, variant)
    return model


def feature_extractor(
    variant: str | Variant,
    endpoints: str | Sequence[str] = ENDPOINTS[1:6],
    *,
    output_stride: int = 32,
    num_classes: int | None = None,
    weights: str | os.PathLike | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: Shape | None = (None, None, 3),
    drop_connect_rate: float = 0.2,
    preprocessing: bool | str = True,
    name: str | None = None,
) -> keras.Model:
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
    wanted = _endpoint_names(endpoints)
    network = variants.resolve(
        variant,
        num_classes=num_classes,
        channels=graph.channels_of(input_tensor, input_shape),
        drop_connect_rate=drop_connect_rate,
        output_stride=output_stride,
        preprocessing=preprocessing,
    )
    if input_shape is None:
        input_shape = (network.side, network.side, 3)
    inputs, images = graph.images(network, input_tensor, input_shape)
    found = graph.features(network, images)
    found |= graph.classifier(network, found["head"], activation=None)
    model = keras.Model(
        inputs,
        {endpoint: found[ours] for endpoint, ours in wanted.items()},
        name=name or f"efficientnet-{network.name}-features",
    )
    _load(model, weights, variant)
    return model


def _load(model, weights, variant):
    if weights is not None:
        loading.load_weights(model, weights, adapt=True, variant=variant)


def _endpoint_names(endpoints):
    """Returns {endpoint as it was called: our name of it}."""
    if isinstance(endpoints, str):
        endpoints = [endpoints]
    wanted = {endpoint: _PYRAMID.get(endpoint, endpoint) for endpoint in endpoints}
    known = f"known: {', '.join((*ENDPOINTS, *_PYRAMID))}."
    for endpoint, ours in wanted.items():
        if ours not in ENDPOINTS:
            raise InputError(f"There is no endpoint '{endpoint}'; {known}")
    if not wanted:
        raise InputError(f"No endpoint was named; {known}")
    return wanted
