"""profiling.py: a record of five steps after the tenth, which changes nothing that is computed."""

import numpy as np
import pytest
import tensorflow as tf

import train_tpu
from effnet_tf import train
from effnet_tf.runs import checkpoints
from effnet_tf.train import profiling
from tests.helpers import tiny_net

CPU = tf.distribute.OneDeviceStrategy("/cpu:0")


@pytest.mark.usefixtures("tiny_variants", "without_the_picture")
def test_a_run_is_recorded_and_its_numbers_stay(tmp_path, capsys):
    recipe = tiny_net.recipe(variant="tinier", batch_size=4, epochs=8)  # two steps each
    folders = [tmp_path / "plain", tmp_path / "profiled"]
    for folder in folders:
        train.run(recipe, str(folder), CPU, profile=folder.name == "profiled")
    out = capsys.readouterr().out
    assert out.count("5 steps are profiled in") == 1
    assert f"tensorboard --logdir {folders[1]}/tensorboard" in out
    assert len(list(folders[1].glob("tensorboard/plugins/profile/*/*.xplane.pb"))) == 1
    assert not (folders[0] / "tensorboard" / "plugins").exists()
    plain, profiled = (
        checkpoints.read(checkpoints.newest(str(folder / "checkpoints"))) for folder in folders
    )
    assert sorted(plain) == sorted(profiled)
    for name, value in plain.items():
        np.testing.assert_array_equal(profiled[name], value, err_msg=name)
    for name in ("metrics.jsonl", "result.json"):
        assert (folders[0] / name).read_text() == (folders[1] / name).read_text()


class TestProfiler:
    @pytest.fixture
    def calls(self, monkeypatch):
        """What TensorFlow's profiler is asked to do."""
        calls = []
        monkeypatch.setattr(tf.profiler.experimental, "start", lambda _: calls.append("start"))
        monkeypatch.setattr(tf.profiler.experimental, "stop", lambda: calls.append("stop"))
        return calls

    def run(self, profiler, calls, loops, count=100):
        """Runs loops of up to `count` steps; returns how many steps each made."""
        made = []
        for _ in range(loops):
            made.append(profiler.limit(count))
            profiler.begin_steps()
            calls.append(made[-1])
            profiler.end_steps(made[-1])
        return made

    def test_cuts_loops_at_the_tenth_step_and_five_later(self, tmp_path, calls):
        profiler = profiling.Profiler(str(tmp_path), CPU, True)
        self.run(profiler, calls, 1, count=1)  # compiles
        self.run(profiler, calls, 4)
        assert calls == [1, 9, "start", 5, "stop", 100, 100]
        profiler.close()
        assert calls[-1] == 100

    def test_goes_on_over_the_end_of_an_epoch(self, tmp_path, calls):
        profiler = profiling.Profiler(str(tmp_path), CPU, True)
        self.run(profiler, calls, 6, count=4)
        assert calls == [4, 4, 2, "start", 4, 1, "stop", 4]

    def test_that_is_not_wanted_does_nothing(self, tmp_path, calls, capsys):
        profiler = profiling.Profiler(str(tmp_path), CPU, False)
        assert self.run(profiler, calls, 3) == calls == [100, 100, 100]
        profiler.close()
        assert capsys.readouterr().out == ""

    def test_leaves_the_loops_of_several_workers_alone(self, tmp_path, calls, monkeypatch):
        """They must make the same steps at once, whether or not all of them profile."""
        monkeypatch.setattr(profiling, "has_workers", lambda _: True)
        profiler = profiling.Profiler(str(tmp_path), CPU, True)
        self.run(profiler, calls, 3, count=10)
        assert calls == [10, "start", 10, "stop", 10]

    def test_of_a_run_that_ends_before(self, tmp_path, calls, capsys):
        profiler = profiling.Profiler(str(tmp_path), CPU, True)
        self.run(profiler, calls, 2, count=3)
        profiler.close()
        assert "No step was profiled: that begins after 10 steps, and this process made 6." in (
            capsys.readouterr().out
        )
        assert calls == [3, 3]

    def test_of_a_run_that_ends_in_the_middle(self, tmp_path, calls, capsys):
        profiler = profiling.Profiler(str(tmp_path), CPU, True)
        self.run(profiler, calls, 1, count=10)
        self.run(profiler, calls, 1, count=2)
        profiler.close()
        assert calls == [10, "start", 2, "stop"]
        assert "2 steps are profiled in" in capsys.readouterr().out

    def test_beside_another_profiler(self, tmp_path, monkeypatch, capsys):
        def refuse(_):
            raise tf.errors.AlreadyExistsError(None, None, "Another profiler is running.")

        monkeypatch.setattr(tf.profiler.experimental, "start", refuse)
        profiler = profiling.Profiler(str(tmp_path), CPU, True)
        assert self.run(profiler, [], 3) == [10, 5, 100]
        profiler.close()
        assert "Steps are not profiled: Another profiler is running" in capsys.readouterr().out


class TestTheOption:
    def parse(self, *words):
        return train_tpu.parse(["train_tpu.py", *words])

    def test_is_no_field_of_the_recipe(self):
        assert self.parse("--workdir", "x", "--profile").profile is True
        assert self.parse("--workdir", "x").profile is False

    def test_has_no_use_in_a_dry_run(self, capsys):
        with pytest.raises(SystemExit) as stopped:
            self.parse("--dry_run", "--profile")
        assert stopped.value.code == 2
        assert "--profile has no use with --dry_run" in capsys.readouterr().err
