"""embedding.py, feature_files.py, neighbours.py, embed_program.py: features, and what is alike."""

import csv
import itertools
import os
import shutil

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf.data import crops
from effnet_tf.errors import InputError
from effnet_tf.inference import embed_program, feature_files, neighbours, photos
from effnet_tf.inference.embedding import Embedding, embed
from effnet_tf.runs import texts
from tests.helpers import hostile
from tests.helpers.in_process import in_this_process  # noqa: F401 (a fixture)


class TestEmbed:
    def test_are_the_pooled_features(self, trained, place):
        """Of a run, its weights, and the SavedModel that was exported from it."""
        paths = [f"{place.photos}/{name}/0.jpg" for name in ("cat", "cow", "dog")]
        recipe, _ = texts.read_run(trained.run)
        extractor = effnet_tf.feature_extractor(
            recipe.resolved_variant(), "pooled_features", weights=trained.run
        )
        crop = crops.EvaluationCrop.of_recipe(recipe, 32)
        images = np.stack([crop(open(path, "rb").read()).numpy() for path in paths])
        wanted = extractor(images)["pooled_features"].numpy()
        found = np.stack([each.features for each in embed(trained.run, paths, batch_size=2)])
        assert np.ptp(wanted, axis=0).max() > 1e-4 and found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
        saved = np.stack([each.features for each in embed(trained.files["saved"], paths)])
        np.testing.assert_allclose(saved, wanted, rtol=1e-3, atol=1e-5)

    def test_a_network_without_a_classifier(self, place, tmp_path):
        images = keras.Input((8, 8, 3))
        keras.Model(images, keras.layers.Rescaling(2.0)(images)).save(tmp_path / "m.keras")
        (found,) = embed(str(tmp_path / "m.keras"), [f"{place.photos}/cow/0.jpg"])
        assert found.features.shape == (3,) and found.features.argmax() == 1

    def test_a_bad_image_is_told(self, place, tmp_path):
        (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff not a JPEG")
        paths = [f"{place.photos}/cat/0.jpg", str(tmp_path / "broken.jpg")]
        good, bad = embed(place.colours, paths)
        assert good.features.argmax() == 0 and good.fault is None
        assert bad.features is None and "damaged" in bad.fault

    def test_only_a_few_images_are_read_ahead(self, place):
        taken = []

        def endless():
            for number in itertools.count():
                taken.append(number)
                yield f"{place.photos}/cat/0.jpg"

        found = embed(place.colours, endless(), batch_size=4)
        assert next(found).fault is None
        assert len(taken) <= photos.AHEAD + 4
        found.close()

    def test_files_that_hide_their_features(self, trained):
        with pytest.raises(InputError, match="is a TFLite file, which gives its answers and not"):
            next(embed(trained.files["m.tflite"], ["x.jpg"]))


ROWS = np.random.default_rng(0).normal(size=(3, 5)).astype("float32")
NAMES = ["a,b.jpg", hostile.NOT_UTF8, "c.jpg"]


def written(path):
    with feature_files.opened(str(path), 5) as write:
        for name, row in zip(NAMES, ROWS):
            write(Embedding(name, row))
            write(Embedding("bad.jpg", fault="it is damaged"))


def names_in(path):
    with open(path, newline="", errors="surrogateescape") as file:
        return [row[0] for row in csv.reader(file)]


class TestFiles:
    def test_npy(self, tmp_path):
        written(tmp_path / "f.npy")
        found = np.load(tmp_path / "f.npy")
        assert found.dtype == np.float32 and (found == ROWS).all()
        assert (np.load(tmp_path / "f.npy", mmap_mode="r") == ROWS).all()
        assert names_in(tmp_path / "f.names.csv") == ["image", *NAMES]
        assert sorted(os.listdir(tmp_path)) == ["f.names.csv", "f.npy"]

    def test_no_image_at_all(self, tmp_path):
        with feature_files.opened(str(tmp_path / "f.npy"), 7):
            pass
        assert np.load(tmp_path / "f.npy").shape == (0, 7)

    def test_csv_has_every_digit(self, tmp_path):
        written(tmp_path / "f.csv")
        with open(tmp_path / "f.csv", newline="", errors="surrogateescape") as file:
            header, *rows = csv.reader(file)
        assert header == ["image", *(f"feature_{number}" for number in range(5))]
        assert [row[0] for row in rows] == NAMES
        assert (np.array([row[1:] for row in rows], "float32") == ROWS).all()

    def test_whole_or_not_at_all(self, tmp_path):
        (tmp_path / "f.npy").write_text("old")
        with pytest.raises(KeyboardInterrupt):
            with feature_files.opened(str(tmp_path / "f.npy"), 5) as write:
                write(Embedding("a.jpg", ROWS[0]))
                raise KeyboardInterrupt
        assert os.listdir(tmp_path) == ["f.npy"] and (tmp_path / "f.npy").read_text() == "old"

    @pytest.mark.parametrize(
        "name, message", [("f.txt", "must end in .npy or .csv"), ("x/f.npy", "no folder for")]
    )
    def test_a_place_that_cannot_be(self, tmp_path, name, message):
        with pytest.raises(InputError, match=message):
            feature_files.files_of(str(tmp_path / name))


def embeddings(count=40, width=6):
    vectors = np.random.default_rng(3).normal(size=(count, width)).astype("float32")
    return [Embedding(f"{number}.jpg", vector) for number, vector in enumerate(vectors)], vectors


class TestNeighbours:
    def test_are_the_nearest_of_all(self):
        """As numpy finds them with all features at hand."""
        found, vectors = embeddings()
        nearest = neighbours.Nearest(found[:4], 5)
        for each in [Embedding("bad.jpg", fault="damaged"), *found]:
            nearest.add(each)
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines = units[:4] @ units.T
        np.fill_diagonal(cosines, -2)
        for number, (query, images) in enumerate(nearest.rows()):
            order = np.argsort(-cosines[number])[:5]
            assert query == f"{number}.jpg"
            assert [name for name, _ in images] == [f"{each}.jpg" for each in order]
            np.testing.assert_allclose(
                [cosine for _, cosine in images], cosines[number][order], 1e-5
            )

    def test_equals_zeros_and_a_query_alone(self):
        zero = Embedding("zero.jpg", np.zeros(2, "float32"))
        queries = [Embedding("q.jpg", np.float32([1, 0])), zero, Embedding("bad", fault="x")]
        nearest = neighbours.Nearest(queries, 2)
        assert neighbours.lines(nearest)[0] == "q.jpg: no other image"
        for name in ("b.jpg", "a.jpg", "c.jpg"):
            nearest.add(Embedding(name, np.float32([2, 0])))
        assert nearest.rows()[0] == ("q.jpg", [("b.jpg", 1.0), ("a.jpg", 1.0)])
        assert neighbours.lines(nearest)[1] == "zero.jpg: b.jpg 0.000, a.jpg 0.000"


def run(*words):
    embed_program.main(embed_program.parse(["embed", *map(str, words)]))


@pytest.mark.usefixtures("in_this_process")
class TestProgram:
    def test_a_folder_with_a_bad_image(self, place, tmp_path, capsys):
        shutil.copytree(f"{place.photos}/cow", tmp_path / "new")
        (tmp_path / "new" / "2.jpg").write_bytes(b"<html>")
        (tmp_path / "new" / "notes.txt").write_text("x")
        out = tmp_path / "f.npy"
        with pytest.raises(
            InputError, match=r"1 of 8 images cannot be used: '.*2.jpg': it is text"
        ):
            run(place.colours, tmp_path / "new", "--out", out)
        said, errors = capsys.readouterr()
        assert f"Wrote {out} and {tmp_path / 'f.names.csv'}: 7 images, 3 features" in said
        assert "Left out 1 file(s)" in said and "2.jpg: cannot be used: it is text" in said
        assert "Embedding: 8/8" in errors
        assert np.load(out).shape == (7, 3) and len(names_in(tmp_path / "f.names.csv")) == 8

    def test_neighbours_of_a_query(self, place, tmp_path, capsys):
        picture, query = tmp_path / "near.png", f"{place.photos}/dog/0.jpg"
        words = ["--query", query, "--neighbours", "3", "--picture", picture]
        run(place.colours, place.photos, *words)
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(query)]
        assert line.count("/dog/") == 4 and picture.read_bytes().startswith(b"\x89PNG")

    def test_neighbours_of_the_first(self, place, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(neighbours, "FIRST", 3)
        monkeypatch.setattr("effnet_tf.plots.MOST", 12)
        drawn = []
        monkeypatch.setattr("effnet_tf.plots.predictions", lambda *how: not drawn.append(how))
        run(
            place.colours,
            place.photos,
            "--picture",
            tmp_path / "near.png",
            "--out",
            tmp_path / "f.csv",
        )
        said = capsys.readouterr().out.splitlines()
        rows = [line for line in said if ".jpg: /" in line or ".png: /" in line]
        assert len(rows) == neighbours.FIRST and rows[0].count("/cat/") == 6
        images, captions, _, _, columns = drawn[0]
        assert (len(images), len(captions), columns) == (12, 12, 6)  # two queries have a place
        assert f"Drew {tmp_path / 'near.png'}" in said and len(names_in(tmp_path / "f.csv")) == 25

    @pytest.mark.parametrize(
        "words, message",
        [
            ([], "Nothing would come of it: give --out"),
            (["--query", "a.jpg"], "give --neighbours"),
            (["--picture", "no/such/sheet.png"], "no folder for the picture"),
            (
                ["--query", "none.jpg", "--neighbours", "2"],
                "'none.jpg' cannot be used: there is no",
            ),
        ],
    )
    def test_what_is_wrong_is_told(self, place, words, message):
        with pytest.raises(InputError, match=message):
            run(place.colours, place.photos, *words)
