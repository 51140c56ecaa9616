"""order.py: every epoch is a permutation, the same for any number of hosts, from anywhere."""

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.data import batches, order, records

SIZES = (1, 2, 15, 16, 17, 1000, 1023, 1024, 1025, 1040, 2047, 5000)


def epoch(count, in_blocks, number=0, seed=7):
    """The records of an epoch, read group by group as the pipeline does."""
    groups = order.groups_per_epoch(count)
    return np.concatenate(
        [
            order.records_at(
                order.host_positions(tf.constant(group, tf.int64), 0, 0, 1, count),
                seed,
                count,
                in_blocks,
            )
            for group in range(number * groups, (number + 1) * groups)
        ]
    )


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("in_blocks", [False, True])
def test_an_epoch_is_a_permutation(count, in_blocks):
    for number in (0, 3):
        assert sorted(epoch(count, in_blocks, number)) == list(range(count))


@pytest.mark.parametrize("in_blocks", [False, True])
def test_epochs_and_seeds_differ(in_blocks):
    orders = [epoch(5000, in_blocks, number, seed) for number, seed in ((0, 1), (1, 1), (0, 2))]
    for one in range(3):
        for other in range(one):
            assert (orders[one] == orders[other]).mean() < 0.01


@pytest.mark.parametrize("hosts", [1, 2, 3, 32, 50])
@pytest.mark.parametrize("count", [7, 1025, 3000])
def test_hosts_share_the_positions(hosts, count):
    found = [
        np.concatenate(
            [
                order.host_positions(tf.constant(group, tf.int64), 0, host, hosts, count)
                for group in range(2 * order.groups_per_epoch(count))
            ]
        )
        for host in range(hosts)
    ]
    for host, positions in enumerate(found):
        assert (positions % hosts == host).all() and (np.diff(positions) == hosts).all()
    assert sorted(np.concatenate(found)) == list(range(2 * count))


@pytest.mark.parametrize("start", [0, 1, 1023, 1024, 2999, 3000, 10_000_000_007])
def test_starts_anywhere(start):
    group = tf.constant(order.group_of(start, 3000), tf.int64)
    assert order.host_positions(group, start, start % 4, 4, 3000)[0] == start


@pytest.mark.parametrize("in_blocks", [False, True])
def test_a_host_without_a_share_in_a_group(in_blocks):
    group = tf.constant(1, tf.int64)  # of 1,025 records: one position, which is host 0's
    positions = order.host_positions(group, 0, 1, 2, 1025)
    assert positions.shape == (0,)
    assert order.records_at(positions, 7, 1025, in_blocks).shape == (0,)


@pytest.mark.parametrize("in_blocks", [False, True])
def test_no_epoch_and_no_seed_comes_again(in_blocks):
    # The cipher behind the shuffle looks at few bits of its key: 256 once was 0 again.
    first = [
        epoch(3000, in_blocks, number, seed)[:1024]
        for number, seed in ((0, 0), (256, 0), (512, 0), (2048, 0), (0, 256), (0, 65_536), (1, 0))
    ]
    for one in range(len(first)):
        for other in range(one):
            assert (first[one] == first[other]).mean() < 0.02


def test_epochs_do_not_correlate():
    orders = np.array([epoch(2000, False, number) for number in range(20)])
    largest = np.abs(np.corrcoef(orders) - np.eye(20)).max()
    assert largest < 4.5 / np.sqrt(2000)


def runs(numbers):
    return 1 + (np.diff(np.sort(numbers)) != 1).sum()


@pytest.mark.parametrize("hosts", [1, 2, 8, 32])
def test_a_host_reads_neighbours_together(hosts):
    count = 100_000
    numbers = order.records_at(
        order.host_positions(tf.constant(3, tf.int64), 0, 1 % hosts, hosts, count), 7, count, True
    ).numpy()
    assert len(numbers) == order.GROUP // hosts
    assert runs(numbers) <= 3 * len(numbers) / order.BLOCK  # a run may lie across two blocks


def test_blocks_are_mixed():
    records = epoch(100_000, True)[:4096]
    assert runs(records) > 200 and abs(np.corrcoef(np.arange(4096), records)[0, 1]) < 0.15
    # Neighbours in the files do not stay neighbours in the training.
    assert (np.abs(np.diff(records)) == 1).mean() < 0.05


def test_blocks_begin_elsewhere_in_every_epoch():
    last = [epoch(1050, True, number)[-1] for number in range(8)]
    assert len(set(last)) > 4  # the ragged end is not always made of the same records


def test_spare_records_are_a_function_of_place_and_attempt():
    drawn = {
        int(
            order.spare_record(
                tf.constant(place, tf.int64), tf.constant(attempt, tf.int64), 0, 10**6
            )
        )
        for place in range(20)
        for attempt in (1, 2)
    }
    again = {
        int(
            order.spare_record(
                tf.constant(place, tf.int64), tf.constant(attempt, tf.int64), 0, 10**6
            )
        )
        for place in range(20)
        for attempt in (1, 2)
    }
    assert drawn == again and len(drawn) == 40 and max(drawn) < 10**6


def test_nothing_is_logged_where_a_group_ends(capfd):
    """TensorFlow 2.21 logs an error for each slice that is taken apart again."""
    rows = records.Listed([(b"", 0)] * (order.GROUP + 100))
    stream = batches.shuffled(rows, 0, 0, 0, 1).rebatch(8).unbatch()
    assert len(list(stream.take(2 * rows.count))) == 2 * rows.count
    assert "SubBuffer" not in capfd.readouterr().err
