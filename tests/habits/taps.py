"""Which layers inside a network are tapped, for segmentation, detection and explanation?"""

import keras
import numpy as np
import tensorflow as tf

from tests.habits.facts import history, norm, shape, trainable

TALL = True  # networks of all stages: the names of their layers matter
SIDE = 32
IMAGES = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3)).astype("float32")
SKIPS = (
    "block6a_expand_activation",
    "block4a_expand_activation",
    "block3a_expand_activation",
    "block2a_expand_activation",
)
# EfficientNetV2's first blocks expand and stride in one: what they end with is tapped.
SKIPS_OF_V2 = (*SKIPS[:2], "block2a_project_bn", "block1a_project_activation")


def _base(EfficientNet):
    return EfficientNet(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))


def a_unet(EfficientNet):
    """segmentation_models' decoder on the expanded maps before each stride."""
    base = _base(EfficientNet)
    x = base.output
    skips = SKIPS_OF_V2 if EfficientNet.family == "v2-s" else SKIPS
    for number, name in enumerate(skips):
        x = keras.layers.UpSampling2D()(x)
        x = keras.layers.Concatenate()([x, base.get_layer(name).output])
        x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name=f"up{number}")(x)
    x = keras.layers.Conv2D(2, 3, padding="same", activation="softmax")(
        keras.ops.image.resize(x, (SIDE, SIDE))
    )
    model = keras.Model(base.input, x)
    model.compile("adam", "sparse_categorical_crossentropy")
    masks = (IMAGES[..., :1] > 128).astype("int32")
    maps = {name: shape(base.get_layer(name).output) for name in skips}
    return maps, history(model.fit(IMAGES, masks, verbose=0)), norm(model(IMAGES))


def a_pyramid(EfficientNet):
    """FPN on P3 to P5, with heads for classes and boxes shared by its levels."""
    base = _base(EfficientNet)
    last = base.get_layer("top_conv")._inbound_nodes[0].parent_nodes[0].operation.name
    names = ("block3a_project_bn", "block5a_project_bn", last)
    maps = [keras.layers.Conv2D(8, 1)(base.get_layer(name).output) for name in names]
    for level in (1, 0):
        maps[level] = keras.layers.Add()(
            [maps[level], keras.layers.UpSampling2D()(maps[level + 1])]
        )
    classes = keras.layers.Conv2D(4, 3, padding="same", name="classes")
    boxes = keras.layers.Conv2D(4, 3, padding="same", name="boxes")
    outputs = [
        keras.layers.Reshape((-1, 8))(keras.ops.concatenate([classes(m), boxes(m)], -1))
        for m in maps
    ]
    model = keras.Model(base.input, keras.ops.concatenate(outputs, axis=1))
    return [shape(m) for m in maps], trainable(model), norm(model(IMAGES))


