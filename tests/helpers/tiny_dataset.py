"""A real TFDS data set, small enough to be written in a test."""

import numpy as np
import tensorflow_datasets as tfds


def write(
    data_dir, name="tiny_colours", splits=("train", "test"), count=20, features=None, examples=None
):
    """Writes TFRecords of `count` PNG images per split in three colours; returns data_dir."""
    features = features or tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["red", "green", "blue"]),
        }
    )

    def colours(split):
        random = np.random.default_rng(len(split))
        for index in range(count):
            image = random.integers(0, 100, (30 + index, 40, 3)).astype("uint8")
            image[..., index % 3] = 255
            yield index, {"image": image, "label": index % 3}

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return self.dataset_info_from_configs(features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            yield from (examples or colours)(split)

    Builder.name = name
    Builder.pkg_dir_path = None
    Builder(data_dir=data_dir).download_and_prepare()
    return data_dir
