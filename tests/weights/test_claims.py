"""Weights files made to harm: they reach for other files, claim gigabytes, never end, hold NaN."""

import io
import json
import os
import pickle
import shutil
import time
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import InputError, load_weights
from effnet_tf.runs import locate
from effnet_tf.runs.checkpoints import Store
from effnet_tf.weights import claims
from effnet_tf.weights.pixels import network_weights
from tests.helpers import hostile, tiny_net


@pytest.fixture(scope="module")
def model():
    with tiny_net.registered():
        return effnet_tf.model_fn("tinier", 3)


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    """Files of the model, in every format of Keras, and its run's checkpoint."""
    folder = tmp_path_factory.mktemp("saved")
    model.save_weights(folder / "good.weights.h5")
    model.save(folder / "good.keras")
    Store(str(folder / "run" / "checkpoints")).save(
        10, {f"weights/{variable.path}": variable.numpy() for variable in network_weights(model)}
    )
    return folder


def a_dataset(root):
    """The first data set with some numbers below a group."""
    found = []
    root.visititems(
        lambda name, item: (
            found.append(name) if isinstance(item, h5py.Dataset) and item.size > 1 else None
        )
    )
    return found[0]


def external(root, name, secret):
    shape = root[name].shape
    del root[name]
    root.create_dataset(name, shape, "float32", external=[(secret, 0, h5py.h5f.UNLIMITED)])


def virtual(root, name, secret):
    shape = root[name].shape
    del root[name]
    layout = h5py.VirtualLayout(shape, "float32")
    layout[...] = h5py.VirtualSource(f"{secret}.h5", "x", shape)
    root.create_virtual_dataset(name, layout)


def external_link(root, name, secret):
    del root[name]
    root[name] = h5py.ExternalLink(f"{secret}.h5", "/x")


def soft_link(root, name, secret):
    root["layers/round"] = h5py.SoftLink("/layers")


def hard_cycle(root, name, secret):
    root["layers/round"] = root["layers"]


def packed(root, name, secret):
    root.create_dataset(
        "layers/large", (1 << 30,), "float32", compression="gzip", chunks=(1 << 20,)
    )


def claimed(root, name, secret):
    root.create_dataset("layers/huge", (1 << 31, 1 << 31, 4), "float32", chunks=(1, 1, 1))


HARM = {
    external: "takes '/.*' from other files on this machine",
    virtual: "takes '/.*' from other files on this machine",
    external_link: "as a link to '.*secret.h5'",
    soft_link: "as a link to '/layers'",
    hard_cycle: "holds its group '/.*' twice",
    packed: "claims to hold 4,2..,...,... bytes",
    claimed: "claims to hold 73,786,976,",
}


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_hdf5_that_reaches_or_claims_too_far(harm, model, saved, tmp_path):
    secret = str(tmp_path / "secret")
    np.full(1000, 7, "float32").tofile(secret)
    path = tmp_path / "bad.weights.h5"
    shutil.copy(saved / "good.weights.h5", path)
    with h5py.File(path, "r+") as root:
        harm(root, a_dataset(root), secret)
    before = model.get_weights()
    with pytest.raises(InputError, match=HARM[harm]):
        load_weights(model, path)
    archive = tmp_path / "bad.keras"
    repack(saved / "good.keras", archive, {"model.weights.h5": path.read_bytes()})
    for load in (lambda: load_weights(model, archive), lambda: effnet_tf.load_model(archive)):
        with pytest.raises(InputError, match=HARM[harm]):
            load()
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, other)


