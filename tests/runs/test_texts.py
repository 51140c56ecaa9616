"""texts.py, checkpoints.py: damaged text files of a run are a sentence, and hide nothing."""

import json
import os
import shutil

import numpy as np
import pytest

from effnet_tf import data, storage
from effnet_tf.errors import InputError
from effnet_tf.recipes import RECIPES
from effnet_tf.runs import checkpoints, directory, texts
from effnet_tf.runs.checkpoints import Store
from effnet_tf.train.goodput import Goodput

SMOKE = RECIPES["smoke"]
SOURCE = data.Source(
    "photos", ("a", "b"), data.Listed([(b"", 0)] * 20), data.Listed([(b"", 1)] * 5)
)
DEEP = "[" * 200_000 + "]" * 200_000
DAMAGES = {
    "empty": b"",
    "null bytes": bytes(300),
    "not UTF-8": b'{"seed": "\xff\xfe"}',
    "deep": DEEP.encode(),
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "null": b"null",
    "number": b"7",
    "text": b'"epochs"',
    "list": b"[1, null]",
    "empty list": b"[]",
    "lists": b"[[], {}]",
    "cut off": b'{"seed": 0, "epo',
    "no JSON": b"seed=0",
    "endless number": b"9" * 5000,
    "NaN": b"NaN",
    "names": b'["a", {"b": "c"}]',
    "inner types": b'{"seed": [0], "num_train": "20", "num_eval": null, "seconds": [1], '
    b'"saved": {}, "owner": 1, "step": "1", "split": [], "files": [3]}',
    "inner deep": b'{"files": {"a": ' + DEEP.encode() + b"}}",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory without steps."""
    folder = tmp_path_factory.mktemp("run")
    with directory.claimed(str(folder), SMOKE, SOURCE):
        pass
    return folder


def resume(folder):
    with directory.claimed(str(folder), SMOKE, SOURCE):
        pass


READERS = {
    "recipe.json": lambda folder: texts.read_run(str(folder)),
    "classes.json": lambda folder: texts.read_run(str(folder)),
    "source.json": resume,
    "metrics.jsonl": lambda folder: texts.read_metrics(f"{folder}/metrics.jsonl"),
    "bad_examples.jsonl": lambda folder: texts.read_bad(f"{folder}/bad_examples.jsonl", SOURCE),
}


@pytest.mark.parametrize("name", READERS)
def test_damages_are_sentences(name, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / name
    passed = []
    for damage, content in DAMAGES.items():
        path.write_bytes(content)
        try:
            READERS[name](tmp_path / "run")
            passed.append(damage)
        except InputError as error:
            text = str(error)
            assert str(path) in text and len(text) < 500 and text.endswith("."), damage
            assert "\n" not in text and "Traceback" not in text
    # A file without rows has no damaged ones.
    assert passed == (["empty"] if name.endswith(".jsonl") else [])
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=f"{name}' cannot be read: it is a FIFO"):
        READERS[name](tmp_path / "run")
    path.unlink()
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match="has 1,099,511,627,776 bytes, and at most"):
        READERS[name](tmp_path / "run")


@pytest.mark.parametrize(
    "field, value",
    [
        ("epochs", "16"),
        ("epochs", 1.5),
        ("epochs", True),
        ("epochs", None),
        ("epochs", 10**400),
        ("flip", 1),
        ("flip", "no"),
        ("variant", 0),
        ("variant", ["b0"]),
        ("weight_decay", "0"),
        ("weight_decay", {}),
        ("phi", [1]),
        ("data_dir", 3),
        ("augment", []),
        ("epochs", 0),
    ],
)
def test_a_field_of_another_type(field, value, run, tmp_path):
    shutil.copy(run / "classes.json", tmp_path)
    recipe = json.loads((run / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps({**recipe, field: value}))
    with pytest.raises(InputError, match=rf"recipe.json' .*\b{field} is "):
        texts.read_run(str(tmp_path))


@pytest.mark.parametrize(
    "row",
    [
        {"split": "test", "key": "a", "reason": "b"},
        {"split": "train", "key": 1, "reason": "b"},
        {"split": "train", "key": "a", "reason": "b", "record": 20},
        {"split": "train", "key": "a", "reason": "b", "record": -1},
        {"split": "train", "key": "a", "reason": "b", "record": "1"},
    ],
)
def test_a_row_that_names_no_image(row, tmp_path):
    storage.write_rows(str(tmp_path / "bad.jsonl"), [row])
    with pytest.raises(InputError, match="row 1 names no image"):
        texts.read_bad(str(tmp_path / "bad.jsonl"), SOURCE)


def test_the_time_of_damaged_files_is_not_counted(tmp_path, capsys):
    for content in DAMAGES.values():
        (tmp_path / "goodput.json").write_bytes(content)
        goodput = Goodput(str(tmp_path))
        goodput.load()
        assert "goodput.json' is damaged" in capsys.readouterr().out
        assert sum(goodput.seconds.values()) < 1000
        goodput.write()


def test_a_damaged_mark_of_the_owner(tmp_path):
    for number, content in enumerate(filter(None, DAMAGES.values())):  # GFile writes no empty one
        workdir = f"ram://{tmp_path.name}/{number}"
        with directory.claimed(workdir, SMOKE, SOURCE) as check:
            check()
            with checkpoints.tf.io.gfile.GFile(f"{workdir}/owner.json", "wb") as file:
                file.write(content)
            with pytest.raises(InputError, match="taken over|owner.json' "):
                check()


def test_a_damaged_manifest_hides_nothing(tmp_path, capsys):
    store = Store(str(tmp_path))
    for step in (10, 20):
        store.save(step, {"a": np.full(3, step, "float32")})
    store.close()
    manifest = tmp_path / "00000020" / "manifest.json"
    good = json.loads(manifest.read_text())
    index, data_file = good["files"]["state.index"], good["files"]["state.data-00000-of-00001"]
    contents = [
        *DAMAGES.values(),
        *(
            json.dumps({**good, "files": files}).encode()
            for files in (
                {},
                {"state.index": index},
                {**good["files"], "/dev/zero": [0, "x"]},
                {**good["files"], "../00000010/state.index": index},
                {**good["files"], "": index},
                {"state.index": index, "state.data-00000-of-00001": data_file[0]},
                {"state.index": index, "state.data-00000-of-00001": None},
                {"state.index": [index[0], None], "state.data-00000-of-00001": data_file},
                {"state.index": [1e300, "x"], "state.data-00000-of-00001": data_file},
            )
        ),
    ]
    for content in contents:
        manifest.write_bytes(content)
        step, values = Store(str(tmp_path)).newest()
        assert step == 10 and values["a"].tolist() == [10] * 3
        said = capsys.readouterr().out
        assert "00000020' is damaged" in said and len(said) < 600, said
    manifest.unlink()
    os.mkfifo(manifest)
    assert Store(str(tmp_path)).newest()[0] == 10
