"""How do the records of a data set become batches?

Everything is a function of (seed, epoch, place in the epoch). A record that cannot be used
is replaced by another one in training, and named; in evaluation it counts as wrong.
"""

import os

import tensorflow as tf

from effnet_tf import extras
from effnet_tf.data import augment, balance, crops, decoding, order, policies
from effnet_tf.data.crops import EvaluationCrop
from effnet_tf.data.order import Turns
from effnet_tf.data.records import Records, or_else, untuned
from effnet_tf.data.source import Source
from effnet_tf.recipes import Recipe

ATTEMPTS = 64  # records that are tried for one place in a batch
# Images that are made one after the other, and only if one of them fails one by one: what
# catches an error costs 210 microseconds.
TOGETHER = 8
# Fixed, so that the memory is known: a batch that is used, and these behind it.
PREFETCHED = 2


def training(
    source: Source,
    recipe: Recipe,
    size: int,
    batch_size: int,
    *,
    start: int = 0,
    shard: int = 0,
    num_shards: int = 1,
) -> tf.data.Dataset:
    """Returns the endless training batches of one host.

    Order and draws are functions of the recipe's seed and of the example's position, so
    a run that starts at `start` sees what an uninterrupted one would have seen, and many
    hosts see what one would.

    Args:
        source: from `open_source`.
        recipe: seed and augmentation.
        size: side of the images in pixels.
        batch_size: images per element.
        start: how many examples of this shard were seen before.
        shard: number of this host.
        num_shards: number of hosts.

    Returns:
        A tf.data.Dataset of {"images": (batch_size, size, size, 3) uint8, "labels":
        (batch_size,) int64} and, with mixup or cutmix, "mixing": see `augment.mixing`.
    """
    if recipe.random_erasing:  # inside of a graph its absence would be a traceback
        extras.require("Random erasing", "keras_cv")
    made = _maker(source, recipe, size)

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and it takes a second
    def make_some(positions, numbers, raw):
        def make_all(numbers, raw):
            rows = tf.data.Dataset.from_tensor_slices((positions, numbers, raw))
            return rows.map(made).batch(TOGETHER).get_single_element()

        def without_bad():
            usable = _usable(source, recipe, size, positions, numbers, raw)
            return make_all(usable, tf.fill(tf.shape(usable), ""))

        return or_else(lambda: make_all(numbers, raw), without_bad)

    turns = balance.turns(recipe, source)
    stream = shuffled(source.train, recipe.seed, start, shard, num_shards, turns).rebatch(TOGETHER)
    images = stream.map(make_some, os.cpu_count()).rebatch(batch_size, drop_remainder=True)
    return untuned(images.prefetch(PREFETCHED))


def _maker(source, recipe, size):
    """Returns a function of (position, record, what was read) that makes one training image."""

    @tf.function(autograph=False)  # traced once for both its uses
    def make(position, number, raw):
        crop_seed, mix_seed, *seeds = _seeds(recipe, position)
        encoded, label = source.train.load(number, raw)
        crop = _crop(recipe, encoded, size, crop_seed)
        element = {
            "images": _distorted(recipe, crop, size, *seeds),
            "labels": _checked(source, label),
        }
        if recipe.mixup_alpha or recipe.cutmix_alpha:
            element["mixing"] = augment.mixing(
                mix_seed, size, recipe.mixup_alpha, recipe.cutmix_alpha
            )
        return element

    return make


def _usable(source, recipe, size, positions, numbers, raw):
    """Returns the records whose turn it is, but others, drawn, for those that are bad."""

    @tf.autograph.experimental.do_not_convert
    def find(position, number, raw):
        attempt = _attempts(source, recipe, size, position, number, raw)
        found = tf.data.Dataset.range(ATTEMPTS).map(attempt).ignore_errors()
        return found.take(1).get_single_element()

    rows = tf.data.Dataset.from_tensor_slices((positions, numbers, raw))
    return rows.map(find).batch(TOGETHER).get_single_element()


def _attempts(source, recipe, size, position, number, raw):
    """Returns a function of 0, 1, ... that tries the record itself, and then spare ones."""
    records = source.train

    def candidate(attempt):
        spare = order.spare_record(position, attempt, recipe.seed, records.count)
        return tf.where(attempt == 0, number, spare)

    @tf.autograph.experimental.do_not_convert
    def attempt(which):
        # A second attempt means that the one before failed: that one is reported.
        reported = tf.cond(
            which > 0,
            lambda: _report(source, "train", candidate(which - 1)),
            lambda: tf.constant(0, tf.int64),
        )
        with tf.control_dependencies([reported]):
            mine = candidate(which)
        encoded, label = records.load(mine, tf.where(which == 0, raw, ""))
        crop = _crop(recipe, encoded, size, _seeds(recipe, position)[0])
        with tf.control_dependencies([_checked(source, label)]):
            # TensorFlow would not decode what nobody looks at.
            return tf.where(tf.size(crop) > 0, mine, -1)

    return attempt


def _report(source, split, number):
    """Has Python look at a record that could not be used, and note it: () int64."""

    def examine(number):
        source.bad.examine(split, source.records(split), int(number))
        return number

    return tf.py_function(examine, [number], tf.int64)


def draw(recipe: Recipe, encoded: tf.Tensor, size: int, position: int | tf.Tensor) -> tf.Tensor:
    """Returns the training image that a position makes of an image file: (S, S, 3) uint8."""
    crop_seed, _, *seeds = _seeds(recipe, tf.cast(position, tf.int64))
    crop = _crop(recipe, encoded, size, crop_seed)
    return _distorted(recipe, crop, size, *seeds)


