"""goodput.py: seconds by purpose that add up to the wall time, over all processes of a run."""

import json
import time

import pytest

from effnet_tf.train.goodput import Goodput


class TestGoodput:
    @pytest.fixture
    def pass_time(self, monkeypatch):
        """A function that lets seconds pass, on the clock that Goodput looks at."""
        clock = [1000.0]

        def let_pass(seconds):
            clock[0] += seconds

        monkeypatch.setattr(time, "monotonic", lambda: clock[0])
        return let_pass

    def test_adds_up_to_the_wall_time(self, tmp_path, pass_time):
        goodput = Goodput(str(tmp_path))
        pass_time(1)
        with goodput.timed("steps"):
            pass_time(5)
            with goodput.timed("checkpoint"):
                pass_time(2)
        goodput.move(1, "steps", "data_wait")
        pass_time(4)
        goodput.write()
        written = json.loads((tmp_path / "goodput.json").read_text())
        assert written["total"] == 12 and written["seconds"] == {
            "steps": 4,
            "data_wait": 1,
            "checkpoint": 2,
            "evaluation": 0,
            "start_up": 5,
            "lost_work": 0,
            "other": 0,
        }

    def test_a_killed_process_lost_what_it_had_not_saved(self, tmp_path, pass_time):
        first = Goodput(str(tmp_path))
        with first.timed("steps"):
            pass_time(3)
        first.checkpointed()
        with first.timed("steps"):
            pass_time(5)
        first.write()
        second = Goodput(str(tmp_path))
        second.load()
        assert second.seconds["lost_work"] == 5 and second.seconds["steps"] == 3
        assert "lost work 5.0 s" in str(second)

    @pytest.mark.parametrize(
        "saved, steps, wait",
        [
            ({"steps": 90.0, "data_wait": 15.0}, 90, 15),
            (96.0, 80, 16),  # 96: of earlier versions
            ({"steps": 100.0, "data_wait": 20.0}, 100, 20),
            (0.0, 0, 0),
        ],
    )
    def test_what_was_lost_is_what_was_not_saved(self, tmp_path, saved, steps, wait):
        seconds = {**dict.fromkeys(Goodput.PURPOSES, 0.0), "steps": 100.0, "data_wait": 20.0}
        (tmp_path / "goodput.json").write_text(
            json.dumps({"seconds": seconds, "total": 120.0, "saved": saved})
        )
        goodput = Goodput(str(tmp_path))
        goodput.load()
        assert goodput.seconds["steps"] == pytest.approx(steps)
        assert goodput.seconds["data_wait"] == pytest.approx(wait)
        assert goodput.seconds["lost_work"] == pytest.approx(120 - steps - wait)
