"""What programs say that they wrote, drew or kept is said after the fact, and is true."""

import types

import numpy as np
import pytest

from effnet_tf import plots, programs, storage
from effnet_tf.data import __main__ as data_program
from effnet_tf.errors import InputError, SaveError
from effnet_tf.inference import explaining, overlays, sheets, tally
from effnet_tf.inference.predicting import Prediction
from effnet_tf.train.bad_list import BadList

PIXELS = np.full((4, 4, 3), 7, "float32")


def explanation(**changes):
    given = dict(image="a.jpg", classes=("cat",), probabilities=(0.9,), heats=(np.ones((4, 4)),))
    return explaining.Explanation(**{**given, "pixels": PIXELS, **changes})


class TestWithoutPictures:
    """Where none can be drawn, as without matplotlib, nobody says that one was."""

    @pytest.fixture(autouse=True)
    def nothing_is_drawn(self, monkeypatch):
        monkeypatch.setattr(plots, "picture", lambda *arguments: False)

    def test_of_predictions(self, tmp_path, capsys):
        kept = tally.Tally(str(tmp_path / "p.png"))
        kept.add(Prediction("a.jpg", ("cat",), (0.9,), pixels=PIXELS))
        kept.finish([], [])
        assert "Drew" not in capsys.readouterr().out

    def test_of_explanations(self, tmp_path, monkeypatch):
        monkeypatch.setattr(overlays, "panels", lambda each: ([PIXELS], ["a"]))
        for out in ("folder", "sheet.png"):
            place = sheets.place(str(tmp_path / out), 1, "grad_cam")
            assert not place.add(explanation())
            assert "Drew" not in " ".join(place.finish())


def test_a_folder_of_pictures_is_counted_by_what_was_drawn(tmp_path, monkeypatch):
    place, answers = sheets.place(str(tmp_path / "f"), 1, "grad_cam"), iter((True, False))
    monkeypatch.setattr(overlays, "draw", lambda *arguments: next(answers))
    assert [bool(place.add(explanation())) for _ in range(2)] == [True, False]
    assert place.finish() == [f"Drew 1 pictures to {tmp_path / 'f'}"]


def test_without_a_good_image_there_is_no_picture(tmp_path, capsys):
    path = str(tmp_path / "p.png")
    kept = tally.Tally(path)
    kept.add(Prediction("a.jpg", fault="empty"))
    with pytest.raises(InputError, match="1 of 1 images cannot be used"):
        kept.finish([], [])
    assert f"there is no new {path}" in capsys.readouterr().out
    sheet = sheets.place(path, 1, "grad_cam")
    sheet.add(explanation(fault="empty"))
    assert sheet.finish() == [f"There is no image to draw, so there is no new {path}"]


def test_an_empty_list_of_bad_images_is_called_empty():
    assert data_program._listed(0, "bad.jsonl") == "All images can be used; bad.jsonl is empty."
    assert data_program._listed(1234, "b").startswith("Images that cannot be used (1,234)")


def test_a_list_is_named_once_it_is_there(monkeypatch, capsys):
    listed = BadList.__new__(BadList)
    entry = {"split": "train", "key": "a.jpg", "reason": "empty"}
    listed._source = types.SimpleNamespace(bad=types.SimpleNamespace(entries=[entry]))
    listed._noted, listed._is_chief, listed.path = 0, False, "/no/such/folder/bad.jsonl"

    def refuse(path, rows):
        raise SaveError(f"'{path}' cannot be written.")

    monkeypatch.setattr(storage, "write_rows", refuse)
    with pytest.raises(SaveError):
        listed.note()
    assert "see" not in capsys.readouterr().out
    monkeypatch.setattr(storage, "write_rows", lambda path, rows: None)
    listed._noted = 0
    listed.note()
    assert f"see {listed.path}" in capsys.readouterr().out


class TestLastWords:
    def test_name_what_was_written(self, tmp_path):
        one, two = str(tmp_path / "a.csv"), str(tmp_path / "b.png")
        last_words = programs.written_files(one, None, two)
        assert last_words() == f"nothing was written to {one} or {two}"
        (tmp_path / "b.png").write_text("new")
        assert last_words() == f"what was written is whole: {two}"
        assert programs.written_files(None)() == "this program writes nothing"

    def test_of_a_search_that_has_not_begun(self, tmp_path):
        folder = tmp_path / "search"
        last_words = programs.goes_on_in(str(folder))
        assert last_words() == f"nothing was written to {folder}"
        folder.mkdir()
        assert last_words().startswith("what was finished is in")
