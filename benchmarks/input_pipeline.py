"""How much CPU time does one training image cost, beside other pipelines' structures?

    pip install 'effnet_tf[cpu]' keras-cv==0.9.0
    python benchmarks/input_pipeline.py                     # about 5 minutes on 2 cores
    python benchmarks/input_pipeline.py --only libjpeg,flax --rounds 40

Every contender is a tf.data pipeline from JPEG bytes in memory to batches, two images at a
time. They take turns in one process, and a figure is the ratio of its CPU time (of all
threads) to that of ours in the same round: a busy machine slows both. Absolute times are
for orientation only. Without keras_cv, its rows are skipped.

The peers' structures are written here from what is known of them: which operations, in
which order and form. None of their code is used, but that of keras_cv, which is called.
They do not read or shuffle files; the rows "api", our whole `data.training`, do.
Writes input_pipeline.json beside this file.
"""

import dataclasses
import functools
import json
import math
import os
import pathlib
import sys
import tempfile
import time
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from effnet_tf import extras  # noqa: E402

extras.require_or_exit("This benchmark", "tensorflow", "keras")

import numpy as np  # noqa: E402
import pairs  # noqa: E402  (beside this file)
import tensorflow as tf  # noqa: E402

import effnet_tf  # noqa: E402
from effnet_tf import data
from effnet_tf.data import augment, crops, policies  # noqa: E402

RESULTS = pathlib.Path(__file__).resolve().parent / "input_pipeline.json"
THREADS = 2
BATCH = 32
CROP = {"crop_area_min": 0.08, "crop_padding": 32}
LAYERS, MAGNITUDE = 2, 10
WARM_UP = 3  # rounds
LARGE = "4000x3000"


# --- photographs ---------------------------------------------------------------------------

# ImageNet: mostly about 500 x 375, 110 KB. Rows: share, (height, width).
SHAPES = ((0.55, (375, 500)), (0.2, (500, 375)), (0.15, (333, 500)), (0.1, (400, 400)))
BYTES_PER_PIXEL = 110_000 / (500 * 375)
LARGE_SHAPE, LARGE_BYTES_PER_PIXEL = (3000, 4000), 0.25  # of a phone


def photographs(count, seed=0):
    """Returns (JPEGs of ImageNet's shapes and byte counts, their qualities)."""
    random = np.random.default_rng(seed)
    shares, shapes = zip(*SHAPES)
    # Whole numbers of each shape: every seed costs the same.
    ends = np.round(np.cumsum(shares) * count)
    shapes = [shapes[int(np.searchsorted(ends, number, side="right"))] for number in range(count)]
    return zip(
        *(
            _jpeg(
                _scene(random, *shape),
                math.prod(shape) * BYTES_PER_PIXEL * random.lognormal(-0.03, 0.25),
            )
            for shape in random.permutation(shapes)
        )
    )


def large_photographs(count, seed=0):
    """Returns (JPEGs of 12 megapixels, their qualities)."""
    random = np.random.default_rng(seed)
    return zip(
        *(
            _jpeg(_scene(random, *LARGE_SHAPE), math.prod(LARGE_SHAPE) * LARGE_BYTES_PER_PIXEL)
            for _ in range(count)
        )
    )


def _scene(random, height, width):
    """Draws a scene with a photograph's spectrum (amplitude 1/f), edges and rough patches."""

    def cloud(power):
        noise = np.fft.rfft2(random.standard_normal((height, width), np.float32))
        frequency = np.hypot(np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width))
        frequency[0, 0] = 1
        plane = np.fft.irfft2(noise / frequency**power, (height, width))
        return ((plane - plane.mean()) / plane.std()).astype(np.float32)

    light = 45 * cloud(1.2)
    y, x = np.mgrid[:height, :width].astype(np.float32) / height
    for _ in range(12):  # things in front of each other
        top, left, size = random.uniform(size=3)
        inside = np.hypot(y - top, (x - left * width / height) * random.uniform(0.5, 2)) < size / 4
        light[inside] = light[inside] * 0.5 + random.uniform(-80, 80)
    rough = np.clip(cloud(1.5) + 0.5, 0, 1.5)
    light += 20 * rough * cloud(0.5) + 3 * cloud(0)  # texture and the sensor's noise
    colours = [light + 12 * cloud(1.3) + random.uniform(-20, 20) for _ in range(3)]
    return np.clip(np.stack(colours, -1) + 118, 0, 255).astype(np.uint8)