def repack(source, target, changes):
    """Copies a zip archive, with other content in some of its entries."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            if changes.get(name, b"") is not None:
                new.writestr(name, changes.get(name, old.read(name)))


def test_a_zip_archive_that_unpacks_to_far_more(model, saved, tmp_path):
    repack(saved / "good.keras", tmp_path / "bomb.keras", {"model.weights.h5": bytes(200 << 20)})
    (tmp_path / "bomb.pth").write_bytes((tmp_path / "bomb.keras").read_bytes())
    assert (tmp_path / "bomb.keras").stat().st_size < 1 << 20
    for name in ("bomb.keras", "bomb.pth"):
        with pytest.raises(InputError, match="claims to hold 2..,...,... bytes of weights"):
            load_weights(model, tmp_path / name)
    with pytest.raises(InputError, match="claims to hold 2..,...,... bytes of weights"):
        effnet_tf.load_model(tmp_path / "bomb.keras")


def test_a_sparse_file_is_not_read(model, tmp_path):
    with open(tmp_path / "sparse.h5", "wb") as file:
        file.write(claims.HDF5)
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="has 1,099,511,627,776 bytes, and at most"):
        load_weights(model, tmp_path / "sparse.h5")


def test_deep_json_and_absurd_headers_are_sentences(model, saved, tmp_path):
    deep = b"[" * 100_000 + b"]" * 100_000
    repack(saved / "good.keras", tmp_path / "deep.keras", {"config.json": deep})
    repack(saved / "good.keras", tmp_path / "none.keras", {"config.json": None})
    for number, length in enumerate((len(deep) + 5, 1, 99_999_999)):
        (tmp_path / f"{number}.safetensors").write_bytes(
            length.to_bytes(8, "little") + b'{"a":' + deep + b"}"
        )
    huge = json.dumps(
        {"stem.weight": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}
    ).encode()
    (tmp_path / "huge.safetensors").write_bytes(len(huge).to_bytes(8, "little") + huge)
    (tmp_path / "x.pth").write_bytes(pickle.dumps({"a": [[]]}, 2))
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError) as caught:
            load_weights(model, path)
        assert str(path) in str(caught.value) or "package" in str(caught.value)


def test_pipes_and_devices_are_refused(model, saved, tmp_path):
    os.mkfifo(tmp_path / "pipe.h5")
    shutil.copytree(saved / "run" / "checkpoints" / "00000010", tmp_path / "folder")
    (tmp_path / "folder" / "manifest.json").unlink()
    (tmp_path / "folder" / "state.index").unlink()
    os.mkfifo(tmp_path / "folder" / "state.index")
    begun = time.monotonic()
    for path in (tmp_path / "pipe.h5", "/dev/zero", tmp_path / "folder"):
        with pytest.raises(InputError, match="it is a (FIFO|device), not a regular"):
            load_weights(model, path)
    with pytest.raises(InputError, match="it is a FIFO, not a regular file"):
        effnet_tf.load_model(tmp_path / "pipe.h5")
    assert time.monotonic() - begun < 300  # they would hang for ever


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_is_refused_by_name(value, model, saved, tmp_path):
    shutil.copy(saved / "good.weights.h5", tmp_path / "w.weights.h5")
    with h5py.File(tmp_path / "w.weights.h5", "r+") as root:
        name = a_dataset(root)
        values = root[name][()].astype("float64")
        values.flat[0] = value
        del root[name]
        root[name] = values
    repack(
        saved / "good.keras",
        tmp_path / "w.keras",
        {"model.weights.h5": (tmp_path / "w.weights.h5").read_bytes()},
    )
    before = model.get_weights()
    for path in ("w.weights.h5", "w.keras"):
        with pytest.raises(
            InputError,
            match=r"NaN or infinite, in 1 of its variables: "
            r"[\w/]+ \(1 of \d+\)",
        ):
            load_weights(model, tmp_path / path)
    if value != 1e300:  # Keras itself cannot read that
        with pytest.raises(InputError, match=r"NaN or infinite, in 1 of its variables"):
            effnet_tf.load_model(tmp_path / "w.keras")
    for one, other in zip(before, model.get_weights()):
        np.testing.assert_array_equal(one, other)


def test_a_checkpoint_that_is_not_finite(model, tmp_path):
    values = {f"weights/{each.path}": each.numpy() for each in network_weights(model)}
    values["weights/predictions/bias"] = np.float32([0, np.nan, np.inf])
    names = sorted(values)
    (tmp_path / "checkpoints").mkdir()
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "checkpoints" / "state"),
        tensor_names=names,
        shape_and_slices=[""] * len(names),
        tensors=[values[name] for name in names],
    )
    with pytest.raises(InputError, match=r"predictions/bias \(2 of 3\)"):
        load_weights(model, tmp_path)


def test_a_damaged_checkpoint_is_never_loaded_by_another_spelling(model, saved, tmp_path):
    shutil.copytree(saved / "run", tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "00000010"
    data = bytearray((folder / "state.data-00000-of-00001").read_bytes())
    data[100] ^= 1
    (folder / "state.data-00000-of-00001").write_bytes(data)
    shutil.copytree(folder, tmp_path / "best")
    for path in (
        tmp_path / "run",
        folder.parent,
        folder,
        folder / "state",
        folder / "state.index",
        tmp_path / "best",
    ):
        with pytest.raises(InputError, match="damaged"):
            load_weights(model, path)


def test_every_name_of_a_folder_or_file(model, saved, tmp_path):
    values = model.get_weights()
    for name in hostile.NAMES:
        folder = tmp_path / name
        shutil.copytree(saved / "run", folder / "run")
        shutil.copy(saved / "good.weights.h5", folder / f"{name}.h5")
        for path in (folder / "run", folder / f"{name}.h5"):
            for variable in network_weights(model):
                variable.assign(np.zeros(variable.shape))
            load_weights(model, path)
            for one, other in zip(values, model.get_weights()):
                np.testing.assert_array_equal(one, other)
        shutil.rmtree(folder)
    with pytest.raises(InputError, match=r"weights '.*caf\\xe9' cannot be used: its name is not"):
        load_weights(model, str(tmp_path / hostile.NOT_UTF8))


def test_checkpoints_of_others_below_every_name(tmp_path):
    for name in hostile.NAMES:
        folder = tmp_path / name
        folder.mkdir()
        prefix = str(folder / "model.ckpt")
        tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["a"], shape_and_slices=[""], tensors=[1.0])
        assert locate.checkpoint_prefix(str(folder)) == prefix
        tf.compat.v1.train.update_checkpoint_state(str(folder), prefix)
        assert locate.latest_checkpoint(str(folder)) == prefix, name


def test_good_files_still_load(model, saved):
    for name in ("good.weights.h5", "good.keras", "run"):
        assert load_weights(model, saved / name).exact
    assert isinstance(effnet_tf.load_model(saved / "good.keras"), keras.Model)
    with pytest.raises(InputError, match="cannot be read"):
        effnet_tf.load_model(saved / "none.keras")
    buffer = io.BytesIO((saved / "good.keras").read_bytes()[:-100])
    (saved / "cut.keras").write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="cannot be read"):
        effnet_tf.load_model(saved / "cut.keras")
