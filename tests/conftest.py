"""Shared fixtures: small real data on disk."""

import dataclasses
import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# A shell's background job ignores Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

from tests.helpers import heap

heap.keep_little()

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.messages import log
from tests.helpers import memory, tiny_net
from tests.helpers.toy_trainer import ToyTrainer

# Two devices, so that MirroredStrategy can be tested; must be said before TensorFlow starts.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def pytest_addoption(parser):
    parser.addoption(
        "--max-memory",
        type=int,
        metavar="MIB",
        help=("fail the test in which a test process, or one that it started, takes more"),
    )


def pytest_configure(config):
    config.pluginmanager.register(memory)


@pytest.fixture(autouse=True)
def _the_library_can_be_heard_again():
    """An example of the documents silences the library; the next test may read what it says."""
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture(scope="session")
def mirrored():
    """The MirroredStrategy of this process: the collectives of a second one would collide."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="module")
def tiny_variants():
    """For modules that train the networks of tests/helpers/tiny_net.py."""
    with tiny_net.registered():
        yield


@pytest.fixture
def toy_trainer(monkeypatch):
    """Runs have no network: see tests/helpers/toy_trainer.py."""
    monkeypatch.setattr("effnet_tf.train.session.Trainer", ToyTrainer)
    monkeypatch.setattr("effnet_tf.train.session._describe", lambda recipe, trainer: None)
    monkeypatch.setattr("effnet_tf.train.journal.Journal.show_batch", lambda journal: None)
    monkeypatch.setattr("effnet_tf.plots.learning_curve", lambda history, path, marks: True)
    monkeypatch.setattr("effnet_tf.train.journal.TensorBoard", lambda workdir, recipe: None)


@pytest.fixture
def without_the_picture(monkeypatch):
    """Runs draw no picture of a batch, which takes as long as their steps.

    Those of fixtures of a wider scope do.
    """
    monkeypatch.setattr("effnet_tf.train.journal.Journal.show_batch", lambda journal: None)


@pytest.fixture(scope="module")
def few_digits():
    """The data set "digits" has 720 images: what is evaluated takes longer than the training."""
    import sklearn.datasets

    whole = sklearn.datasets.load_digits()
    few = dataclasses.make_dataclass("Few", ["images", "target", "target_names"])(
        whole.images[:720], whole.target[:720], whole.target_names
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.datasets, "load_digits", lambda: few)
        yield


@pytest.fixture(scope="module", autouse=True)
def _graphs_as_traced(request):
    """Graphs run as they were traced: rewriting a tiny network's takes longer than running it.

    Not in files whose numbers depend on the processor, for which rewriting chooses kernels. Nor
    in processes of their own: what users start is tested as it is.
    """
    if request.node.get_closest_marker("processor"):
        yield
        return
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.fixture
def photos(tmp_path):
    """A folder of real JPEG and PNG files: two classes, 12 images each."""
    return write_photos(tmp_path / "photos")


def write_photos(root, classes=("cat", "dog"), count=12, sides=(40, 56)):
    """Writes `count` images per class, half JPEG, half PNG; returns the folder."""
    random = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(count):
            image = random.integers(0, 256, (*sides, 3)).astype("uint8")
            image[..., number] = 255  # learnable: each class has its own colour
            encode, suffix = ((tf.io.encode_jpeg, "jpg"), (tf.io.encode_png, "png"))[index % 2]
            (root / name / f"{index}.{suffix}").write_bytes(encode(image).numpy())
    return root
