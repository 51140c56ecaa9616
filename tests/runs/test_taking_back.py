"""directory.claimed: a new run that fails takes back what it wrote, and nothing else."""

import os
import socket

import pytest
import tensorflow as tf

from effnet_tf import data, storage
from effnet_tf.recipes import RECIPES
from effnet_tf.runs import checkpoints, directory, texts
from tests.helpers import hostile

SMOKE = RECIPES["smoke"]
SOURCE = data.Source(
    "photos", ("a", "b"), data.Listed([(b"", 0)] * 20), data.Listed([(b"", 1)] * 5)
)


def write_as_a_run_does(workdir):
    """Everything that a run leaves before its first step is saved."""
    store = checkpoints.Store(f"{workdir}/checkpoints")
    store.save(0, {"x": 1.0})
    store.close()
    writer = tf.summary.create_file_writer(f"{workdir}/tensorboard")
    with writer.as_default(step=0):
        tf.summary.scalar("x", 1.0)
    writer.close()
    profile = f"{workdir}/tensorboard/plugins/profile/2026_11_30_12_00_00"
    tf.io.gfile.makedirs(profile)
    storage.write_text(f"{profile}/{socket.gethostname()}.xplane.pb", "ours")
    for name in (
        "metrics.jsonl",
        "augmented.png",
        "goodput.json",
        "goodput.json.tmp",
        "bad_examples.jsonl",
        "bad_examples-1.jsonl",
    ):
        storage.write_text(f"{workdir}/{name}", "ours")


def fail(workdir, during=lambda: None):
    """A new run that is interrupted before anything is saved."""
    with pytest.raises(KeyboardInterrupt):
        with directory.claimed(str(workdir), SMOKE, SOURCE):
            write_as_a_run_does(workdir)
            during()
            raise KeyboardInterrupt


def tree(folder):
    """{path below a folder: its bytes}, folders as None."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_nothing_is_left_of_a_new_directory(tmp_path):
    fail(tmp_path / "deep" / "down" / "run")
    assert tree(tmp_path) == {}


def test_a_directory_that_was_there_stays_as_it_was(tmp_path):
    workdir = tmp_path / "run"
    (workdir / "notes").mkdir(parents=True)
    (workdir / "notes" / "a.txt").write_text("mine")
    for name in (".lock", "bad_examples-1.jsonl"):
        (workdir / name).write_text("old")
    fail(workdir)
    found = tree(workdir)
    assert sorted(found) == [".lock", "bad_examples-1.jsonl", "notes", "notes/a.txt"]
    assert found[".lock"] == b"old" and found["notes/a.txt"] == b"mine"


def test_an_empty_directory_that_was_there_stays(tmp_path):
    fail(tmp_path)
    assert tmp_path.is_dir() and tree(tmp_path) == {}


@pytest.mark.parametrize("was_there", [True, False])
def test_what_the_user_puts_there_meanwhile_stays(tmp_path, was_there, capsys):
    workdir = tmp_path / "run"
    if was_there:
        workdir.mkdir()
    mine = [
        "notes.txt",
        "checkpoints/best/weights.h5",
        "checkpoints/00000000/notes.txt",
        "checkpoints/readme",
        "tensorboard/other/events.out.tfevents.1.host.1.0.v2",
        "tensorboard/events.out.tfevents.1.elsewhere.1.0.v2",
        "tensorboard/todo",
        "recipe.json.old",
        "data/0.jpg",
        *hostile.NAMES,
    ]

    def put():
        for name in mine:
            (workdir / name).parent.mkdir(parents=True, exist_ok=True)
            (workdir / name).write_text(name)
        os.symlink(tmp_path, workdir / "link")

    fail(workdir, put)
    found = {name: content for name, content in tree(workdir).items() if content is not None}
    assert {name: content.decode() for name, content in found.items()} == {
        name: name for name in mine
    }
    assert os.path.islink(workdir / "link")
    assert ("holds files that this run did not write" in capsys.readouterr().out) != was_there


def test_on_an_object_store(tmp_path):
    workdir = f"ram://{tmp_path.name}/run"
    fail(workdir, lambda: storage.write_text(f"{workdir}/checkpoints/mine", "mine"))
    assert tf.io.gfile.listdir(workdir) == ["checkpoints"]
    assert texts.read_text(f"{workdir}/checkpoints/mine") == "mine"


def test_a_start_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(path, text):
        (tmp_path / "run" / "recipe.json").write_text(text)
        raise KeyboardInterrupt

    monkeypatch.setattr(storage, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        with directory.claimed(str(tmp_path / "run"), SMOKE, SOURCE):
            pass
    assert tree(tmp_path) == {}