def _jpeg(image, size):
    """Returns (the JPEG of about `size` bytes, the quality that gives it)."""
    low, high = 30, 98
    while low < high:
        middle = (low + high) // 2
        if len(_encode(image, middle)) < size:
            low = middle + 1
        else:
            high = middle
    return _encode(image, low), low


def _encode(image, quality):
    return tf.io.encode_jpeg(image, quality=quality).numpy()


# --- ours ----------------------------------------------------------------------------------


def _seed(number):
    return tf.stack([tf.constant(0, tf.int64), number])


def ours(encoded, number, size, scaled=False):
    """Decodes, crops, resizes and mirrors, as `data.training` does."""
    return _ours(encoded, size, _seed(number), scaled)


def _ours(encoded, size, seed, scaled=False):
    crop_seed, flip_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    crop = crops.training_crop(encoded, size, **CROP, seed=crop_seed, scaled_decode=scaled)
    return augment.mirror(crops.resize(crop, size), flip_seed)


def ours_randaugment(encoded, number, size):
    """The same, with two draws of RandAugment."""
    crop_seed, policy_seed = tf.unstack(tf.random.experimental.stateless_split(_seed(number), 2))
    image = _ours(encoded, size, crop_seed)
    return policies.randaugment(image, policy_seed, LAYERS, float(MAGNITUDE))


def ours_scaled(encoded, number, size, scaled):
    """Ours, with and without libjpeg's scaled decode of photographs that are too large."""
    return ours(encoded, number, size, scaled)


def libjpeg(encoded, number, size, windows):
    """Only what libjpeg-turbo does to decode the very crops of `ours`."""
    del size
    crop = tf.io.decode_and_crop_jpeg(encoded, windows[number], channels=3)
    # Crops differ in size, so batches hold their corners: nothing more is copied.
    return crop[0, 0]


def windows_of_ours(jpegs, count, size):
    """Returns the windows that `ours` decodes in its first `count` images: (count, 4) int32."""
    decode, windows = tf.io.decode_and_crop_jpeg, []

    def note(encoded, window, **options):
        windows.append(np.asarray(window))
        return decode(encoded, window, **options)

    with mock.patch.object(tf.io, "decode_and_crop_jpeg", note):
        for number in range(count):
            ours(tf.constant(jpegs[number % len(jpegs)]), tf.constant(number, tf.int64), size)
    if len(windows) != count:
        raise RuntimeError(
            f"{len(windows)} windows were decoded for {count} images; does "
            "decoding.py still call tf.io.decode_and_crop_jpeg once for each?"
        )
    return np.stack(windows)


def api_pipeline(folder, policy, size):
    """Our public pipeline, on a folder of files, to batches of images.

    Without its prefetching, which moves work in time but adds none: what one turn produces
    for the next would be counted in the wrong one.
    """
    recipe = dataclasses.replace(
        effnet_tf.RECIPES["small"],
        dataset="folder",
        data_dir=folder,
        augment=policy,
        crop_area_min=CROP["crop_area_min"],
        image_size=size,
        batch_size=BATCH,
    )
    with mock.patch.object(tf.data.Dataset, "prefetch", lambda batches, *_, **__: batches):
        batches = data.training(data.open_source(recipe), recipe, size, BATCH)
    return batches.map(lambda batch: batch["images"])


# --- the peers -----------------------------------------------------------------------------

MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
STDDEV = (0.229 * 255, 0.224 * 255, 0.225 * 255)


def _peers_crop(encoded):
    """Inception's crop, stateful, as all three have it: (the crop, whether it is all)."""
    shape = tf.io.extract_jpeg_shape(encoded)
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        shape,
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    top, left, _ = tf.unstack(begin)
    height, width, _ = tf.unstack(extent)
    crop = tf.io.decode_and_crop_jpeg(encoded, tf.stack([top, left, height, width]), channels=3)
    return crop, tf.reduce_all(tf.io.extract_jpeg_shape(encoded) == tf.shape(crop))


def _peers_centre(encoded, size):
    window = crops.central_window(tf.io.extract_jpeg_shape(encoded), size, 32)
    return tf.io.decode_and_crop_jpeg(encoded, window, channels=3)


def _normalised(image):
    image -= tf.constant(MEAN, shape=(1, 1, 3))
    return image / tf.constant(STDDEV, shape=(1, 1, 3))