def _seeds(recipe, position):
    """One per purpose: drawn from the same one, crop and flip would be correlated."""
    seed = tf.stack([tf.cast(recipe.seed, tf.int64), position])
    return tf.unstack(tf.random.experimental.stateless_split(seed, 5))


def _crop(recipe, encoded, size, seed):
    return crops.training_crop(
        encoded,
        size,
        seed=seed,
        crop_area_min=recipe.crop_area_min,
        crop_padding=crops.padding_of_recipe(recipe, size),
        exif_rotation=recipe.exif_rotation,
        scaled_decode=recipe.scaled_decode,
        kind=crops.kind_of_recipe(recipe),
    )


def _checked(source, label):
    """Returns the label; one out of range is an error."""
    right = decoding.check((label >= 0) & (label < source.num_labels), label)
    with tf.control_dependencies([right]):
        return tf.identity(label)


def _distorted(recipe, crop, size, flip_seed, policy_seed, erase_seed):
    """Resizes, mirrors, distorts and erases a crop, as the recipe says."""
    image = crops.resize(crop, size, crops.kind_of_recipe(recipe))
    if recipe.flip:
        image = augment.mirror(image, flip_seed)
    if recipe.augment == "autoaugment":
        image = policies.autoaugment(image, policy_seed, recipe.augment_style)
    elif recipe.augment == "randaugment":
        layers, magnitude = recipe.randaugment_layers, recipe.randaugment_magnitude
        image = policies.randaugment(image, policy_seed, layers, magnitude, recipe.augment_style)
    if recipe.random_erasing:
        image = augment.erase(image, recipe.random_erasing, erase_seed)
    if recipe.cutout:
        seed = tf.random.experimental.stateless_fold_in(erase_seed, 1)  # not that of erasing
        image = augment.cut_out(image, recipe.cutout, seed)
    return image


def evaluation(
    source: Source,
    recipe: Recipe,
    size: int,
    batch_size: int,
    num_batches: int,
    *,
    shard: int = 0,
    num_shards: int = 1,
) -> tf.data.Dataset:
    """Returns the held-out images of one host, each once, padded to whole batches.

    Returns:
        A tf.data.Dataset of `num_batches` elements {"images": (batch_size, size, size, 3)
        float32, "labels": (batch_size,) int64, "weights": (batch_size,) float32, "numbers":
        (batch_size,) int64}. The weight is 1 for an image, 0 for padding; the number is that of
        the record, 0 for padding. An image that cannot be used is black, has
        label -1, which no prediction hits, and weight 1.
    """
    records, crop = source.held_out, EvaluationCrop.of_recipe(recipe, size)
    black = tf.zeros((size, size, 3)), tf.constant(-1, tf.int64)

    @tf.autograph.experimental.do_not_convert
    def prepare(number, raw):
        def attempt():
            encoded, label = records.load(number, raw)
            return crop(encoded), _checked(source, label)

        def give_up():
            with tf.control_dependencies([_report(source, "eval", number)]):
                return tuple(map(tf.identity, black))

        image, label = or_else(attempt, give_up)
        return {"images": image, "labels": label, "weights": 1.0, "numbers": number}

    nothing = (*black, 0.0, tf.constant(0, tf.int64))
    padded = dict(zip(("images", "labels", "weights", "numbers"), nothing))
    return untuned(
        in_order(records, shard, num_shards)
        .unbatch()
        .map(prepare, os.cpu_count())
        .concatenate(tf.data.Dataset.from_tensors(padded).repeat())
        .batch(batch_size, drop_remainder=True)
        .take(num_batches)
        .prefetch(PREFETCHED)
    )


def in_order(records: Records, shard: int = 0, num_shards: int = 1) -> tf.data.Dataset:
    """Groups of (records, what was read) of one host: neighbours of files, else every N-th."""
    first, step, count = shard, num_shards, -(-(records.count - shard) // num_shards)
    if records.in_blocks:
        first, end = (records.count * part // num_shards for part in (shard, shard + 1))
        step, count = 1, end - first

    @tf.autograph.experimental.do_not_convert
    def read(begin):
        numbers = first + step * tf.range(begin, tf.minimum(begin + order.GROUP, count))
        return numbers, records.read(numbers)

    return tf.data.Dataset.range(0, count, order.GROUP).map(read).prefetch(1)


def shuffled(
    records: Records, seed: int, start: int, shard: int, num_shards: int, turns: Turns | None = None
) -> tf.data.Dataset:
    """Endless groups of (positions, records, what was read) of one host."""
    begin = tf.constant(start * num_shards + shard, tf.int64)

    @tf.autograph.experimental.do_not_convert
    def read(group):
        positions = order.host_positions(group, begin, shard, num_shards, records.count)
        numbers = order.records_at(positions, seed, records.count, records.in_blocks, turns)
        return positions, numbers, records.read(numbers)

    first = order.group_of(begin, records.count)
    return tf.data.Dataset.counter(first).map(read).prefetch(1)


def memory(source: Source, size: int, batch_size: int) -> int:
    """Returns about how many bytes a host's training pipeline holds at most.

    Finished batches, images in the making, and records read ahead; crops of very large
    photos are not counted, of which every core may hold one.

    Args:
        source, size, batch_size: as of `training`.
    """
    image = size * size * 3
    batches = (PREFETCHED + 2) * batch_size * image
    making = 2 * (os.cpu_count() or 1) * TOGETHER * image
    return batches + making + 4 * order.GROUP * source.train.mean_bytes
