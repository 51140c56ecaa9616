"""cells.py, tables.py, sources.py: tables of images that have any number of names."""

import dataclasses
import json

import numpy as np
import pytest

from effnet_tf import data
from effnet_tf.data import balance, splits, tables
from effnet_tf.errors import InputError
from effnet_tf.recipes import RECIPES
from tests.helpers import several_names

SMALL = dataclasses.replace(RECIPES["small"], dataset="table", labels="multi", batch_size=2)


def read(tmp_path, text, several=True, name="t.csv", **how):
    (tmp_path / name).write_text(text)
    return tables.read(str(tmp_path / name), several=several, **how)


def names_of(table):
    """{path as written: its names}."""
    chosen = [np.flatnonzero(table.label_sets[row.label]) for row in table.rows]
    return {
        row.name: " ".join(table.class_names[number] for number in numbers)
        for row, numbers in zip(table.rows, chosen)
    }


class TestWhatCellsSay:
    @pytest.mark.parametrize("mark", ["|", ";", ",", " | "])
    def test_names_with_something_between(self, tmp_path, capsys, mark):
        rows = [f'"cat{mark}dog"', "dog", "", f'"dog{mark}cat{mark}"', "cat"]
        lines = [f"{number}.jpg,{cell}" for number, cell in enumerate(rows)]
        table = read(tmp_path, "\n".join(["path,labels", *lines]))
        assert list(names_of(table).values()) == ["cat dog", "dog", "", "cat dog", "cat"]
        assert len(table.label_sets) == 4  # nothing, cat, both, dog
        said = capsys.readouterr().out
        assert "2 classes, 1.20 names per image on average, 1 of 5 images without any" in said
        assert f"'{mark.strip()}' stands between names" in said

    def test_a_comma_inside_of_a_name_where_something_else_separates(self, tmp_path):
        text = 'path,label\na.jpg,"tabby, cat|dog"\nb.jpg,"tabby, cat"\nc.jpg,dog\n'
        table = read(tmp_path, text)
        assert table.class_names == ("dog", "tabby, cat")

    def test_one_name_in_each(self, tmp_path, capsys):
        table = read(tmp_path, "path,label\na.jpg,cat\nb.jpg,dog\nc.jpg,dog\nd.jpg,cat\n")
        assert table.label_sets.tolist() == [[True, False], [False, True]]
        assert "stands between" not in capsys.readouterr().out

    def test_jsonl_has_lists_and_texts(self, tmp_path):
        cells = [["a|b", "c"], "c", [], None, ["a|b"], [1], [1]]
        rows = [{"path": f"{number}.jpg", "labels": cell} for number, cell in enumerate(cells)]
        lines = [json.dumps(row) for row in rows]
        table = read(tmp_path, "\n".join([*lines, '{"path": "7.jpg"}']), name="t.jsonl")
        assert table.class_names == ("1", "a|b", "c")
        assert list(names_of(table).values()) == ["a|b c", "c", "", "", "a|b", "1", "1", ""]

    @pytest.mark.parametrize(
        "text, message",
        [
            ("path,label\na.jpg,\n", "names no class"),
            ("path,label\na.jpg,nan\n", "line 2: .* Leave the label empty if there is nothing"),
            ("path,label,labels\na.jpg,cat,cat\n", "has the column label twice"),
            ("path,label\na.jpg,cat|dog\nb.jpg,cat|dog\na.jpg,dog\n", "in one row"),
            ("path,label\n,cat\n", "a row needs a path"),
            ("path,label\na.jpg,0.5|0.25\n", "like a measurement"),
            ("path,label\na.jpg,cat|dog\nb.jpg,\n", "a label that no other row has"),
        ],
    )
    def test_faults(self, tmp_path, text, message):
        with pytest.raises(InputError, match=message):
            read(tmp_path, text)


class TestOneNamePerImage:
    def test_refuses_several_with_the_way_out(self, tmp_path):
        text = "path,label\na.jpg,cat|dog\nb.jpg,cat\nc.jpg,dog\nd.jpg,cat|dog\n"
        message = r"line 2: the label 'cat\|dog' is several names.*--labels multi.*--num_classes 3"
        with pytest.raises(InputError, match=message):
            read(tmp_path, text, several=False)
        assert len(read(tmp_path, text, several=False, num_classes=3).class_names) == 3

    def test_takes_names_with_commas_as_those_of_imagenet(self, tmp_path):
        names = ("tench, Tinca tinca", "goldfish, Carassius auratus", "cock")
        lines = [f'{number}.jpg,"{names[number % 3]}"' for number in range(6)]
        table = read(tmp_path, "\n".join(["path,label", *lines]), several=False)
        assert table.class_names == tuple(sorted(names)) and table.label_sets is None

    @pytest.mark.parametrize(
        "name, text, message",
        [
            (
                "t.jsonl",
                '{"path": "a.jpg", "label": ["cat"]}',
                r"is \[\"cat\"\]. Train .*--labels multi",
            ),
            ("t.csv", "path,labels\na.jpg,cat\n", "column labels is read with --labels multi"),
        ],
    )
    def test_columns_and_lists_of_several(self, tmp_path, name, text, message):
        with pytest.raises(InputError, match=message):
            read(tmp_path, text, several=False, name=name)


@pytest.fixture
def stripes(tmp_path):
    """A source of 24 pictures."""
    return data.open_source(dataclasses.replace(SMALL, data_dir=several_names.write(tmp_path)))


class TestSource:
    def test_every_class_has_its_share_held_out(self, stripes):
        assert stripes.num_train == 19 and stripes.num_eval == 5
        assert stripes.label_sets[stripes.held_out.labels].any(0).all()
        assert [stripes.label_name(label) for label in (0, 2, 7)] == [
            "nothing",
            "blue + green",
            "red",
        ]

    def test_the_rarest_class_decides_which_share(self):
        sets = np.array([[0, 0], [1, 0], [1, 1]], bool)
        assert splits.rarest(np.array([1, 1, 2, 0, 1]), sets) == [0, 0, 1, -1, 0]

    def test_a_folder_gives_each_image_one_name(self, photos, capsys):
        recipe = dataclasses.replace(SMALL, dataset="folder", data_dir=str(photos))
        source = data.open_source(recipe)
        assert source.label_sets.tolist() == [[True, False], [False, True]]
        assert "One name per image" in capsys.readouterr().out

    def test_balanced_weights_make_with_and_without_count_the_same(self, stripes):
        found = balance.weights(dataclasses.replace(SMALL, class_weights="balanced"), stripes)
        present = stripes.label_sets[stripes.train.labels]
        np.testing.assert_allclose(found * present.sum(0), (~present).sum(0), rtol=1e-6)

    def test_balanced_sampling_is_refused(self):
        with pytest.raises(InputError, match="--sampling balanced has no use with --labels multi"):
            dataclasses.replace(SMALL, sampling="balanced")
