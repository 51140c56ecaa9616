"""The table of trainings: exact, sorted, and refused where it is not one."""

import dataclasses

import pytest

import effnet_tf
from effnet_tf.search import rows
from effnet_tf.search.rows import Row, Table, Training

ROW = Row("0", "few-d1-w2-r4", 0, 3, 5, 1 / 3, 1.0, 2.0, 1.0, "width", 1234, 56)


def test_what_is_written_is_read_again(tmp_path):
    path = str(tmp_path / "trainings.csv")
    table = Table(path)
    other = dataclasses.replace(ROW, seed=1, accuracy=0.1 + 0.2)
    table.add([ROW])
    table.add([other])
    again = Table(path)
    assert again.rows == [other, ROW]  # sorted, whatever came first; to the last digit
    assert again.accuracy(Training(ROW.candidate, 0, 3, 5)) == 1 / 3
    assert Training(ROW.candidate, 0, 2, 5) not in again
    assert [each.name for each in tmp_path.iterdir()] == ["trainings.csv"]


def test_the_order_of_the_trainings_does_not_show(tmp_path):
    several = [dataclasses.replace(ROW, seed=seed) for seed in range(5)]
    texts = []
    for number, those in enumerate((several, several[::-1])):
        path = tmp_path / f"{number}.csv"
        for each in those:
            Table(str(path)).add([each])
        texts.append(path.read_text())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "must begin with the columns rung, candidate"),
        ("a,b\n1,2\n", "must begin with the columns"),
        (",".join(rows.FIELDS) + "\n0,x,0,0,1,much,1,1,1,,1,1\n", "Line 2 of the table .*'much'"),
        (",".join(rows.FIELDS) + "\n0,x,0\n", "Line 2 .* is not one of this table"),
    ],
)
def test_another_file_is_refused(text, message, tmp_path):
    path = tmp_path / "other.csv"
    path.write_text(text)
    with pytest.raises(effnet_tf.InputError, match=message):
        Table(str(path))


def test_a_file_of_bytes_is_refused(tmp_path):
    path = tmp_path / "bytes.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(effnet_tf.InputError, match="cannot be read"):
        rows.read(str(path))
