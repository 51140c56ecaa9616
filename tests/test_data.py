"""data.py and augment.py: every image once, the published crops, and bad data."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import augment, data
from effnet_tf.config import InputError
from effnet_tf.recipe import RECIPES, Recipe
from tests import conftest, tiny_dataset

FOLDER = dataclasses.replace(RECIPES["small"], dataset="folder", batch_size=4, image_size=32)


def open_folder(path, **changes):
    return data.open_source(dataclasses.replace(FOLDER, data_dir=str(path), **changes))


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


class TestDigits:
    recipe = RECIPES["digits"]

    def test_are_the_bundled_scans(self):
        source = data.open_source(self.recipe)
        assert source.num_train + source.num_eval == 1797
        assert source.class_names == tuple("0123456789")
        encoded, label, _ = take(source.eval_examples(0, 1), 1)[0]
        image = augment.decode(encoded)
        assert image.shape == (8, 8, 3) and image.dtype == tf.uint8 and 0 <= label < 10

    def test_the_split_is_stable_and_disjoint(self):
        one, two = (data.open_source(self.recipe) for _ in range(2))
        assert take(one.eval_examples(0, 1), 400) == take(two.eval_examples(0, 1), 400)
        held_out = [encoded for encoded, *_ in take(one.eval_examples(0, 1), 400)]
        train = [encoded for encoded, *_ in take(one.train_examples(0, 0, 0, 1), one.num_train)]
        from sklearn.datasets import load_digits
        distinct = {tuple(row) for row in load_digits().data}
        assert len(set(train) | set(held_out)) == len(distinct)

    def test_holdout_is_a_fraction(self):
        half = data.open_source(dataclasses.replace(self.recipe, holdout=0.5))
        assert half.num_eval == pytest.approx(1797 / 2, rel=0.1)


class TestTrainingOrder:
    def examples(self, source, seed, start, count, shard=0, shards=1):
        return take(source.train_examples(seed, start, shard, shards), count)

    @pytest.fixture(scope="class")
    def source(self):
        return data.open_source(RECIPES["smoke"])

    def test_an_epoch_is_a_permutation_and_the_next_is_another(self, source):
        two = self.examples(source, 5, 0, 2 * source.num_train)
        first, second = two[:source.num_train], two[source.num_train:]
        assert sorted(first) == sorted(second) and first != second
        assert len(first) == source.num_train

    def test_is_a_function_of_the_seed(self, source):
        assert self.examples(source, 1, 0, 50) == self.examples(source, 1, 0, 50)
        assert self.examples(source, 1, 0, 50) != self.examples(source, 2, 0, 50)

    def test_starts_anywhere(self, source):
        assert self.examples(source, 1, 0, 1000)[970:] == self.examples(source, 1, 970, 30)

    @pytest.mark.parametrize("hosts", [2, 3])
    def test_hosts_share_the_order_of_one(self, source, hosts):
        shards = [self.examples(source, 1, 0, 40, shard, hosts) for shard in range(hosts)]
        together = [example for group in zip(*shards) for example in group]
        assert together == self.examples(source, 1, 0, 40 * hosts)

    def test_batches_continue_where_they_stopped(self, source):
        recipe = RECIPES["smoke"]
        whole = take(data.training(source, recipe, 32, 8), 5)
        rest = take(data.training(source, recipe, 32, 8, start=24), 2)
        for one, other in zip(whole[3:], rest):
            np.testing.assert_array_equal(one["images"], other["images"])
            np.testing.assert_array_equal(one["labels"], other["labels"])

    def test_batches_are_bytes(self, source):
        images, labels = take(data.training(source, RECIPES["smoke"], 40, 8), 1)[0].values()
        assert (images.shape, images.dtype) == ((8, 40, 40, 3), np.uint8)
        assert (labels.shape, labels.dtype) == ((8,), np.int64)


@pytest.mark.parametrize("hosts, batch", [(1, 7), (2, 7), (3, 64), (4, 16)])
def test_evaluation_has_every_image_once(hosts, batch):
    recipe = dataclasses.replace(RECIPES["smoke"], holdout=0.1)
    source = data.open_source(recipe)
    steps = -(-(-(-source.num_eval // hosts)) // batch)
    labels, total = [], 0
    for host in range(hosts):
        batches = take(data.evaluation(source, recipe, 32, batch, steps, shard=host,
                                       num_shards=hosts), steps + 1)
        assert len(batches) == steps
        for images, label, weight in (batch.values() for batch in batches):
            assert images.shape == (batch, 32, 32, 3)
            labels += list(label[weight == 1])
            total += weight.sum()
    assert total == source.num_eval
    expected = [label for _, label, _ in take(source.eval_examples(0, 1), source.num_eval)]
    assert sorted(labels) == sorted(expected)


class TestFolder:
    def test_one_folder_per_class(self, photos, capsys):
        source = open_folder(photos)
        assert source.class_names == ("cat", "dog")
        assert source.num_train + source.num_eval == 24
        assert "20% held out by a hash" in capsys.readouterr().out

    def test_the_split_does_not_move_when_images_are_added(self, photos):
        def held_out():
            return {encoded for encoded, *_ in take(open_folder(photos).eval_examples(0, 1), 99)}
        before = held_out()
        (photos / "cat" / "new.png").write_bytes((photos / "cat" / "1.png").read_bytes())
        assert before <= held_out()

    @pytest.mark.parametrize("name", ["val", "validation", "test"])
    def test_train_and_val_folders(self, tmp_path, name):
        conftest.write_photos(tmp_path / "train")
        conftest.write_photos(tmp_path / name, count=3)
        source = open_folder(tmp_path)
        assert (source.num_train, source.num_eval) == (24, 6)

    def test_train_and_val_of_other_classes(self, tmp_path):
        conftest.write_photos(tmp_path / "train")
        conftest.write_photos(tmp_path / "val", classes=("cat", "wolf"))
        with pytest.raises(InputError, match="dog, wolf only in one"):
            open_folder(tmp_path)

    def test_empty(self, tmp_path):
        with pytest.raises(InputError, match="is empty"):
            open_folder(tmp_path)

    def test_missing(self, tmp_path):
        with pytest.raises(InputError, match="nowhere' is none"):
            open_folder(tmp_path / "nowhere")
        with pytest.raises(InputError, match="needs --data_dir"):
            data.open_source(FOLDER)

    def test_class_without_images(self, photos):
        (photos / "wolf").mkdir()
        with pytest.raises(InputError, match="wolf' holds no images"):
            open_folder(photos)

    def test_one_class(self, tmp_path):
        conftest.write_photos(tmp_path / "p", classes=("cat",))
        with pytest.raises(InputError, match="only the class 'cat'"):
            open_folder(tmp_path / "p")

    @pytest.mark.parametrize("content", [b"", b"no image at all", None])
    def test_unreadable_images_are_named(self, photos, content):
        bad = photos / "dog" / "bad.jpg"
        # None: the first half of a real JPEG, as an interrupted copy leaves it.
        whole = (photos / "cat" / "0.jpg").read_bytes()
        bad.write_bytes(whole[:len(whole) // 3] if content is None else content)
        with pytest.raises(InputError, match=r"1 image\(s\) cannot be decoded.*dog/bad.jpg"):
            open_folder(photos)

    def test_batch_larger_than_the_data(self, photos):
        with pytest.raises(InputError, match="batch_size is 64.*smaller --batch_size"):
            open_folder(photos, batch_size=64)

    def test_nothing_held_out(self, photos):
        with pytest.raises(InputError, match="0 to evaluate on"):
            open_folder(photos, holdout=0.0)

    def test_misspelt_eval_split(self, tmp_path):
        conftest.write_photos(tmp_path / "train")
        with pytest.raises(InputError, match="no folders train/ and valid/"):
            open_folder(tmp_path, eval_split="valid")

    def test_images_without_class_folders(self, tmp_path):
        conftest.write_photos(tmp_path / "p")
        with pytest.raises(InputError, match="has files but no folders"):
            open_folder(tmp_path / "p" / "cat")

    def test_hidden_folders_are_skipped_and_other_files_counted(self, photos, capsys):
        hidden = photos / "cat" / ".ipynb_checkpoints"
        hidden.mkdir()
        (hidden / "0.jpg").write_bytes((photos / "cat" / "0.jpg").read_bytes())
        (photos / "dog" / "notes.txt").write_text("good dog")
        (photos / "dog" / "x.webp").write_bytes(b"RIFF")
        (photos / "cat" / "more").mkdir()
        (photos / "cat" / "more" / "1.png").write_bytes((photos / "cat" / "1.png").read_bytes())
        source = open_folder(photos)
        assert source.num_train + source.num_eval == 25
        assert "Ignored 2 file(s)" in capsys.readouterr().out

    def test_split_folder_that_is_not_there(self, photos):
        with pytest.raises(InputError, match="no folders train/ and check/"):
            open_folder(photos, eval_split="check")


class TestTfds:
    @pytest.fixture(scope="class")
    def data_dir(self, tmp_path_factory):
        return tiny_dataset.write(tmp_path_factory.mktemp("tfds"))

    def recipe(self, data_dir, **changes):
        return dataclasses.replace(
            Recipe(dataset="tiny_colours", data_dir=str(data_dir), batch_size=4, image_size=32),
            **changes)

    def test_reads_a_data_set_on_disk(self, data_dir):
        recipe = self.recipe(data_dir)
        source = data.open_source(recipe)
        assert source.class_names == ("red", "green", "blue")
        assert (source.num_train, source.num_eval) == (20, 20)
        recipe = dataclasses.replace(recipe, augment="none")
        for images, labels in map(dict.values, take(data.training(source, recipe, 32, 4), 10)):
            # The label is the brightest channel: image and label belong together.
            np.testing.assert_array_equal(images.mean((1, 2)).argmax(-1), labels)

    def test_train_order_repeats_and_resumes(self, data_dir):
        source = data.open_source(self.recipe(data_dir))
        whole = take(source.train_examples(3, 0, 0, 1), 50)
        assert take(source.train_examples(3, 0, 0, 1), 50) == whole
        assert take(source.train_examples(3, 30, 0, 1), 20) == whole[30:]
        assert sorted(whole[:20]) == sorted(whole[20:40]) and whole[:20] != whole[20:40]

    def test_evaluation_has_every_image_once_over_hosts(self, data_dir):
        source = data.open_source(self.recipe(data_dir))
        shards = [take(source.eval_examples(host, 3), 99) for host in range(3)]
        assert sorted(sum(shards, [])) == sorted(take(source.eval_examples(0, 1), 99))

    def test_holds_out_where_there_is_no_other_split(self, tmp_path):
        tiny_dataset.write(tmp_path, splits=("train",))
        source = data.open_source(self.recipe(tmp_path, holdout=0.25))
        assert (source.num_train, source.num_eval) == (15, 5)

    @pytest.mark.parametrize("changes, message", [
        (dict(dataset="cifar11"), "no data set 'cifar11'.*cifar10"),
        (dict(dataset="a b"), "cannot open 'a b'"),
        (dict(dataset="cifar10"), "not prepared under.*tfds build cifar10"),
        (dict(eval_split="minival"), "no split 'minival'; it has train, test"),
        (dict(train_split="trian[:50%]"), "no split 'trian"),
        (dict(eval_split="train[:x%]"), "no split 'train"),
        (dict(dataset="huggingface:mnist"), "cannot open 'huggingface:mnist'"),
        (dict(dataset="zzzzqqq"), "No known name is near"),
    ])
    def test_what_cannot_be_opened(self, data_dir, changes, message):
        with pytest.raises(InputError, match=message):
            data.open_source(dataclasses.replace(self.recipe(data_dir), **changes))

    def test_a_data_set_that_is_no_classification(self, tmp_path):
        import tensorflow_datasets as tfds
        tiny_dataset.write(
            tmp_path, "only_text", features=tfds.features.FeaturesDict(
                {"text": tfds.features.Text()}), examples=lambda split: [(0, {"text": "a"})])
        with pytest.raises(InputError, match="no image classification data set.*text"):
            data.open_source(self.recipe(tmp_path, dataset="only_text"))


class TestAugment:
    @pytest.fixture(scope="class")
    def photo(self):
        random = np.random.default_rng(0)
        small = random.integers(0, 256, (15, 20, 3)).astype("uint8")
        return tf.cast(tf.image.resize(small, (150, 200)), tf.uint8)

    @pytest.mark.parametrize("shape, size, padding, expected", [
        # int(size / (size + padding) * short side), offset ((h - c) + 1) // 2: FACTS.md 3.
        ((375, 500), 224, 32, (24, 86, 328, 328)),
        ((500, 333), 300, 32, (100, 17, 300, 300)),
        ((8, 8), 32, 0, (0, 0, 8, 8)),
        ((1, 1), 224, 32, (1 // 2, 1 // 2, 1, 1)),
    ])
    def test_central_window_is_the_published_one(self, shape, size, padding, expected):
        window = augment.central_window(tf.constant([*shape, 3]), size, padding)
        assert tuple(window.numpy()) == expected

    def test_resize_is_tensorflow_1s_bicubic(self, photo):
        expected = tf.compat.v1.image.resize_bicubic(photo[tf.newaxis], (64, 64))[0]
        ours = augment.resize(photo, 64)
        np.testing.assert_array_equal(ours, np.clip(np.round(expected), 0, 255).astype("uint8"))
        modern = tf.image.resize(photo, (64, 64), "bicubic")
        assert np.abs(np.asarray(ours, "float32") - modern).mean() > 1

    @pytest.mark.parametrize("encode", [tf.io.encode_jpeg, tf.io.encode_png, ])
    def test_training_crop_of_jpeg_and_png(self, photo, encode):
        encoded = encode(photo)
        decoded = augment.decode(encoded)
        seed = tf.constant([3, 4], tf.int64)
        make = tf.function(lambda: augment.training_image(
            encoded, 48, crop_area_min=0.08, crop_padding=32, flip=True, seed=seed))
        image = make()
        assert image.shape == (48, 48, 3) and image.dtype == tf.uint8
        np.testing.assert_array_equal(image, make())
        # The fused decode gives the same pixels as decoding everything and cutting.
        png = augment.training_image(
            tf.io.encode_png(decoded), 48, crop_area_min=0.08, crop_padding=32, flip=True,
            seed=seed)
        assert np.abs(np.asarray(image, "float32") - np.asarray(png, "float32")).mean() < 2

    def test_random_crops_have_the_papers_areas_and_shapes(self):
        shape = tf.constant([300, 400, 3])
        windows = np.array([augment._random_window(
            shape, tf.constant([0, 0, 0, 0]), 0.08, tf.constant([1, number], tf.int64))
            for number in range(300)])
        windows = windows[windows[:, 2] > 0]
        areas = windows[:, 2] * windows[:, 3] / 120_000
        ratios = windows[:, 3] / windows[:, 2]
        assert 0.079 < areas.min() < 0.12 and areas.max() > 0.85
        assert 0.73 < ratios.min() < 0.8 and 1.25 < ratios.max() < 1.36

    def test_the_mirror_does_not_depend_on_the_crop(self):
        # Crop and flip of one seed were once drawn from the same numbers.
        ramp = np.tile(np.arange(120, dtype="uint8")[None, :, None], (90, 1, 3))
        encoded = tf.io.encode_png(ramp)
        make = tf.function(lambda number: augment.training_image(
            encoded, 32, crop_area_min=0.08, crop_padding=0, flip=True,
            seed=tf.stack([tf.constant(1, tf.int64), number])))
        images = np.array([make(tf.constant(number, tf.int64)) for number in range(400)], "float32")
        widths = np.abs(images[:, 16, 31, 0] - images[:, 16, 0, 0])
        mirrored = images[:, 16, 31, 0] < images[:, 16, 0, 0]
        for half in (widths < np.median(widths), widths >= np.median(widths)):
            assert 0.4 < mirrored[half].mean() < 0.6
        assert abs(np.corrcoef(widths, mirrored)[0, 1]) < 0.15

    def test_without_crop_and_flip_training_sees_the_evaluation_image(self, photo):
        encoded = tf.io.encode_png(photo)
        train = augment.training_image(encoded, 64, crop_area_min=1.0, crop_padding=32,
                                       flip=False, seed=tf.constant([0, 0], tf.int64))
        np.testing.assert_array_equal(train, augment.evaluation_image(encoded, 64, 32))

    def test_half_of_the_images_are_mirrored(self, photo):
        encoded = tf.io.encode_png(photo)
        plain = augment.evaluation_image(encoded, 32, 0).numpy()
        flips = 0
        for number in range(60):
            image = augment.training_image(encoded, 32, crop_area_min=1.0, crop_padding=0,
                                           flip=True, seed=tf.constant([0, number], tf.int64))
            mirrored = not np.array_equal(image, plain)
            assert not mirrored or np.array_equal(image[:, ::-1], plain)
            flips += mirrored
        assert 15 < flips < 45

    @pytest.mark.parametrize("encoded", [
        tf.io.encode_jpeg(tf.zeros((40, 50, 1), tf.uint8)),     # grey
        tf.io.encode_png(tf.zeros((40, 50, 4), tf.uint8)),      # with alpha
        tf.io.encode_png(tf.zeros((40, 50, 1), tf.uint16)),     # 16 bits
        tf.io.encode_png(tf.zeros((1, 1, 3), tf.uint8)),
    ])
    def test_odd_images(self, encoded):
        seed = tf.constant([1, 2], tf.int64)
        assert augment.evaluation_image(encoded, 32, 32).shape == (32, 32, 3)
        assert augment.training_image(encoded, 32, crop_area_min=0.08, crop_padding=32,
                                      flip=True, seed=seed).shape == (32, 32, 3)


class TestAugmentation:
    recipe = dataclasses.replace(RECIPES["smoke"], dataset="synthetic", batch_size=16,
                                 num_classes=5)

    def batch(self, **changes):
        recipe = dataclasses.replace(self.recipe, **changes)
        return take(data.training(data.open_source(recipe), recipe, 32, 16), 1)[0]

    def test_noise_has_two_batches_and_the_classes_asked_for(self):
        source = data.open_source(self.recipe)
        assert (source.num_train, source.num_eval, len(source.class_names)) == (32, 40, 5)

    @pytest.mark.parametrize("changes", [
        dict(augment="autoaugment"), dict(augment="randaugment"),
        dict(augment="randaugment", randaugment_layers=1, randaugment_magnitude=30.0)])
    def test_policies_change_images_and_not_labels(self, changes):
        plain, augmented = self.batch(), self.batch(**changes)
        np.testing.assert_array_equal(plain["labels"], augmented["labels"])
        different = (plain["images"] != augmented["images"]).any((1, 2, 3))
        assert augmented["images"].dtype == np.uint8 and different.sum() > 4

    @pytest.mark.parametrize("changes", [
        dict(mixup_alpha=0.2), dict(cutmix_alpha=1.0), dict(mixup_alpha=0.2, cutmix_alpha=1.0)])
    def test_pixels_and_labels_are_mixed_by_the_same_share(self, changes):
        mixing = np.concatenate([self.batch(seed=seed, **changes)["mixing"] for seed in range(8)])
        ones = np.zeros((len(mixing), 64, 64, 3), "uint8")
        ones[:len(mixing) // 2] = 200  # the partner, the batch reversed, has the other colour
        scale = np.float32([1, 1, 2, 2, 2, 2])  # boxes were drawn for 32 pixels
        targets = np.eye(2, dtype="float32")[(ones[:, 0, 0, 0] > 0).astype(int)]
        images, mixed = augment.mix(ones, targets, mixing * scale)
        share = np.where(targets[:, 1] == 1, mixing[:, 0], 1 - mixing[:, 0])
        np.testing.assert_allclose(np.mean(images, (1, 2, 3)) / 200, share, atol=1e-5)
        np.testing.assert_allclose(mixed[:, 1], share, atol=1e-6)
        assert 0 <= mixing[:, 0].min() and len(np.unique(mixing[:, 0])) > 50
        if changes.get("cutmix_alpha") is None:
            assert mixing[:, 0].min() >= 0.5  # main.py: the larger share is the image's own

    def test_cutmix_keeps_about_half_on_average(self):
        seeds = tf.stack([tf.range(2000, dtype=tf.int64)] * 2, 1)
        drawn = tf.map_fn(lambda seed: augment.mixing(seed, 32, 0.0, 1.0), seeds,
                          fn_output_signature=tf.float32).numpy()
        assert 0.5 < drawn[:, 0].mean() < 0.75  # the border cuts boxes, which keeps more
        areas = (drawn[:, 3] - drawn[:, 2]) * (drawn[:, 5] - drawn[:, 4]) / 32**2
        np.testing.assert_allclose(drawn[:, 0], 1 - areas, atol=1e-6)


def test_a_label_out_of_range_names_the_record(tmp_path):
    photos = conftest.write_photos(tmp_path / "photos")
    source = dataclasses.replace(open_folder(photos), class_names=("cat",))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        take(data.evaluation(source, FOLDER, 32, 4, 6), 6)
    with pytest.raises(InputError, match=r"A label is out of range: .*labels are 0 to 0.*dog/"):
        data.refuse_bad_label(caught.value)
