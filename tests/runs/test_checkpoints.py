"""checkpoints.py: what is written comes back unharmed, or an older one does, or nothing."""

import contextlib
import os
import shutil
import subprocess

import numpy as np
import pytest
import tensorflow as tf

from effnet_tf.errors import InputError, SaveError
from effnet_tf.runs import checkpoints
from effnet_tf.runs.checkpoints import Store


def values(step):
    """A state whose every array tells its step."""
    random = np.random.default_rng(step)
    return {
        "weights/kernel": random.normal(size=(40, 50)).astype("float32"),
        "step": np.int64(step),
        "ema/a/b": np.full((3,), float(step), "float32"),
        "normalization/mean": np.array([1.5, 2.5, step]),
    }


def filled(folder, steps=(10, 20, 30), **options):
    store = Store(str(folder), **options)
    for step in steps:
        store.save(step, values(step))
    store.wait()
    return store


def assert_is(found, step):
    assert found[0] == step
    assert sorted(found[1]) == sorted(values(step))
    for name, value in values(step).items():
        np.testing.assert_array_equal(found[1][name], value, err_msg=name)
        assert found[1][name].dtype == np.asarray(value).dtype


def folders(store):
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(store.folder))


@pytest.mark.parametrize("in_background", [False, True])
@pytest.mark.parametrize("place", ["disk", "object store"])
def test_the_newest_comes_back_and_k_stay(tmp_path, in_background, place):
    folder = str(tmp_path / "c") if place == "disk" else f"ram://{tmp_path.name}/c"
    store = Store(folder, keep=2, in_background=in_background)
    assert store.newest() is None
    filled(folder, (0, 10, 9_999_999, 100_000_000), keep=2, in_background=in_background)
    assert_is(store.newest(), 100_000_000)
    assert folders(store) == ["09999999", "100000000"]


def test_what_has_no_manifest_is_not_there(tmp_path):
    store = filled(tmp_path)
    (tmp_path / "00000030" / checkpoints.MANIFEST).unlink()
    (tmp_path / "00000040").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    assert_is(store.newest(), 20)
    store.save(50, values(50))
    store.wait()
    assert folders(store) == ["00000010", "00000020", "00000050", "notes.txt"]


def test_files_of_one_checkpoint_in_the_folder_of_another(tmp_path, capsys):
    store = filled(tmp_path)
    shutil.rmtree(tmp_path / "00000030")
    shutil.copytree(tmp_path / "00000010", tmp_path / "00000030")
    assert_is(store.newest(), 20)
    assert "00000030' is damaged (it is of step 10)" in capsys.readouterr().out


def damage(random, folder):
    """Harms a checkpoint as disks and people do."""
    path = random.choice(sorted(folder.iterdir()))
    content = bytearray(path.read_bytes())
    where = int(random.integers(len(content)))
    how = random.choice(["flip", "truncate", "zero", "swap", "remove", "empty", "append"])
    if how == "flip":
        content[where] ^= 1 << int(random.integers(8))
    elif how == "truncate":
        del content[where:]
    elif how == "zero":
        content[where : where + 4096] = bytes(len(content[where : where + 4096]))
    elif how == "swap":  # the same file of another checkpoint
        content = bytearray((folder.parent / "00000010" / path.name).read_bytes())
    elif how == "append":
        content += b"\0"
    path.unlink()
    if how != "remove":
        path.write_bytes(b"" if how == "empty" else bytes(content))


def check_damages(tmp_path, seeds):
    filled(tmp_path / "whole")
    for seed in seeds:
        random = np.random.default_rng(seed)
        folder = tmp_path / str(seed)
        shutil.copytree(tmp_path / "whole", folder)
        for _ in range(int(random.integers(1, 3))):
            damage(random, folder / str(random.choice(["00000020", "00000030"])))
        found = Store(str(folder)).newest()
        assert found is not None  # 10 is whole
        assert_is(found, found[0])
        shutil.rmtree(folder)


def test_100_damages_never_give_wrong_values(tmp_path):
    check_damages(tmp_path, range(100))


@pytest.mark.slow
def test_1000_damages_never_give_wrong_values(tmp_path):
    check_damages(tmp_path, range(100, 1100))


def test_the_reason_is_printed(tmp_path, capsys):
    store = filled(tmp_path)
    data = tmp_path / "00000030" / "state.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:-1] + b"\xff")
    assert_is(store.newest(), 20)
    assert "state.data-00000-of-00001 has another SHA-256" in capsys.readouterr().out


def test_nothing_unharmed_is_nothing(tmp_path):
    filled(tmp_path, (10,))
    (tmp_path / "00000010" / "state.index").unlink()
    with pytest.raises(InputError, match="None of the 1 checkpoints in .* can be read"):
        Store(str(tmp_path)).newest()
    assert checkpoints.newest(str(tmp_path)) is None


def test_a_step_that_is_saved_again_keeps_the_first_until_then(tmp_path, monkeypatch):
    store = filled(tmp_path, (10, 20), keep=1)
    with monkeypatch.context() as patch:
        FailingStore(patch, "SaveV2", 1)
        with pytest.raises(SaveError):
            store.save(20, values(20))
            store.wait()
    assert_is(store.newest(), 20)
    for name in ("00000020-1", "00000020-2"):
        store.save(20, values(20))
        store.wait()
        assert folders(store) == [name]
    assert_is(store.newest(), 20)


