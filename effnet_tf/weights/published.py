"""Which weights were published, where are they, and which pixels do they expect?

`fetch` downloads them by name, `preprocess_input` and `decode_predictions` are those of
keras.applications. Never run here, for want of a network: the downloads themselves.
"""

import dataclasses
import os
import tarfile
import zlib

import keras
import numpy as np

from effnet_tf.errors import InputError, first_line
from effnet_tf.variants import PREPROCESSING


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights of several variants, published in one place.

    Attributes:
        url: of the file, with {variant} and {top} for what varies.
        top1: variant -> published top-1 accuracy on ImageNet's validation images, in
            percent; None where the publisher names none.
        preprocessing: name in `PREPROCESSING`.
        md5: variant -> hashes of the file with and without its classifier, if published.
    """

    url: str
    top1: dict
    preprocessing: str = "imagenet"
    md5: dict = dataclasses.field(default_factory=dict)


_GOOGLE = "https://storage.googleapis.com/cloud-tpu-checkpoints/efficientnet/"
_KERAS_MD5 = {  # keras/src/applications/efficientnet.py: WEIGHTS_HASHES
    "b0": ("902e53a9f72be733fc0bcb005b3ebbac", "50bc09e76180e00e4465e1a485ddc09d"),
    "b1": ("1d254153d4ab51201f1646940f018540", "74c4e6b3e1f6a1eea24c589628592432"),
    "b2": ("b15cce36ff4dcbd00b6dd88e7857a6ad", "111f8e2ac8aa800a7a99e3239f7bfb39"),
    "b3": ("ffd1fdc53d0ce67064dc6a9c7960ede0", "af6d107764bb5b1abb91932881670226"),
    "b4": ("18c95ad55216b8f92d7e70b3a046e2fc", "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    "b5": ("ace28f2a6363774853a83a0b21b9421a", "38879255a25d3c92d5e44e04ae6cec6f"),
    "b6": ("165f6e37dce68623721b423839de8be5", "9ecce42647a20130c1f39a5d4cb75743"),
    "b7": ("8c03f828fec3ef71311cd463b6759d99", "cbcfe4450ddf6f3ad90b1b398090fe4a"),
}


def _b(*top1):
    return {f"b{number}": accuracy for number, accuracy in enumerate(top1) if accuracy}


# Accuracies: README.md of the original code, of its lite/ and of its edgetpu/.
PUBLISHED = {
    "imagenet": (
        Published(
            "https://storage.googleapis.com/keras-applications/efficientnet{variant}{top}.h5",
            dict.fromkeys(_KERAS_MD5),
            md5=_KERAS_MD5,
        ),
        Published(
            _GOOGLE + "lite/efficientnet-{variant}.tar.gz",
            {"lite0": 75.1, "lite1": 76.7, "lite2": 77.6, "lite3": 79.8, "lite4": 81.5},
            "lite",
        ),
        Published(
            _GOOGLE + "efficientnet-{variant}.tar.gz",
            {"edgetpu-s": 77.23, "edgetpu-m": 78.69, "edgetpu-l": 80.62},
            "lite",
        ),
    ),
    "baseline": (
        Published(
            _GOOGLE + "ckpts/efficientnet-{variant}.tar.gz", _b(76.7, 78.7, 79.8, 81.1, 82.5, 83.1)
        ),
    ),
    "autoaugment": (
        Published(
            _GOOGLE + "ckptsaug/efficientnet-{variant}.tar.gz",
            _b(77.1, 79.1, 80.1, 81.6, 82.9, 83.6, 84.0, 84.3),
        ),
    ),
    "randaugment": (
        Published(
            _GOOGLE + "randaug/efficientnet-{variant}-randaug.tar.gz", {"b5": 83.7, "b7": 84.7}
        ),
    ),
    "advprop": (
        Published(
            _GOOGLE + "advprop/efficientnet-{variant}.tar.gz",
            _b(77.6, 79.6, 80.5, 81.9, 83.3, 84.3, 84.8, 85.2, 85.5),
            "inception",
        ),
    ),
    "noisy-student": (
        Published(
            _GOOGLE + "noisystudent/noisy_student_efficientnet-{variant}.tar.gz",
            {**_b(78.8, 81.5, 82.4, 84.1, 85.3, 86.1, 86.4, 86.9), "l2": 88.4},
        ),
    ),
    "noisy-student-475": (  # L2 trained and evaluated at 475 pixels
        Published(
            _GOOGLE + "noisystudent/noisy_student_efficientnet-{variant}_475.tar.gz", {"l2": 88.2}
        ),
    ),
}


def find(name, variant):
    """Returns the `Published` weights called `name` of a released variant.

    Raises:
        InputError: there are none; the sentence lists those there are.
    """
    for published in PUBLISHED[name]:
        if variant in published.top1:
            return published
    others = [
        other for other, rows in PUBLISHED.items() if any(variant in row.top1 for row in rows)
    ]
    raise InputError(
        f"No weights '{name}' were published for variant '{variant}'; it has "
        f"{' and '.join(map(repr, others)) if others else 'none'}."
    )


def fetch(name, variant, include_top=True):
    """Downloads published weights into Keras' cache, unless they are there.

    Args:
        name: a key of `PUBLISHED`.
        variant: name of a released variant.
        include_top: whether the classifier is needed.

    Returns:
        (path of a file or directory that `load_weights` reads, (mean, std)).

    Raises:
        InputError: never published, no network, or a damaged download.
    """
    published = find(name, variant)
    official = variant[:-1] + variant[-1].upper() if variant.startswith("edgetpu") else variant
    url = published.url.format(variant=official, top="" if include_top else "_notop")
    md5 = published.md5.get(variant)
    options = (
        dict(file_hash=md5[not include_top])
        if md5
        # Archives of different weights have the same file name.
        else dict(fname=f"effnet_tf-{name}-{variant}", extract=True)
    )
    accuracy = published.top1[variant]
    print(
        f"Weights '{name}' of {variant}"
        + (f" ({accuracy} % top-1 as published)" if accuracy else "")
    )
    try:
        path = _get_file(url, options)
    except Exception as error:  # get_file raises bare Exceptions
        raise InputError(
            f"The weights '{name}' of {variant} cannot be downloaded from {url}: "
            f"{first_line(error)}. Download them where there is a network and pass the "
            "path instead of the name; or try again."
        ) from error
    return path, PREPROCESSING[published.preprocessing]


def _get_file(url, options):
    """keras.utils.get_file, and again from the start if what it had cached is damaged."""
    for force in (False, True):
        try:
            path = keras.utils.get_file(
                origin=url, cache_subdir="models", force_download=force, **options
            )
            if os.path.exists(path):
                return path
        except (tarfile.TarError, EOFError, zlib.error):
            if force:
                raise
    raise OSError("what came is no archive")


def preprocess_input(x, data_format=None):
    """Returns `x` as it is: the models normalise pixels in [0, 255] themselves.

    It is here for programs written for keras.applications, where it does the same.

    Args:
        x: images, any dtype, in [0, 255].
        data_format: unused, as in keras.applications.
    """
    del data_format
    return x


def decode_predictions(preds, top=5):
    """Names the most probable ImageNet classes, as keras.applications does.

    Args:
        preds: (N, 1000) scores, or (N, 1001) with the background first (EdgeTPU).
        top: how many classes per image.

    Returns:
        A list per image of (WordNet id, name, score), best first.

    Raises:
        InputError: another number of classes, or the names (a file that Keras downloads
            once and caches) cannot be had.
    """
    preds = np.asarray(preds)
    if preds.ndim != 2 or preds.shape[1] not in (1000, 1001):
        raise InputError(
            "decode_predictions names the 1000 classes of ImageNet; it got an array "
            f"of shape {preds.shape}, not (N, 1000)."
        )
    try:
        return keras.applications.imagenet_utils.decode_predictions(preds[:, -1000:], top=top)
    except Exception as error:  # get_file raises bare Exceptions
        raise InputError(
            f"The names of ImageNet's classes cannot be downloaded: {first_line(error)}."
        ) from error