def original(encoded, number, size, policy=None):
    """The TPU pipeline: crop, TF1's bicubic resize to floats, flip, bfloat16.

    It normalises on the device, and so nothing of that is counted.
    """
    del number
    crop, is_all = _peers_crop(encoded)

    def resize(image):
        return tf.compat.v1.image.resize_bicubic([image], [size, size])[0]

    image = tf.cond(is_all, lambda: resize(_peers_centre(encoded, size)), lambda: resize(crop))
    image = tf.reshape(tf.image.random_flip_left_right(image), (size, size, 3))
    if policy:
        image = tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)
        image = tf.cast(policy(image), tf.float32)
    return tf.cast(image, tf.bfloat16)


def flax(encoded, number, size):
    """The flax example: crop, TF2's bicubic resize, flip, normalised on the host, float32."""
    del number
    crop, is_all = _peers_crop(encoded)

    def resize(image):
        return tf.image.resize([image], [size, size], tf.image.ResizeMethod.BICUBIC)[0]

    image = tf.cond(is_all, lambda: resize(_peers_centre(encoded, size)), lambda: resize(crop))
    image = tf.reshape(image, (size, size, 3))
    return _normalised(tf.image.random_flip_left_right(image))


def tf_models(encoded, number, size, policy=None):
    """The model garden: crop, flip, bilinear resize, normalised on the host, float32."""
    del number
    crop, is_all = _peers_crop(encoded)
    image = tf.cond(is_all, lambda: _peers_centre(encoded, size), lambda: crop)
    image = tf.image.random_flip_left_right(image)
    image = tf.image.resize(image, [size, size], tf.image.ResizeMethod.BILINEAR)
    image = tf.ensure_shape(image, (size, size, 3))
    if policy:
        image = tf.cast(tf.clip_by_value(image, 0.0, 255.0), tf.uint8)
        image = tf.cast(policy(image), tf.float32)
    return _normalised(image)


def keras_cv_layers(size, policy):
    """keras_cv's layers, image by image, which took less time than whole batches."""
    import keras_cv

    layers = [
        keras_cv.layers.RandomCropAndResize(
            (size, size), crop_area_factor=(0.08, 1.0), aspect_ratio_factor=(3 / 4, 4 / 3)
        ),
        keras_cv.layers.RandomFlip("horizontal"),
    ]
    if policy:
        layers.append(
            keras_cv.layers.RandAugment(
                value_range=(0, 255), augmentations_per_image=LAYERS, magnitude=MAGNITUDE / 30
            )
        )

    def image_of(encoded, number, size):
        del number, size
        image = tf.io.decode_jpeg(encoded, channels=3)
        for layer in layers:
            image = layer(image, training=True)
        return image

    return image_of


def chain_of_conds(image):
    """RandAugment as the original: every operation in a tf.cond of its own."""
    for _ in range(LAYERS):
        drawn = tf.random.uniform((), maxval=len(PLAIN), dtype=tf.int32)
        for number, operation in enumerate(PLAIN.values()):
            image = tf.cond(
                drawn == number,
                functools.partial(operation, image),
                functools.partial(tf.identity, image),
            )
    return image


def switch(image):
    """RandAugment as the model garden: one switch for a draw."""
    for _ in range(LAYERS):
        drawn = tf.random.uniform((), maxval=len(PLAIN), dtype=tf.int32)
        image = tf.switch_case(
            drawn, [functools.partial(operation, image) for operation in PLAIN.values()]
        )
    return image


# The operations in their plain form, which both peers have, at magnitude 10.


def _blend(first, second, factor):
    first, second = tf.cast(first, tf.float32), tf.cast(second, tf.float32)
    return tf.cast(tf.clip_by_value(first + factor * (second - first), 0.0, 255.0), tf.uint8)


def _per_channel(image, function):
    return tf.stack([function(image[..., channel]) for channel in range(3)], 2)


def _autocontrast(plane):
    low = tf.cast(tf.reduce_min(plane), tf.float32)
    high = tf.cast(tf.reduce_max(plane), tf.float32)

    def stretched():
        scale = 255.0 / (high - low)
        scaled = tf.cast(plane, tf.float32) * scale - low * scale
        return tf.cast(tf.clip_by_value(scaled, 0.0, 255.0), tf.uint8)

    return tf.cond(high > low, stretched, lambda: plane)


