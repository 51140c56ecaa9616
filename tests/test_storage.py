"""storage.py: places that are not there, and names that are patterns to TensorFlow."""

import os
import threading

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf import storage
from effnet_tf.errors import InputError
from tests.helpers import hostile


@pytest.mark.parametrize(
    "path, sentence",
    [
        (
            "s3://bucket/run",
            "--workdir 's3://bucket/run' cannot be reached: this TensorFlow knows no "
            "s3:// .only file://, gs://",
        ),
        ("hdfs://host/run", "knows no hdfs://"),
        ("https://host/photos", "knows no https://"),
        (
            f"/data/{hostile.NOT_UTF8}/run",
            r"--workdir '/data/caf\\xe9/run' cannot be used: its name is not UTF-8",
        ),
        (f"gs://{hostile.NOT_UTF8}", "is not UTF-8"),
        ("runs/\0", r"'runs/\\x00' cannot be used: its name holds a null byte"),
    ],
)
def test_places_that_cannot_be(path, sentence):
    with pytest.raises(InputError, match=sentence):
        storage.check_place(path, "--workdir")


def test_every_other_name_of_this_machine_is_a_place():
    for name in hostile.NAMES:
        storage.check_place(f"/nowhere/{name}", "--workdir")
    storage.check_place("ram://nothing/there", "--workdir")


def test_a_place_that_refuses_is_a_sentence(monkeypatch):
    def refuse(path):
        raise tf.errors.FailedPreconditionError(
            None,
            None,
            "{{function_node __wrapped__x}} Could not resolve host: www.example.com\n"
            "\t when reading metadata of gs://b/x",
        )

    monkeypatch.setattr(tf.io.gfile, "exists", refuse)
    with pytest.raises(InputError) as caught:
        storage.check_place("gs://b/x", "--data_dir")
    assert str(caught.value).startswith(
        "--data_dir 'gs://b/x' cannot be reached: Could not resolve host: www.example.com. Check"
    )


def test_a_place_that_never_answers_is_given_up(monkeypatch):
    end = threading.Event()
    monkeypatch.setattr(tf.io.gfile, "exists", lambda path: end.wait())
    monkeypatch.setattr(storage, "PATIENCE", 0.05)
    with pytest.raises(InputError, match="cannot be reached: no answer within 0.05 seconds"):
        storage.check_place("gs://b/x", "--workdir")
    end.set()


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path / "pipe", "a FIFO"),
        (tmp_path, "a folder"),
        ("/dev/zero", "a device"),
    ):
        with pytest.raises(OSError, match=f"it is {kind}, not a regular file"):
            storage.read_bytes(str(path), 100)
    (tmp_path / "large").write_bytes(bytes(101))
    with pytest.raises(InputError, match="large' has 101 bytes, and at most 100"):
        storage.read_bytes(str(tmp_path / "large"), 100)


@pytest.mark.parametrize("root", ["here", "ram://"])
def test_checkpoints_are_read_whatever_their_names(tmp_path, root):
    root = str(tmp_path) if root == "here" else f"ram://{tmp_path.name}"
    for number, name in enumerate(hostile.NAMES):
        for prefix in (os.path.join(root, name, "state"), os.path.join(root, f"{number}", name)):
            tf.io.gfile.makedirs(os.path.dirname(prefix))
            tf.raw_ops.SaveV2(
                prefix=prefix,
                tensor_names=["a"],
                shape_and_slices=[""],
                tensors=[np.float32(number)],
            )
            with storage.plain_prefix(prefix) as plain:
                reader = tf.compat.v1.train.NewCheckpointReader(plain)
                assert reader.get_tensor("a") == number, name
