"""balance.py, order.py: classes of other sizes, weighed or sampled."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import data
from effnet_tf.data import balance, batches, order
from effnet_tf.errors import InputError
from effnet_tf.recipes import RECIPES, Recipe
from effnet_tf.train.step import Step

SIZES = (1, 40, 7, 0, 252)  # images of five classes
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(5), SIZES))
NAMES = ("ant", "bee", "cat", "dog", "elk")
SOURCE = data.Source(
    "animals", NAMES, data.Listed([(b"", label) for label in LABELS]), data.Listed([(b"", 0)])
)
SMOKE = RECIPES["smoke"]


def records(first, last, seed=7, hosts=1, turns=True):
    """The records at positions first to last - 1, read group by group, host by host."""
    found, count = {}, len(LABELS)
    for host in range(hosts):
        for group in range(10 * order.groups_per_epoch(count)):
            positions = order.host_positions(tf.constant(group, tf.int64), 0, host, hosts, count)
            numbers = order.records_at(
                positions, seed, count, False, order.Turns(LABELS) if turns else None
            )
            found.update(zip(positions.numpy().tolist(), numbers.numpy().tolist()))
    return np.array([found[position] for position in range(first, last)])


class TestBalancedSampling:
    def test_every_class_comes_equally_often(self):
        for epoch in (0, 1, 6):
            found = records(300 * epoch, 300 * (epoch + 1))
            assert np.bincount(LABELS[found], minlength=5).tolist() == [75, 75, 75, 0, 75]

    def test_no_record_comes_twice_before_all_of_its_class(self):
        found = records(0, 300 * 8)
        for label, size in enumerate(SIZES):
            times = np.bincount(found, minlength=300)[label == LABELS]
            assert size == 0 or times.max() - times.min() <= 1
            first = found[LABELS[found] == label][:75]
            assert size < 75 or len(set(first)) == 75

    def test_is_a_function_of_the_seed(self):
        first = records(0, 600)
        np.testing.assert_array_equal(first, records(0, 600, hosts=3))
        assert (first[:300] == first[300:]).mean() < 0.4  # one class has a single image
        assert (first == records(0, 600, seed=8)).mean() < 0.4

    def test_the_order_does_not_go_class_by_class(self):
        labels = LABELS[records(0, 300)]
        assert (labels[1:] == labels[:-1]).mean() < 0.4

    def test_a_stream_can_begin_anywhere(self):
        turns = order.Turns(LABELS)
        streams = [
            batches.shuffled(SOURCE.train, 7, start, 0, 1, turns)
            .unbatch()
            .skip(450 - start)
            .take(9)
            for start in (0, 450)
        ]
        whole, resumed = ([int(row[1]) for row in stream] for stream in streams)
        assert whole == resumed

    def test_the_recipe_says_it(self):
        assert balance.turns(SMOKE, SOURCE) is None
        balanced = dataclasses.replace(SMOKE, sampling="balanced")
        assert balance.turns(balanced, SOURCE).classes == 4

    def test_record_files_are_refused(self):
        files = dataclasses.replace(SOURCE, train=object.__new__(data.RecordFiles))
        balanced = dataclasses.replace(SMOKE, sampling="balanced", class_weights="balanced")
        for refused in (balance.turns, balance.weights):
            with pytest.raises(InputError, match="balanced needs to know the class of every image"):
                refused(balanced, files)


def weighted(value):
    return dataclasses.replace(SMOKE, class_weights=value)


class TestClassWeights:
    def test_balanced_ones_have_the_mean_1(self):
        found = balance.weights(weighted("balanced"), SOURCE)
        np.testing.assert_allclose(found, [75, 300 / 160, 300 / 28, 1, 300 / 1008], rtol=1e-6)
        assert found[LABELS].mean() == pytest.approx(1)

    def test_of_a_file_are_kept_in_the_recipe(self, tmp_path, capsys):
        path = tmp_path / "w.json"
        path.write_text('{"dog": 2, "bee": 0.5}')
        recipe = weighted(str(path))
        path.unlink()
        assert recipe.class_weights == '{"bee": 0.5, "dog": 2}'
        assert Recipe.from_json(recipe.to_json()) == recipe == weighted(recipe.class_weights)
        balance.tell(recipe, SOURCE)
        out = capsys.readouterr().out
        assert balance.weights(recipe, SOURCE).tolist() == [1, 0.5, 1, 2, 1]
        assert "3 class(es) that --class_weights does not name have the weight 1." in out
        assert "dog 2, ant 1, cat 1, elk 1, bee 0.5" in out

    @pytest.mark.parametrize(
        "content, sentence",
        [
            ("[1]", "must be a JSON object"),
            ("{}", "must be a JSON object"),
            ("{", "is not JSON"),
            ('{"dog": -1}', "'dog' the weight -1; it must be a number of at least 0"),
            ('{"dog": true}', "the weight true"),
            ('{"dog": NaN}', "the weight NaN"),
            ('{"dog": 0}', "every class the weight 0"),
        ],
    )
    def test_a_file_that_cannot_be_used(self, tmp_path, content, sentence):
        (tmp_path / "w.json").write_text(content)
        with pytest.raises(InputError, match=sentence):
            weighted(str(tmp_path / "w.json"))

    def test_no_file_and_no_class_of_that_name(self):
        with pytest.raises(InputError, match="'balancd' cannot be read .*: give 'balanced', or"):
            weighted("balancd")
        with pytest.raises(InputError, match="'elf', which .* not have. Did you mean elk"):
            balance.weights(weighted(json.dumps({"elf": 1.0})), SOURCE)

    @pytest.mark.parametrize("mixed", [False, True])
    def test_they_multiply_the_losses(self, mixed):
        """With mixup a half and a half of two images: their weights are mixed, too."""
        weights = np.array([1.0, 3.0, 0.0], np.float32)
        batch = {
            "images": tf.zeros((2, 4, 4, 3), tf.uint8),
            "labels": tf.constant([0, 1], tf.int64),
        }
        if mixed:
            batch["mixing"] = tf.constant([[0.5, 0.5, 9, 9, 9, 9]] * 2)
        losses = []
        for each in (None, weights):
            step = Step(SMOKE, 3, {"raw": lambda images, training: LOGITS}, None, 1, each)
            losses.append(step._losses(*step._targets(batch))[0].numpy())
        np.testing.assert_allclose(losses[1], losses[0] * ([2, 2] if mixed else [1, 3]), rtol=1e-6)


LOGITS = tf.constant([[1.0, 2.0, -1.0], [0.0, 0.5, 3.0]])