def _equalize(plane):
    plane = tf.cast(plane, tf.int32)
    histogram = tf.histogram_fixed_width(plane, [0, 255], nbins=256)
    counts = tf.gather(histogram, tf.where(histogram != 0))
    step = (tf.reduce_sum(counts) - counts[-1, 0]) // 255

    def table():
        levels = (tf.cumsum(histogram) + step // 2) // step
        return tf.clip_by_value(tf.concat([[0], levels[:-1]], 0), 0, 255)

    return tf.cast(tf.cond(step == 0, lambda: plane, lambda: tf.gather(table(), plane)), tf.uint8)


def _warp(image, transform):
    """Warps with a fourth channel that tells where to fill with grey."""
    wrapped = tf.concat([image, tf.ones_like(image[..., :1])], 2)
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=wrapped[tf.newaxis],
        transforms=[[*transform, 0.0, 0.0]],
        output_shape=tf.shape(image)[:2],
        interpolation="NEAREST",
        fill_mode="CONSTANT",
        fill_value=0.0,
    )[0]
    grey = tf.fill(tf.shape(image), tf.constant(128, tf.uint8))
    return tf.where(warped[..., 3:] == 0, grey, warped[..., :3])


def _signed(level):
    turned = tf.cast(tf.floor(tf.random.uniform(()) + 0.5), tf.bool)
    return tf.cond(turned, lambda: level, lambda: -level)


def _rotate(image):
    angle = _signed(math.radians(30.0))
    cos, sin = tf.cos(angle), tf.sin(angle)
    bottom, right = tf.unstack(tf.cast(tf.shape(image)[:2] - 1, tf.float32))
    return _warp(
        image,
        (
            cos,
            -sin,
            (right - (cos * right - sin * bottom)) / 2,
            sin,
            cos,
            (bottom - (sin * right + cos * bottom)) / 2,
        ),
    )


def _contrast(image):
    grey = tf.cast(tf.image.rgb_to_grayscale(image), tf.int32)
    histogram = tf.cast(tf.histogram_fixed_width(grey, [0, 255], nbins=256), tf.float32)
    plain = tf.fill(tf.shape(grey), tf.reduce_sum(histogram) / 256)
    plain = tf.cast(tf.clip_by_value(plain, 0.0, 255.0), tf.uint8)
    return _blend(tf.image.grayscale_to_rgb(plain), image, 1.9)


def _sharpness(image):
    kernel = tf.reshape([1.0, 1, 1, 1, 5, 1, 1, 1, 1], (3, 3, 1, 1)) / 13
    smooth = tf.nn.depthwise_conv2d(
        tf.cast(image, tf.float32)[tf.newaxis], tf.tile(kernel, (1, 1, 3, 1)), (1, 1, 1, 1), "VALID"
    )[0]
    smooth = tf.cast(tf.clip_by_value(smooth, 0.0, 255.0), tf.uint8)
    margin = ((1, 1), (1, 1), (0, 0))
    inner = tf.pad(tf.ones_like(smooth), margin)
    return _blend(tf.where(inner == 1, tf.pad(smooth, margin), image), image, 1.9)


def _cutout(image, half=40):
    height, width = tf.unstack(tf.shape(image)[:2])
    y = tf.random.uniform((), 0, height, tf.int32)
    x = tf.random.uniform((), 0, width, tf.int32)
    top, bottom = tf.maximum(0, y - half), tf.maximum(0, height - y - half)
    left, right = tf.maximum(0, x - half), tf.maximum(0, width - x - half)
    hole = tf.zeros([height - top - bottom, width - left - right], image.dtype)
    kept = tf.pad(hole, [[top, bottom], [left, right]], constant_values=1)
    kept = tf.tile(kept[..., tf.newaxis], [1, 1, 3])
    return tf.where(kept == 0, tf.ones_like(image) * 128, image)


def _solarize_add(image):
    added = tf.cast(tf.clip_by_value(tf.cast(image, tf.int64) + 110, 0, 255), tf.uint8)
    return tf.where(image < 128, added, image)


def _color(image):
    grey = tf.image.grayscale_to_rgb(tf.image.rgb_to_grayscale(image))
    return _blend(grey, image, 1.9)