def deeplab(EfficientNet):
    """Dilated convolutions on a deep map, joined with a shallow one."""
    base = _base(EfficientNet)
    deep = base.get_layer("block6a_expand_activation").output
    shallow = base.get_layer("block3a_expand_activation").output
    rates = [
        keras.layers.Conv2D(8, 3, padding="same", dilation_rate=r, use_bias=False)(deep)
        for r in (1, 2, 4)
    ]
    x = keras.layers.Concatenate()(rates)
    x = keras.layers.UpSampling2D(shallow.shape[1] // x.shape[1], interpolation="bilinear")(x)
    x = keras.layers.Concatenate()([x, keras.layers.Conv2D(4, 1)(shallow)])
    model = keras.Model(base.input, keras.layers.Conv2D(2, 1)(x))
    return shape(deep), shape(shallow), norm(model(IMAGES))


def grad_cam(EfficientNet):
    """keras.io/examples/vision/grad_cam, on a whole network."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classes=3)
    last = model.get_layer("top_activation")
    model.layers[-1].activation = None
    grad_model = keras.Model(model.inputs, [last.output, model.output])
    with tf.GradientTape() as tape:
        found, scores = grad_model(IMAGES)
        best = tf.gather(scores, tf.argmax(scores, axis=1), axis=1, batch_dims=1)
    grads = tape.gradient(best, found)
    heat = tf.nn.relu(tf.reduce_sum(found * tf.reduce_mean(grads, (1, 2), keepdims=True), -1))
    return last.name, shape(heat), np.array(scores), np.array(heat)


def grad_cam_nested(EfficientNet):
    """The network is a layer of the model; the map comes out of it, then the head is run."""
    base = _base(EfficientNet)
    inputs = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.GlobalAveragePooling2D()(base(inputs))
    model = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="ones")(x))
    inner = model.get_layer("efficientnet")
    maps = keras.Model(inner.inputs, inner.get_layer("top_activation").output)
    with tf.GradientTape() as tape:
        found = maps(IMAGES)
        tape.watch(found)
        y = found
        for layer in model.layers[2:]:
            y = layer(y)
    return norm(found), norm(tape.gradient(y[:, 0], found)), norm(model(IMAGES) - y)


def every_convolution_shown(EfficientNet):
    """A model of the outputs of all layers whose name holds "conv"."""
    base = _base(EfficientNet)
    chosen = [layer for layer in base.layers if "conv" in layer.name]
    outputs = keras.Model(base.inputs, [layer.output for layer in chosen]).predict(
        IMAGES, verbose=0
    )
    return {layer.name: (map.shape, norm(map)) for layer, map in zip(chosen, outputs)}


def all_layers_and_shapes(EfficientNet):
    """Names, order, kinds, shapes and parameters of the layers."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3))
    return [
        (layer.name, type(layer).__name__, shape(layer.output), layer.count_params())
        for layer in model.layers
    ]


def all_configs(EfficientNet):
    """What each layer says of itself, but for the initial values.

    And but for the dtype under mixed precision: ours keeps means and scores in float32.
    """
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3))
    ignored = ["kernel_initializer", "depthwise_initializer", "bias_initializer", "seed"]
    if keras.config.dtype_policy().name != "float32":
        ignored.append("dtype")
    return [
        {key: value for key, value in layer.get_config().items() if key not in ignored}
        for layer in model.layers
    ]


def all_variables(EfficientNet):
    """Paths, shapes and dtypes of the variables, in order; those that train apart."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3))
    found = [(weight.path, list(weight.shape), weight.dtype) for weight in model.weights]
    return found, [weight.path for weight in model.trainable_weights]


def the_summary(EfficientNet):
    """Every line that summary() prints."""
    lines = []
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3))
    model.summary(print_fn=lines.append, line_length=120, show_trainable=True)
    return "\n".join(lines).splitlines()


def the_graph(EfficientNet):
    """Which layers come before each, as tools that walk a graph find it."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3))
    found = {}
    for layer in model.layers:
        node = layer._inbound_nodes[0]
        found[layer.name] = [parent.operation.name for parent in node.parent_nodes]
    return found


def style_and_content(EfficientNet):
    """Gram matrices of shallow maps, and a deep map, for a loss on pictures."""
    base = _base(EfficientNet)
    base.trainable = False
    names = ("block1a_project_bn", "block3a_dwconv", "block4a_se_excite", "block5a_project_bn")
    names = [name for name in names if name in {layer.name for layer in base.layers}]
    taps = keras.Model(base.input, {name: base.get_layer(name).output for name in names})
    found = taps(IMAGES)
    grams = {name: tf.einsum("nhwa,nhwb->nab", each, each) for name, each in found.items()}
    return {name: norm(gram) for name, gram in grams.items()}


def a_saliency_map(EfficientNet):
    """The gradient of the best class by the pixels, averaged over darker images."""
    model = EfficientNet(weights=None, input_shape=(SIDE, SIDE, 3), classifier_activation=None)
    total = 0
    for part in (0.5, 1.0):
        images = tf.constant(IMAGES * part)
        with tf.GradientTape() as tape:
            tape.watch(images)
            best = tf.reduce_max(model(images, training=False), axis=1)
        total += tape.gradient(best, images)
    return norm(total), np.array(tf.reduce_max(tf.abs(total), axis=-1))


def the_maps_by_index(EfficientNet):
    """Layers by number, from the front and from the back."""
    base = _base(EfficientNet)
    found = [base.get_layer(index=index).name for index in (0, 3, 10, 30, -1)]
    cut = keras.Model(base.input, base.layers[-25].output)
    return len(base.layers), found, shape(cut.output), norm(cut(IMAGES))


def the_maps_halve(EfficientNet):
    """The last layer before each halving, found by walking the shapes."""
    base = _base(EfficientNet)
    last = {}
    for layer in base.layers:
        if len(layer.output.shape) == 4 and "pad" not in layer.name:
            last[layer.output.shape[1]] = layer.name
    return last
