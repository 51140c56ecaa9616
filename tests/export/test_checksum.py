"""Damage that no runtime would notice: effnet_tf/export/checksum.py."""

import hashlib
import json
import os

import pytest

from effnet_tf.errors import InputError
from effnet_tf.export import checksum
from tests.helpers import hostile


def report(path, content):
    with open(checksum.report_path(str(path)), "w", encoding="utf-8") as file:
        json.dump(content, file)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"weights")
    return path


def test_of_a_file_and_of_a_directory(file, tmp_path):
    digest = hashlib.sha256(b"weights").hexdigest()
    assert checksum.of(str(file)) == {"m.tflite": digest}
    (tmp_path / "s" / "variables").mkdir(parents=True)
    (tmp_path / "s" / "variables" / "data").write_bytes(b"weights")
    os.mkfifo(tmp_path / "s" / "pipe")  # would never end
    assert checksum.of(str(tmp_path / "s")) == {"variables/data": digest}


def test_every_changed_byte_is_noticed(file):
    report(file, {"sha256": checksum.of(str(file))})
    assert checksum.check(str(file))
    for place in range(7):
        data = bytearray(b"weights")
        data[place] ^= 1
        file.write_bytes(data)
        with pytest.raises(InputError, match="is not what its export wrote.*export it again"):
            checksum.check(str(file))


def test_a_saved_model_is_looked_at_file_by_file(tmp_path):
    for name in ("saved_model.pb", "variables.data"):
        (tmp_path / "s").mkdir(exist_ok=True)
        (tmp_path / "s" / name).write_text(name)
    report(tmp_path / "s", {"sha256": checksum.of(str(tmp_path / "s"))})
    for path in (str(tmp_path / "s"), str(tmp_path / "s") + os.sep):
        assert checksum.check(path)
    (tmp_path / "s" / "variables.data").unlink()
    with pytest.raises(InputError, match="s': variables.data is not what"):
        checksum.check(str(tmp_path / "s"))


def test_a_copy_may_have_another_name(file, tmp_path):
    for name in (*hostile.NAMES, hostile.NOT_UTF8):
        copy = tmp_path / name
        copy.write_bytes(b"weights")
        report(copy, {"sha256": checksum.of(str(file))})
        assert checksum.check(str(copy))


def test_without_a_report_or_with_an_older_one(file):
    assert not checksum.check(str(file))
    report(file, {"variant": "b0"})
    assert not checksum.check(str(file))


@pytest.mark.parametrize(
    "content", ["", "[1]", "{", '{"sha256": 1}', '{"sha256": {"a": 1}}', "[" * 100_000]
)
def test_a_damaged_report(file, content):
    with open(checksum.report_path(str(file)), "w") as out:
        out.write(content)
    with pytest.raises(InputError, match="report .* is damaged"):
        checksum.check(str(file))
