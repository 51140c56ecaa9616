"""finding.py, predicting.py, writing.py: what a network says of any number of image files."""

import csv
import io
import itertools
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest

from effnet_tf.errors import InputError
from effnet_tf.inference import finding, photos, predict_program, subjects, writing
from effnet_tf.inference.evaluating import evaluate
from effnet_tf.inference.photos import Example
from effnet_tf.inference.predicting import Prediction, predict
from tests.helpers import hostile
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)
from tests.inference.conftest import CLASSES

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path):
    """A folder of files that are found, and of others."""
    for name in ("b.jpg", "a.PNG", "c/d.jpeg", "c/e/f.webp", "notes.txt", ".hidden.jpg", "raw"):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    os.symlink(tmp_path / "tree", tmp_path / "tree" / "c" / "back")
    return tmp_path / "tree"


def found(*paths, lines=None):
    """(names below the folder, faults, the finder) of what paths mean."""
    finder = finding.Finder(lines and io.StringIO(lines))
    names, faults = [], []
    for each in finder.find([str(path) for path in paths]):
        if isinstance(each, Example):
            faults.append((each.title, each.fault))
        else:
            names.append(each)
    return names, faults, finder


class TestFinding:
    def test_a_folder_with_all_that_is_below_it(self, tree):
        names, faults, finder = found(tree)
        relative = [os.path.relpath(name, tree) for name in names]
        assert relative == ["a.PNG", "b.jpg", "c/d.jpeg", "c/e/f.webp"] and faults == []
        assert finder.report() == [
            "Left out 2 file(s) in folders that are no images: 1 .txt, 1 without a suffix"
        ]

    def test_patterns_files_and_a_list(self, tree):
        assert found(tree / "*.jpg")[0] == [str(tree / "b.jpg")]
        assert found(tree / "*" / "*.jpeg")[0] == [str(tree / "c" / "d.jpeg")]
        assert found(tree / "missing.jpg")[0] == [str(tree / "missing.jpg")]  # read, and told then
        lines = f"{tree / 'b.jpg'}\n\n{tree / 'c'}\r\n"
        assert len(found("-", tree / "a.PNG", lines=lines)[0]) == 4
        (tree / "odd[1].jpg").write_bytes(b"x")
        assert found(tree / "odd[1].jpg")[0] == [str(tree / "odd[1].jpg")]

    def test_what_holds_nothing_is_a_fault(self, tree):
        (tree / "empty").mkdir()
        _, faults, _ = found(tree / "empty", tree / "*.bmp")
        assert [fault for _, fault in faults] == [
            "the folder holds no images",
            "there is no such image file, and nothing of this pattern",
        ]

    def test_large_folders_are_not_held_in_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr(finding, "SORTED", 10)
        for number in range(30):
            (tmp_path / f"{number:02}.jpg").write_bytes(b"")
        names = [os.path.basename(name) for name in found(tmp_path)[0]]
        assert sorted(names) == [f"{number:02}.jpg" for number in range(30)]
        assert names[:10] == sorted(names[:10])

    def test_counts(self, tree):
        assert finding.count([str(tree), str(tree / "b.jpg")]) == 5
        assert finding.count([str(tree), "-"]) is None


