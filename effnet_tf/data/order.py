"""Which record of the data set comes at which position of the training?

A pure function of (seed, epoch, place in the epoch): nothing to save, nothing to skip, and
the same on one host and on many. Where any record is as quickly read as the next, an epoch
is a random permutation. In record files, neighbours are read together: there the epoch is a
permutation of blocks of neighbours, and 64 blocks at a time are shuffled into one group.
"""

import tensorflow as tf

GROUP = 1024  # positions that are looked up, and records that are read, together
LANES = 32  # of a group; host h of H has every H-th, and so whole blocks, where H divides 32
ROUNDS = 8  # of the shuffling cipher; after its usual 4 the epochs correlate
BLOCK = 16  # neighbours in record files: 1.8 MB of ImageNet, one request to an object store


def groups_per_epoch(count):
    """Returns how many groups an epoch of `count` records has; the last may be smaller."""
    return -(-count // GROUP)


def host_positions(group, start, shard, num_shards, count):
    """Returns the positions that one host has in a group: (n,) int64, n >= 0, ascending.

    Position P, counted over all epochs, is host P mod `num_shards`'s.

    Args:
        group: () int64, counted over all epochs.
        start: first position of this host that is wanted.
        shard: number of this host.
        num_shards: number of hosts.
        count: records in the data set.
    """
    epoch, within = group // groups_per_epoch(count), group % groups_per_epoch(count)
    first = epoch * count + within * GROUP
    end = tf.minimum(first + GROUP, (epoch + 1) * count)
    first = tf.maximum(first, start)
    first += (shard - first) % num_shards
    return tf.range(first, tf.maximum(first, end), num_shards)


def group_of(position, count):
    """Returns the number of the group, over all epochs, that a position lies in."""
    return position // count * groups_per_epoch(count) + position % count // GROUP


def records_at(positions, seed, count, in_blocks):
    """Returns the records at positions of one group.

    Args:
        positions: (n,) int64, counted over all epochs; n may be 0.
        seed: of the order.
        count: records in the data set.
        in_blocks: whether neighbours shall be read together.

    Returns:
        (n,) int64 in [0, count).
    """
    padded = tf.concat([positions, [0]], 0)  # shuffling nothing is an error
    epoch = tf.reduce_max(padded) // count
    places, seeds = padded % count, (seed, epoch)
    if not in_blocks or count <= GROUP:
        records = _shuffled(places, _key(seeds), count)
    else:
        records = _blockwise(places, seeds, count)
    # A slice would share its memory, and unbatching that is an error in TensorFlow's log.
    return tf.gather(records, tf.range(tf.size(positions)))


def _key(seeds, *more, shape=()):
    """Draws a key of a shuffle: (*shape, 3) uint32."""
    # The shuffle uses some 8 bits of each word: plain numbers of epochs would soon repeat.
    salt = sum(1_000_003**power * tf.cast(number, tf.int64) for power, number in enumerate(more, 1))
    seeds = tf.stack([tf.cast(seeds[0], tf.int64), seeds[1] * 8 + len(more) + 16 * salt])
    return tf.random.stateless_uniform((*shape, 3), seeds, None, None, tf.uint32)


def _shuffled(index, key, size):
    """The place of each index in a shuffled range(size); all may be vectors, keys per row."""
    # The raw operation: the public one takes no key per element, and mixes less.
    return tf.raw_ops.RandomIndexShuffle(
        index=index, seed=key, max_index=tf.cast(size, tf.int64) - 1, rounds=ROUNDS
    )


def _blockwise(places, seeds, count):
    place = _in_lanes(places, seeds, count)
    block, whole = place // BLOCK, count // BLOCK
    # The last block is smaller, and stays the last; the blocks begin elsewhere in every epoch.
    moved = _shuffled(tf.minimum(block, whole - 1), _key(seeds), whole)
    block = tf.where(block < whole, moved, block)
    offset = tf.random.stateless_uniform((), tf.cast(_key(seeds)[:2], tf.int64), 0, count, tf.int64)
    return (block * BLOCK + place % BLOCK + offset) % count


def _in_lanes(places, seeds, count):
    """Shuffles every lane of a group: each has a run of neighbouring places."""
    group, place = places // GROUP, places % GROUP
    size = tf.minimum(count - group * GROUP, GROUP)  # of the group
    lane, number = place % LANES, place // LANES
    length = size // LANES + tf.cast(lane < size % LANES, tf.int64)
    start = lane * (size // LANES) + tf.minimum(lane, size % LANES)
    keys = tf.gather(_key(seeds, group[0], shape=(LANES,)), lane)
    # The padding may lie in another group, where its lane is longer.
    shuffled = _shuffled(tf.minimum(number, length - 1), keys, length)
    return group * GROUP + start + shuffled


def spare_record(position, attempt, seed, count):
    """Draws the record that takes the place of a bad one: () int64 in [0, count)."""
    seeds = tf.stack([tf.cast(seed, tf.int64) + 1, position * 64 + attempt])
    return tf.random.stateless_uniform((), seeds, 0, count, tf.int64)