PLAIN = {
    "AutoContrast": lambda image: _per_channel(image, _autocontrast),
    "Equalize": lambda image: _per_channel(image, _equalize),
    "Invert": lambda image: 255 - image,
    "Rotate": _rotate,
    "Posterize": lambda image: tf.bitwise.left_shift(
        tf.bitwise.right_shift(image, tf.constant(4, tf.uint8)), tf.constant(4, tf.uint8)
    ),
    "Solarize": lambda image: tf.where(image < 0, image, 255 - image),  # 256 in uint8
    "SolarizeAdd": _solarize_add,
    "Color": _color,
    "Contrast": _contrast,
    "Brightness": lambda image: _blend(tf.zeros_like(image), image, 1.9),
    "Sharpness": _sharpness,
    "ShearX": lambda image: _warp(image, (1.0, _signed(0.3), 0.0, 0.0, 1.0, 0.0)),
    "ShearY": lambda image: _warp(image, (1.0, 0.0, 0.0, _signed(0.3), 1.0, 0.0)),
    "TranslateX": lambda image: _warp(image, (1.0, 0.0, _signed(100.0), 0.0, 1.0, 0.0)),
    "TranslateY": lambda image: _warp(image, (1.0, 0.0, 0.0, 0.0, 1.0, _signed(100.0))),
    "Cutout": _cutout,
}


# --- measuring -----------------------------------------------------------------------------

# Rows that are measured against "ours", and so on: group -> its rows, the first is ours.
GROUPS = {
    "no policy": ("ours", "libjpeg", "original", "flax", "tf_models", "keras_cv"),
    "RandAugment(2, 10)": (
        "ours_randaugment",
        "original_randaugment",
        "tf_models_randaugment",
        "keras_cv_randaugment",
    ),
    "our whole data.training": ("api_none", "api_randaugment", "api_autoaugment"),
    LARGE: ("large_scaled", "large_full"),
}


def pipeline(jpegs, image_of, size):
    """Returns the endless batches of a contender."""
    images = tf.data.Dataset.from_tensor_slices(list(jpegs)).repeat()

    def prepare(number, encoded):
        return image_of(encoded, number, size)

    batches = (
        tf.data.Dataset.zip(tf.data.Dataset.counter(), images)
        .map(prepare, THREADS)
        .batch(BATCH, drop_remainder=True)
    )
    return _with_threads(batches)


def _with_threads(batches):
    options = tf.data.Options()
    options.threading.private_threadpool_size = THREADS
    options.autotune.cpu_budget = THREADS
    options.experimental_optimization.inject_prefetch = False  # see api_pipeline
    return batches.with_options(options)


def contenders(options, jpegs, large, folder):
    """Returns name -> a function that makes the batches."""
    windows = functools.cache(
        lambda: tf.constant(
            windows_of_ours(
                jpegs, (options.rounds + WARM_UP + 1) * len(jpegs) + BATCH, options.size
            )
        )
    )
    small = {
        "ours": lambda: ours,
        "libjpeg": lambda: functools.partial(libjpeg, windows=windows()),
        "original": lambda: original,
        "flax": lambda: flax,
        "tf_models": lambda: tf_models,
        "keras_cv": lambda: keras_cv_layers(options.size, False),
        "ours_randaugment": lambda: ours_randaugment,
        "original_randaugment": lambda: functools.partial(original, policy=chain_of_conds),
        "tf_models_randaugment": lambda: functools.partial(tf_models, policy=switch),
        "keras_cv_randaugment": lambda: keras_cv_layers(options.size, True),
    }
    made = {
        name: functools.partial(lambda make: pipeline(jpegs, make(), options.size), make)
        for name, make in small.items()
    }
    made |= {
        f"api_{policy}": functools.partial(
            lambda policy: _with_threads(api_pipeline(folder, policy, options.size)), policy
        )
        for policy in ("none", "randaugment", "autoaugment")
    }
    return made | {
        name: functools.partial(
            lambda scaled: pipeline(
                large, functools.partial(ours_scaled, scaled=scaled), options.size
            ),
            scaled,
        )
        for name, scaled in (("large_scaled", True), ("large_full", False))
    }


def missing():
    """Returns name -> why it cannot be measured here."""
    try:
        extras.load("keras_cv", "Measuring it")
    except extras.MissingPackage as error:
        return dict.fromkeys(("keras_cv", "keras_cv_randaugment"), str(error))
    return {}