class TestPredict:
    def test_says_what_evaluation_says(self, place):
        """The same crops: the same probabilities."""
        options = subjects.Options(labels=place.labels, crop=0.7)
        evaluation = evaluate(place.colours, place.photos, options=options)
        paths = [evaluation.name(number) for number in range(24)]
        predictions = list(predict(place.colours, paths, options=options, batch_size=5))
        assert [each.image for each in predictions] == paths
        for number, each in enumerate(predictions):
            names = [CLASSES[index] for index in evaluation.answers.best[number]]
            assert list(each.classes) == names
            np.testing.assert_allclose(
                each.probabilities, evaluation.answers.sureness[number], rtol=1e-4
            )

    def test_a_bad_image_is_a_row_and_stops_nothing(self, place, tmp_path):
        good = f"{place.photos}/cat/0.jpg"
        (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff not a JPEG")
        os.mkfifo(tmp_path / "pipe.jpg")
        paths = [good, str(tmp_path / "broken.jpg"), str(tmp_path / "none.jpg"), good]
        paths += [str(tmp_path / "pipe.jpg"), Example("x/", fault="the folder holds no images")]
        predictions = list(predict(place.colours, paths, top=2, batch_size=4))
        faults = [each.fault for each in predictions]
        assert [bool(fault) for fault in faults] == [False, True, True, False, True, True]
        assert "damaged or cut off" in faults[1] and faults[2] == "there is no such image file"
        assert "is a FIFO" in faults[4]
        assert predictions[0].classes[0] == predictions[3].classes[0] == "class 0"
        assert len(predictions[0].classes) == 2

    def test_only_a_few_images_are_read_ahead(self, place):
        taken = []

        def endless():
            for number in itertools.count():
                taken.append(number)
                yield f"{place.photos}/cat/0.jpg"

        predictions = predict(place.colours, endless(), batch_size=4)
        assert next(predictions).fault is None
        assert len(taken) <= photos.AHEAD + 4
        predictions.close()

    def test_images_that_are_not_square(self, place, tmp_path, capsys):
        inputs = keras.Input((8, 16, 3))
        model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
        model.save(tmp_path / "m.keras")
        (found,) = predict(str(tmp_path / "m.keras"), [f"{place.photos}/cow/0.jpg"])
        assert found.pixels.shape == (8, 16, 3) and found.classes[0] == "class 1"
        assert "took all of every image, scaled to 8 x 16 pixels" in capsys.readouterr().out


GOOD = Prediction("a,b.jpg", ("cat", 'd"og'), (0.75, 0.25))
BAD = Prediction("c.jpg", fault="it is damaged")


class TestWriting:
    def test_csv(self):
        file = io.StringIO()
        write = writing.as_csv(file, 2)
        write(GOOD)
        write(BAD)
        rows = list(csv.DictReader(io.StringIO(file.getvalue())))
        assert rows[0]["image"] == "a,b.jpg" and rows[0]["class_2"] == 'd"og'
        assert rows[0]["probability_1"] == "0.750000" and rows[0]["fault"] == ""
        assert (rows[1]["class_1"], rows[1]["fault"]) == ("", "it is damaged")

    def test_json(self):
        file = io.StringIO()
        for each in (GOOD, BAD):
            writing.as_json(file)(each)
        rows = [json.loads(line) for line in file.getvalue().splitlines()]
        assert rows[0]["predictions"][0] == {"class": "cat", "probability": 0.75}
        assert rows[1] == {"image": "c.jpg", "predictions": [], "fault": "it is damaged"}

    def test_for_people(self, capsys):
        writing.for_people(GOOD)
        writing.for_people(BAD)
        assert capsys.readouterr().out == (
            'a,b.jpg: cat 75.0%, d"og 25.0%\nc.jpg: cannot be used: it is damaged\n'
        )

    def test_a_file_appears_whole_or_not_at_all(self, tmp_path):
        path = tmp_path / "a.csv"
        path.write_text("old")
        with pytest.raises(KeyboardInterrupt), writing.opened(str(path), sys.stdout) as file:
            file.write("new")
            raise KeyboardInterrupt
        assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.csv"]
        with writing.opened(str(path), sys.stdout) as file:
            file.write(hostile.NOT_UTF8)
        assert path.read_bytes() == os.fsencode(hostile.NOT_UTF8)
        assert os.listdir(tmp_path) == ["a.csv"]

    @pytest.mark.parametrize("name, message", [("", "is a folder"), ("x/y.csv", "no folder for")])
    def test_a_place_that_cannot_be(self, tmp_path, name, message):
        with (
            pytest.raises(InputError, match=message),
            writing.opened(str(tmp_path / name), sys.stdout),
        ):
            pass


def run(*words):
    predict_program.main(predict_program.parse(["predict", *map(str, words)]))


@pytest.mark.usefixtures("in_this_process")
class TestProgram:
    def test_a_folder_with_a_bad_image(self, place, tmp_path, capsys):
        shutil.copytree(f"{place.photos}/cow", tmp_path / "new" / "cow")
        (tmp_path / "new" / "cow" / "2.jpg").write_bytes(b"<html>")
        (tmp_path / "new" / "names.txt").write_text("cat\ncow\ndog\n")
        outputs = [f"--csv={tmp_path / 'a.csv'}", f"--json={tmp_path / 'a.jsonl'}"]
        outputs += [f"--picture={tmp_path / 'sheet.png'}", f"--labels={tmp_path}/new/names.txt"]
        with pytest.raises(
            InputError, match=r"1 of 8 images cannot be used: '.*2.jpg': it is text"
        ):
            run(place.colours, tmp_path / "new", "--top", "2", *outputs)
        out, errors = capsys.readouterr()
        assert "Left out 1 file(s) in folders that are no images: 1 .txt" in out
        assert f"Wrote {tmp_path / 'a.csv'} and {tmp_path / 'a.jsonl'}: 8 images" in out
        assert "sheet.png: 7 of 8 images" in out and "Predicting: 8/8" in errors
        with open(tmp_path / "a.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["class_1"] for row in rows if not row["fault"]] == ["cow"] * 7
        assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 8
        assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")

    def test_what_is_printed_for_programs_is_nothing_else(self, place, capsys):
        run(place.colours, f"{place.photos}/cat", "--json", "-")
        out, errors = capsys.readouterr()
        assert len([json.loads(line) for line in out.splitlines()]) == 8
        assert "Nobody has said what its classes are called" in errors

    def test_a_line_for_each(self, place, capsys):
        run(place.colours, f"{place.photos}/*/1.png", "--labels", place.labels, "--crop", "0")
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 3 and all(".png: c" in line or ".png: d" in line for line in lines)

    @pytest.mark.parametrize(
        "words, message",
        [
            (["--csv", "-", "--json", "-"], "Only one of --csv and --json can be printed"),
            (["--csv", "no/such/folder.csv"], "There is no folder for 'no/such/folder.csv'"),
            (["--picture", "no/such/sheet.png"], "There is no folder for the picture"),
        ],
    )
    def test_what_is_wrong_is_told(self, place, words, message):
        with pytest.raises(InputError, match=message):
            run(place.colours, place.photos, *words)


@pytest.mark.slow
def test_thousands_of_files_under_a_limit_of_memory(place, trained, tmp_path):
    """5,000 files, 30 of them broken, through the real program: as much memory as for 100."""

    def peak(count, broken):
        folder = tmp_path / str(count)
        folder.mkdir()
        content = pathlib.Path(f"{place.photos}/cat/0.jpg").read_bytes()
        for number in range(count):
            data = content
            if number < broken:
                data = b"\xff\xd8\xff" + bytes([number])
            (folder / f"{number:05}.jpg").write_bytes(data)
        words = ["predict", trained.files["m.tflite"], str(folder), "--csv", f"{folder}.csv"]
        code = (
            "import resource, runpy, sys; sys.argv = ['effnet', *sys.argv[1:]]\n"
            "from effnet_tf import __main__, programs\n"
            "def leave(code):\n"
            "    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
            "    sys.exit(code)\n"
            "programs.leave = leave\n"
            "__main__.console()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, *words], cwd=ROOT, text=True, capture_output=True
        )
        assert done.returncode == (2 if broken else 0), done.stderr[-2000:]
        with open(f"{folder}.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == count and sum(bool(row["fault"]) for row in rows) == broken
        if broken:
            assert f"{broken} of {count:,} images cannot be used" in done.stderr
        return int(done.stdout.splitlines()[-1]) / 1024

    small, large = peak(100, 0), peak(5000, 30)
    assert large < small + 100, (small, large)


def test_a_million_would_take_no_more(place):
    """Nothing is kept of an image that has been answered."""
    subject = subjects.open_subject(place.colours)
    path = f"{place.photos}/cat/0.jpg"
    before = None
    for number, _ in enumerate(photos.examples(itertools.repeat(path, 1500), subject)):
        if number == 300:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 20 * 1024
