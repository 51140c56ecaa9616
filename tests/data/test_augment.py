"""augment.py: random erasing as the paper describes it."""

import numpy as np
import tensorflow as tf

from effnet_tf.data import augment


class TestErasing:
    image = tf.constant(np.random.default_rng(0).integers(0, 120, (64, 80, 3)).astype("uint8"))

    def drawn(self, probability, count=200):
        seeds = tf.stack([tf.range(count, dtype=tf.int64)] * 2, 1)
        draw = tf.function(
            lambda: tf.map_fn(
                lambda seed: augment.erase(self.image, probability, seed),
                seeds,
                fn_output_signature=tf.uint8,
            )
        )
        return draw().numpy()

    def test_paints_one_rectangle_of_the_papers_size(self):
        for image in self.drawn(1.0):
            grey = (image == augment.ERASED).all(-1)
            rows, columns = np.flatnonzero(grey.any(1)), np.flatnonzero(grey.any(0))
            height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
            assert grey.sum() == height * width  # filled, and nothing else is grey
            assert 0.012 < grey.mean() < 0.43 and 0.2 < height / width < 5
            np.testing.assert_array_equal(image[~grey], self.image.numpy()[~grey])

    def test_probability_and_place(self):
        drawn = self.drawn(0.25, 400)
        painted = (drawn != self.image.numpy()).any((1, 2, 3))
        assert 0.17 < painted.mean() < 0.33
        covered = (self.drawn(1.0) == augment.ERASED).all(-1).mean(0)
        assert (covered > 0).mean() > 0.95 and covered[32, 40] > covered[0, 0]  # wholly inside

    def test_same_seed_same_image(self):
        seed = tf.constant([3, 4], tf.int64)
        np.testing.assert_array_equal(
            augment.erase(self.image, 1.0, seed), augment.erase(self.image, 1.0, seed)
        )


class TestCutOut:
    image = tf.zeros((64, 80, 3), tf.uint8)

    def painted(self, number):
        seed = tf.constant([number, 1], tf.int64)
        return augment.cut_out(self.image, 0.5, seed).numpy()

    def test_is_a_square_that_the_border_may_cut_off(self):
        middles = []
        for number in range(40):
            rows, columns = np.nonzero(self.painted(number).any(-1))
            height, width = rows.max() - rows.min() + 1, columns.max() - columns.min() + 1
            assert len(rows) == height * width and max(height, width) <= 32
            at_border = {0, 63} & {rows.min(), rows.max()} or {0, 79} & {*columns[[0, -1]]}
            assert height == width == 32 or at_border
            middles.append((rows.mean(), columns.mean()))
        assert np.ptp(middles, 0)[0] > 35 and np.ptp(middles, 0)[1] > 45

    def test_is_bright_noise(self):
        drawn = np.concatenate([self.painted(number).ravel() for number in range(8)])
        noise = drawn[drawn > 0]
        assert noise.min() >= 127 and noise.max() == 255 and 188 < noise.mean() < 194

    def test_is_a_function_of_the_seed(self):
        np.testing.assert_array_equal(self.painted(3), self.painted(3))
        assert (self.painted(3) != self.painted(4)).any()
