"""directory.py: one writer, of one run."""

import dataclasses
import os

import pytest

from effnet_tf import data, storage
from effnet_tf.errors import InputError, SaveError
from effnet_tf.recipes import RECIPES
from effnet_tf.runs import directory, texts

SMOKE = RECIPES["smoke"]
SOURCE = data.Source(
    "photos", ("a", "b"), data.Listed([(b"", 0)] * 20), data.Listed([(b"", 1)] * 5)
)


class TestOneWriter:
    def test_a_second_one_is_refused(self, tmp_path):
        with directory.claimed(str(tmp_path / "run"), SMOKE, SOURCE):
            with pytest.raises(InputError, match="Another process is training in"):
                with directory.claimed(str(tmp_path / "run"), SMOKE, SOURCE):
                    pass
        with directory.claimed(str(tmp_path / "run"), SMOKE, SOURCE) as check:
            check()  # free again

    def test_on_an_object_store_the_last_to_come_wins(self, tmp_path):
        workdir = f"ram://{tmp_path.name}/run"
        with directory.claimed(workdir, SMOKE, SOURCE) as first:
            first()
            with directory.claimed(workdir, SMOKE, SOURCE) as second:
                second()
                with pytest.raises(InputError, match="Another process has taken over"):
                    first()

    def test_other_images_are_another_run(self, tmp_path):
        with directory.claimed(str(tmp_path / "run"), SMOKE, SOURCE):
            pass
        more = dataclasses.replace(SOURCE, train=data.Listed([(b"", 0)] * 21), name="moved")
        with pytest.raises(InputError, match=r"data \(num_train: 20 -> 21; 1 training added"):
            with directory.claimed(str(tmp_path / "run"), SMOKE, more):
                pass

    @pytest.mark.parametrize("kept", [["recipe.json"], ["recipe.json", "classes.json"]])
    def test_a_start_that_was_killed_does_not_stand_in_the_way(self, tmp_path, kept):
        with directory.claimed(str(tmp_path), SMOKE, SOURCE):
            pass
        for path in tmp_path.iterdir():
            if path.name not in kept:
                path.unlink()
        with directory.claimed(str(tmp_path), SMOKE, SOURCE):
            assert texts.read_run(str(tmp_path)) == (SMOKE, SOURCE.class_names)

    def test_the_winner_of_a_takeover_keeps_its_files(self, tmp_path):
        workdir = f"ram://{tmp_path.name}/run"
        with pytest.raises(InputError, match="taken over"):
            with directory.claimed(workdir, SMOKE, SOURCE) as check:
                directory._own(workdir)
                check()
        assert texts.read_run(workdir)[0] == SMOKE

    def test_a_file_that_cannot_be_written_is_a_sentence(self, tmp_path):
        with pytest.raises(SaveError, match="'/.*/no/x' cannot be written: .*No such file"):
            storage.write_text(str(tmp_path / "no" / "x"), "text")
        assert os.listdir(tmp_path) == []