def measure(batches, images, rounds):
    """Takes turns: name -> CPU seconds per image of every round."""
    iterators = {name: iter(dataset) for name, dataset in batches.items()}
    times = {name: [] for name in batches}
    for number in range(-WARM_UP, rounds):
        # Every other round backwards: a neighbour's heat and cache tell on both alike.
        for name in list(times)[:: 1 if number % 2 else -1]:
            seconds = _cpu_seconds(iterators[name], -(-images[name] // BATCH))
            if number >= 0:
                times[name].append(seconds)
        if number % 5 == 4:
            print(f"round {number + 1} of {rounds}", flush=True)
    return times


def _cpu_seconds(iterator, count):
    start = time.process_time()
    for _ in range(count):
        next(iterator)
    # The next two images run ahead, and replace those that the last turn left.
    quiet, now = 0, time.process_time()
    while quiet < 2:
        time.sleep(0.01)
        last, now = now, time.process_time()
        quiet = 0 if now - last > 0.0005 else quiet + 1
    return (now - start) / (count * BATCH)


def figures(times):
    """Returns the rows of the results."""
    rows = []
    for group, names in GROUPS.items():
        for name in names:
            if name in times:
                ratios = np.array(times[name]) / np.array(times[names[0]])
                quartiles = np.percentile(ratios, [25, 50, 75])
                rows.append(
                    {
                        "group": group,
                        "name": name,
                        **{
                            key: round(float(value), 3)
                            for key, value in zip(
                                ("low_quartile", "ratio", "high_quartile"), quartiles
                            )
                        },
                        "microseconds": round(float(np.median(times[name])) * 1e6),
                    }
                )
    return rows


def table(rows):
    """Returns the Markdown table of the results."""
    lines = [
        "| | contender | CPU time / ours: median (quartiles) | µs per image |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {row['group']} | {row['name']} | {row['ratio']:.2f} ({row['low_quartile']:.2f} "
        f"to {row['high_quartile']:.2f}) | {row['microseconds']:,} |"
        for row in rows
    ]
    return "\n".join(lines)


def parse():
    """Returns the options of the command line."""
    parser = pairs.parser(__doc__)
    parser.add_argument("--images", type=int, default=64, help="JPEGs, and images of a turn")
    parser.add_argument("--large_images", type=int, default=4, help=f"of {LARGE}")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--only", help="names of contenders, with commas; writes no file")
    options = parser.parse_args()
    known = [name for names in GROUPS.values() for name in names]
    wanted = options.only.split(",") if options.only else known
    if set(wanted) - set(known):
        parser.error(f"--only: {', '.join(set(wanted) - set(known))}; known: {', '.join(known)}")
    # The first of a group is what the others are divided by.
    options.names = [
        name
        for names in GROUPS.values()
        for name in names
        if name in wanted or (name == names[0] and set(names) & set(wanted))
    ]
    return options


def write_folder(folder, jpegs):
    """Writes the JPEGs as two classes; every one is in the training half."""
    for split, count in (("train", len(jpegs)), ("val", 4)):
        for number, encoded in enumerate(jpegs[:count]):
            path = pathlib.Path(folder, split, f"class{number % 2}", f"{number}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded)


def describe(jpegs, qualities):
    """Returns a sentence on the JPEGs."""
    sizes = [len(encoded) / 1000 for encoded in jpegs]
    return (
        f"{len(jpegs)} JPEGs of {min(sizes):,.0f} to {max(sizes):,.0f} KB, mean "
        f"{np.mean(sizes):,.1f}; quality {min(qualities)} to {max(qualities)}"
    )


def main():
    """Measures, prints the table, writes the results."""
    options = parse()
    reasons = missing()
    for name in [name for name in options.names if name in reasons]:
        print(f"{name} is skipped: {reasons[name]}.")
        options.names.remove(name)
    jpegs, qualities = photographs(-(-options.images // BATCH) * BATCH)
    print(about := describe(jpegs, qualities))
    large = ()
    if set(options.names) & set(GROUPS[LARGE]):
        large, qualities = large_photographs(options.large_images)
        about += f"; {describe(large, qualities)}"
        print(describe(large, qualities))
    with tempfile.TemporaryDirectory() as folder:
        write_folder(folder, jpegs)
        make = contenders(options, jpegs, large, folder)
        batches = {name: make[name]() for name in options.names}
        images = {name: BATCH if name in GROUPS[LARGE] else len(jpegs) for name in batches}
        rows = figures(measure(batches, images, options.rounds))
    print(table(rows))
    if not options.only:
        RESULTS.write_text(
            json.dumps(
                {
                    "command": " ".join(["python", *sys.argv]),
                    "images": about,
                    "size": options.size,
                    "rounds": options.rounds,
                    **pairs.machine(),
                    "rows": rows,
                },
                indent=2,
            )
            + "\n"
        )


if __name__ == "__main__":
    main()