def test_the_only_unharmed_one_is_never_removed(tmp_path):
    """With keep=1 a damaged newer one must not push out the good older one."""
    filled(tmp_path, keep=3)
    for step in (20, 30):
        (tmp_path / f"000000{step}" / "state.index").write_bytes(b"?")
    store = Store(str(tmp_path), keep=1)
    assert_is(store.newest(), 10)
    store.sweep()
    assert_is(store.newest(), 10)
    store.save(20, values(20))
    store.wait()
    assert_is(Store(str(tmp_path)).newest(), 20)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_saved(tmp_path, value):
    store = filled(tmp_path, (10,))
    with pytest.raises(SaveError, match=r"state of step 20 is not finite \('ema/a/b'\)"):
        store.save(20, {**values(20), "ema/a/b": np.array([0.0, value], "float32")})
    assert_is(store.newest(), 10)


class FailingStore:
    """Object-store faults: the n-th call of a file operation fails."""

    def __init__(self, monkeypatch, operation, number):
        self.calls, self.number = 0, number
        module, name = (
            (tf.raw_ops, operation) if operation == "SaveV2" else (tf.io.gfile, operation)
        )
        real = getattr(module, name)

        def fail(*args, **kwargs):
            self.calls += 1
            if self.calls == number:
                raise tf.errors.UnavailableError(None, None, "503 try again later")
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, fail)


@pytest.mark.parametrize(
    "operation, number",
    [("SaveV2", 1), ("makedirs", 1), ("GFile", 1), ("GFile", 2), ("GFile", 3), ("rename", 1)],
)
def test_an_object_store_that_fails_keeps_the_older_ones(tmp_path, monkeypatch, operation, number):
    store = filled(f"ram://{tmp_path.name}/c")
    with monkeypatch.context() as patch:
        FailingStore(patch, operation, number)
        with pytest.raises(SaveError, match="of step 40 cannot be written.*503 try again later"):
            store.save(40, values(40))
            store.wait()
    found = Store(store.folder).newest()
    assert_is(found, found[0])
    assert found[0] == 30
    store.save(50, values(50))
    store.wait()
    assert_is(store.newest(), 50)
    assert len(folders(store)) == 3


@pytest.mark.parametrize("keep", [1, 3])
def test_a_sweep_that_fails_after_the_save_costs_nothing(tmp_path, monkeypatch, capsys, keep):
    store = filled(f"ram://{tmp_path.name}/c", keep=keep)
    with monkeypatch.context() as patch:
        FailingStore(patch, "rmtree", 1)
        store.save(40, values(40))
        store.wait()
    assert "Older checkpoints cannot be removed now: 503" in capsys.readouterr().out
    assert_is(Store(store.folder).newest(), 40)


def test_a_failed_background_save_is_reported_in_the_same_run(tmp_path, monkeypatch):
    store = filled(tmp_path, (10,), in_background=True)
    with monkeypatch.context() as patch:
        FailingStore(patch, "SaveV2", 1)
        store.save(20, values(20))
        with pytest.raises(SaveError, match="step 20"):
            while True:  # as the loop does
                store.poll()
    store.save(30, values(30))
    store.close()
    assert_is(Store(str(tmp_path)).newest(), 30)


@pytest.fixture
def small_disk(tmp_path):
    """Mounts a file system of some KB; yields a function that changes its options."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        finished = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True
        )
        if finished.returncode:
            pytest.skip("only root may mount a file system of a given size")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True)


@pytest.mark.parametrize("in_background", [False, True])
@pytest.mark.parametrize("size", [32, 36, 40, 44, 48, 52])
def test_a_full_disk(small_disk, size, in_background):
    disk = small_disk(f"size={size}k")  # one checkpoint has about 12 KB
    store = Store(str(disk / "c"), in_background=in_background)
    saved = []
    with pytest.raises(SaveError, match="cannot be written.*Older checkpoints are intact"):
        for step in (10, 20, 30, 40):
            store.save(step, values(step))
            store.wait()
            saved.append(step)
            with contextlib.suppress(OSError):  # it is full even now
                (disk / f"filler{step}").write_bytes(bytes(4096))
    assert saved
    assert_is(Store(str(disk / "c")).newest(), saved[-1])
    for path in disk.glob("filler*"):
        path.unlink()
    store.keep = 1
    store.sweep()
    store.save(50, values(50))
    store.wait()
    assert_is(store.newest(), 50)


def test_a_read_only_disk(small_disk):
    disk = small_disk("size=1m")
    store = filled(disk / "c", (10,))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(SaveError, match="step 20 cannot be written.*[Rr]ead-only"):
        store.save(20, values(20))
        store.wait()
    assert_is(store.newest(), 10)


def test_a_file_of_the_checkpoint_that_cannot_be_read(tmp_path, monkeypatch):
    store = filled(tmp_path)
    real = checkpoints._hash

    def fail(path):
        if "00000030" in path:
            raise tf.errors.DataLossError(None, None, "input/output error")
        return real(path)

    monkeypatch.setattr(checkpoints, "_hash", fail)
    assert_is(store.newest(), 20)
    assert os.path.exists(tmp_path / "00000030")
