"""Which record of the data set comes at which position of the training?

A pure function of (seed, epoch, place in the epoch): nothing to save, nothing to skip, and
the same on one host and on many. Where any record is as quickly read as the next, an epoch
is a random permutation. In record files, neighbours are read together: there the epoch is a
permutation of blocks of neighbours, and 64 blocks at a time are shuffled into one group.
With balanced sampling the classes come equally often.
"""

import numpy as np
import tensorflow as tf

GROUP = 1024  # positions that are looked up, and records that are read, together
LANES = 32  # of a group; host h of H has every H-th, and so whole blocks, where H divides 32
ROUNDS = 8  # of the shuffling cipher; after its usual 4 the epochs correlate
BLOCK = 16  # neighbours in record files: 1.8 MB of ImageNet, one request to an object store


def groups_per_epoch(count: int) -> int:
    """Returns how many groups an epoch of `count` records has; the last may be smaller."""
    return -(-count // GROUP)


def host_positions(
    group: tf.Tensor, start: tf.Tensor, shard: int, num_shards: int, count: int
) -> tf.Tensor:
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
    # A group ends with its epoch: no record comes twice before all have come once.
    end = tf.minimum(first + GROUP, (epoch + 1) * count)
    # A resumed run begins inside of a group; what it has seen of it is cut off.
    first = tf.maximum(first, start)
    # On to the next position that is this host's.
    first += (shard - first) % num_shards
    # A small last group may hold none of this host's: then the range is empty.
    return tf.range(first, tf.maximum(first, end), num_shards)


def group_of(position: tf.Tensor, count: int) -> tf.Tensor:
    """Returns the number of the group, over all epochs, that a position lies in: () int64."""
    return position // count * groups_per_epoch(count) + position % count // GROUP


class Turns:
    """The classes of a data set, each of which has the same number of turns in an epoch.

    Args:
        labels: (N,) int64, of the records; a class without records has no turns.
    """

    def __init__(self, labels: np.ndarray):
        counts = np.bincount(labels)
        self.classes = int((counts > 0).sum())
        self.counts = tf.constant(counts[counts > 0], tf.int64)
        self.starts = tf.cumsum(self.counts, exclusive=True)
        # The records, class by class.
        self.records = tf.constant(np.argsort(labels, kind="stable"), tf.int64)


def records_at(
    positions: tf.Tensor, seed: int, count: int, in_blocks: bool, turns: Turns | None = None
) -> tf.Tensor:
    """Returns the records at positions of one group.

    Args:
        positions: (n,) int64, counted over all epochs; n may be 0.
        seed: of the order.
        count: records in the data set.
        in_blocks: whether neighbours shall be read together.
        turns: those of the classes; None: every record once in an epoch.

    Returns:
        (n,) int64 in [0, count).
    """
    padded = tf.concat([positions, [0]], 0)  # shuffling nothing is an error
    # All positions of a group are of one epoch, and the padding is of none after it.
    epoch = tf.reduce_max(padded) // count
    places, seeds = padded % count, (seed, epoch)
    if turns is not None:
        records = _in_turns(places, seeds, count, turns)
    elif not in_blocks or count <= GROUP:
        # What fits into one group is read at once anyway: blocks would only shuffle less.
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
    """The records at places of one group of an epoch, block by block: (n,) -> (n,) int64."""
    # First inside of the group, so that the neighbours of a block do not follow each other.
    place = _in_lanes(places, seeds, count)
    # Then whole blocks all over the data set: a group has blocks from everywhere.
    block, whole = place // BLOCK, count // BLOCK
    # The last block is smaller. It cannot change places with another, and stays the last.
    moved = _shuffled(tf.minimum(block, whole - 1), _key(seeds), whole)
    block = tf.where(block < whole, moved, block)
    # Blocks begin elsewhere in every epoch: else the same 16 would be together for ever.
    offset = tf.random.stateless_uniform((), tf.cast(_key(seeds)[:2], tf.int64), 0, count, tf.int64)
    return (block * BLOCK + place % BLOCK + offset) % count


def _in_turns(places, seeds, count, turns):
    """The records at places of an epoch in which every class has equally many: (n,) int64."""
    # Of the shuffled places every `classes`-th is of the same class, and its turns are numbered.
    shuffled = _shuffled(places, _key(seeds), count)
    which, turn = shuffled % turns.classes, shuffled // turns.classes
    per_epoch = (count - which + turns.classes - 1) // turns.classes
    # They go on over all epochs, so that no record comes twice before all of its class have
    # come once; in an order drawn once for the class.
    number, size = seeds[1] * per_epoch + turn, tf.gather(turns.counts, which)
    keys = _key((seeds[0], tf.constant(0, tf.int64)), 0, 0, shape=(turns.classes,))
    member = _shuffled(number % size, tf.gather(keys, which), size)
    return tf.gather(turns.records, tf.gather(turns.starts, which) + member)


def _in_lanes(places, seeds, count):
    """Shuffles every lane of a group: each has a run of neighbouring places."""
    group, place = places // GROUP, places % GROUP
    size = tf.minimum(count - group * GROUP, GROUP)  # of the group
    # Position P is in lane P mod 32, whatever the number of hosts: so the order is the same on
    # one and on many, and a host that has every H-th position has whole lanes.
    lane, number = place % LANES, place // LANES
    # A group of 1,000 has eight lanes of 32 places and then 24 of 31.
    length = size // LANES + tf.cast(lane < size % LANES, tf.int64)
    start = lane * (size // LANES) + tf.minimum(lane, size % LANES)
    keys = tf.gather(_key(seeds, group[0], shape=(LANES,)), lane)
    # The padding may lie in another group, where its lane is longer.
    shuffled = _shuffled(tf.minimum(number, length - 1), keys, length)
    return group * GROUP + start + shuffled


def spare_record(position: tf.Tensor, attempt: tf.Tensor, seed: int, count: int) -> tf.Tensor:
    """Draws the record that takes the place of a bad one: () int64 in [0, count)."""
    # Of the position and not of the record: each copy of a bad one gets another spare. No two
    # positions share a seed, as there are 64 attempts.
    seeds = tf.stack([tf.cast(seed, tf.int64) + 1, position * 64 + attempt])
    return tf.random.stateless_uniform((), seeds, 0, count, tf.int64)
