"""train/: resume, averages, evaluation, several replicas, and what failures leave."""

import collections
import contextlib
import dataclasses
import io
import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import data, storage, train
from effnet_tf.errors import InputError
from effnet_tf.recipes import RECIPES
from effnet_tf.runs import checkpoints, directory, texts
from effnet_tf.train import diagnosis, session, step
from effnet_tf.train.trainer import Trainer
from effnet_tf.weights import pixels
from tests import conftest
from tests.helpers import tiny_net

SMOKE = tiny_net.recipe(
    dataset="digits", num_classes=None, batch_size=64, epochs=2, steps_per_loop=4, holdout=0.25
)
CPU = tf.distribute.OneDeviceStrategy("/cpu:0")
pytestmark = pytest.mark.usefixtures("tiny_variants", "few_digits", "without_the_picture")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run: (directory, metrics, output)."""
    workdir, printed = str(tmp_path_factory.mktemp("run") / "smoke"), io.StringIO()
    with contextlib.redirect_stdout(printed):
        metrics = train.run(SMOKE, workdir, CPU)
    return workdir, metrics, printed.getvalue()


def checkpoint_values(workdir):
    return checkpoints.read(checkpoints.newest(f"{workdir}/checkpoints"))


class TestARun:
    def test_explains_itself(self, finished):
        workdir, metrics, _ = finished
        assert sorted(os.listdir(workdir)) == [
            ".lock",
            "augmented.png",
            "checkpoints",
            "classes.json",
            "goodput.json",
            "learning_curve.png",
            "metrics.csv",
            "metrics.jsonl",
            "recipe.json",
            "result.json",
            "source.json",
            "tensorboard",
        ]
        recipe, classes = texts.read_run(workdir)
        assert recipe == SMOKE and classes == tuple("0123456789")
        rows = [json.loads(line) for line in open(f"{workdir}/metrics.jsonl")]
        assert rows[-1] == metrics == json.load(open(f"{workdir}/result.json"))
        assert [row["epoch"] for row in rows] == [1, 2]

    def test_counts_steps_and_images(self, finished):
        source = data.open_source(SMOKE)
        assert finished[1]["step"] == round(2 * source.num_train / SMOKE.batch_size)
        assert finished[1]["eval_images"] == source.num_eval

    def test_draws_a_picture(self, finished):
        for name in ("learning_curve", "augmented"):
            image = tf.io.decode_png(tf.io.read_file(f"{finished[0]}/{name}.png"))
            assert image.shape[0] > 200 and len(np.unique(image)) > 10

    def test_checkpoint_has_every_state(self, finished):
        values = checkpoint_values(finished[0])
        model = effnet_tf.model_fn(SMOKE.resolved_variant(), 10)
        network = len(pixels.network_weights(model))
        groups = collections.Counter(name.split("/")[0] for name in values)
        assert set(groups) == {
            "weights",
            "batch_norm",
            "ema",
            "slots",
            "step",
            "position",
            "seed",
            "normalization",
            "totals",
            "guard",
        }
        assert groups["weights"] + groups["batch_norm"] == groups["ema"] == network
        assert groups["slots"] == 2 * len(model.trainable_weights)
        assert values["step"] == values["position"] == finished[1]["step"]

    def test_averages_differ_from_raw_weights_batch_norm_too(self, finished):
        loaded = {}
        for ema in (True, False):
            model = effnet_tf.model_fn(SMOKE.resolved_variant(), 10)
            report = effnet_tf.load_weights(model, finished[0], ema=ema)
            assert report.ema is ema
            assert len(report.matched) == len(pixels.network_weights(model))
            loaded[ema] = {v.path: v.numpy() for v in model.weights}
        for name in ("stem_conv/kernel", "stem_bn/moving_variance", "predictions/bias"):
            assert (loaded[True][name] != loaded[False][name]).any()

    def test_the_same_command_again_changes_nothing(self, finished, capsys):
        before = checkpoint_values(finished[0])
        assert train.run(SMOKE, finished[0], CPU) == finished[1]
        after = checkpoint_values(finished[0])
        assert all(np.array_equal(before[name], after[name]) for name in before)
        assert "Resumed from" in capsys.readouterr().out

    def test_progress_says_what_a_person_wants_to_know(self, finished):
        assert "epoch 1/2  step 8/17  loss" in finished[2]
        for word in ("accuracy", "images/s", "left", "held-out", "learning rate 0.016 x 64 / 256"):
            assert word in finished[2]


class Stop(Exception):
    pass


def run_until(step, recipe, workdir):
    """Runs a recipe that is interrupted at the first evaluation after a step."""
    evaluate = Trainer.evaluate

    def stop(trainer):
        if trainer.step > step:
            raise Stop
        return evaluate(trainer)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Trainer, "evaluate", stop)
        train.run(recipe, workdir, CPU)


def test_an_interrupted_run_resumes_exactly(finished, tmp_path):
    workdir = str(tmp_path / "run")
    run_until(10, SMOKE, workdir)
    metrics = train.run(SMOKE, workdir, CPU)
    expected, found = checkpoint_values(finished[0]), checkpoint_values(workdir)
    assert sorted(expected) == sorted(found)
    for name, value in expected.items():
        np.testing.assert_array_equal(value, found[name], err_msg=name)
    assert metrics == finished[1]
    assert open(f"{workdir}/metrics.jsonl").read() == open(f"{finished[0]}/metrics.jsonl").read()


def poison(patch, is_bad):
    """Makes the losses of some steps not finite; `is_bad` takes a `Step`."""
    real = step.Step._losses

    def losses(self, *batch):
        values, row = real(self, *batch)
        factor = tf.where(is_bad(self), np.nan, 1.0)
        return values * factor, row * factor

    patch.setattr(step.Step, "_losses", losses)


class TestGoingBack:
    def test_bad_batches_in_a_row_are_left_out(self, tmp_path, monkeypatch, capsys):
        """With and without the way back: the same end, which lacks these batches."""
        recipe = dataclasses.replace(SMOKE, variant="tinier", epochs=1, checkpoint_every=2)
        poison(
            monkeypatch, lambda self: tf.reduce_any(self.position == tf.constant([3, 4], tf.int64))
        )
        ends = []
        for most in (2, 9):
            workdir = str(tmp_path / str(most))
            train.run(dataclasses.replace(recipe, max_bad_steps=most), workdir, CPU)
            ends.append(checkpoint_values(workdir))
            out = capsys.readouterr().out
            assert (
                "back to the checkpoint of step 2, and on with batch 2 (time 1 of 3)" in out
            ) == (most == 2)
            assert "Batch 4 after step 3 (learning rate" in out and "not finite" in out
        assert ends[0]["position"] == ends[0]["step"] + 2
        for name, value in ends[1].items():
            if not name.startswith("guard/"):
                np.testing.assert_array_equal(ends[0][name], value, err_msg=name)

    def test_a_state_that_is_bad_itself_skips_and_then_stops(self, tmp_path, monkeypatch, capsys):
        poison(monkeypatch, lambda self: self.optimizer.iterations.value == 2)
        recipe = dataclasses.replace(
            SMOKE, variant="tinier", epochs=1, checkpoint_every=2, max_bad_steps=2, max_rollbacks=2
        )
        with pytest.raises(
            train.TrainingStopped,
            match="diverged: 2 steps in a row were bad, the "
            "last after step 2, learning rate .* after going back 2 times. All lay",
        ):
            train.run(recipe, str(tmp_path / "run"), CPU)
        out = capsys.readouterr().out
        assert "step 2, and on with batch 2 (time 1 of 2)" in out
        assert "step 2, and on with batch 6 (time 2 of 2)" in out
        assert checkpoint_values(str(tmp_path / "run"))["step"] == 2  # the finite state stays


def test_the_first_layer_that_is_not_finite_is_named():
    trainer = Trainer(SMOKE, data.open_source(SMOKE), CPU)
    kernel = trainer.models["raw"].get_layer("block2a").project_bn.gamma
    found = diagnosis.first_not_finite(trainer, 0, trainer.stage)
    assert "All layers' outputs are finite" in found
    kernel.assign(kernel * 3e38)
    trainer.models["raw"].get_layer("block2a").project_bn.beta.assign(kernel * 0 + 3e38)
    assert "layer whose output is not finite is 'block2" in diagnosis.first_not_finite(
        trainer, 0, trainer.stage
    )
    kernel.assign(kernel * np.nan)
    assert "weight 'block2a/project_bn/gamma' is not finite" in diagnosis.first_not_finite(
        trainer, 0, trainer.stage
    )


class TestFailures:
    def test_another_recipe_is_refused_and_nothing_changes(self, finished):
        before = {
            name: os.stat(f"{finished[0]}/{name}").st_mtime_ns for name in os.listdir(finished[0])
        }
        changed = dataclasses.replace(SMOKE, epochs=9, seed=4)
        with pytest.raises(InputError, match="epochs: 2 -> 9; seed: 0 -> 4"):
            train.run(changed, finished[0], CPU)
        assert before == {
            name: os.stat(f"{finished[0]}/{name}").st_mtime_ns for name in os.listdir(finished[0])
        }

    def test_other_classes_are_refused(self, finished, monkeypatch):
        opened = data.open_source
        monkeypatch.setattr(
            data,
            "open_source",
            lambda recipe: dataclasses.replace(opened(recipe), class_names=tuple("abcdefghij")),
        )
        with pytest.raises(InputError, match="classes: added a, b, .* and removed 0, 1, "):
            train.run(SMOKE, finished[0], CPU)

    def test_a_workdir_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("precious")
        with pytest.raises(InputError, match="cannot be written"):
            train.run(SMOKE, str(tmp_path / "file"), CPU)
        assert (tmp_path / "file").read_text() == "precious"

    @pytest.mark.parametrize("name", ["checkpoints", "metrics.jsonl"])
    def test_files_of_others_by_our_names_are_not_touched(self, tmp_path, name):
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.pt").write_text("precious")
        with pytest.raises(InputError, match=f"has '{name}' but no recipe.json"):
            train.run(SMOKE, str(tmp_path), CPU)
        assert (tmp_path / name / "best.pt").read_text() == "precious"

    def test_a_resumed_run_that_fails_loses_nothing(self, finished, tmp_path, monkeypatch):
        copy = shutil.copytree(finished[0], tmp_path / "run")

        def interrupted(*arguments):
            raise KeyboardInterrupt

        before = sorted(copy.rglob("*"))
        monkeypatch.setattr(session, "Trainer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.run(SMOKE, str(copy), CPU)
        assert sorted(copy.rglob("*")) == before

    def test_data_may_move_and_metrics_be_lost(self, finished, tmp_path):
        copy = shutil.copytree(finished[0], tmp_path / "run")
        (copy / "metrics.jsonl").unlink()
        moved = dataclasses.replace(SMOKE, data_dir="/elsewhere", keep_checkpoints=9)
        metrics = train.run(moved, str(copy), CPU)
        assert metrics["eval_accuracy"] == finished[1]["eval_accuracy"]
        assert texts.read_run(str(copy))[0] == moved

    @pytest.mark.slow
    def test_divergence_is_a_sentence_and_leaves_nothing(self, tmp_path):
        recipe = dataclasses.replace(
            SMOKE, base_learning_rate=1e30, warmup_epochs=0.0, max_bad_steps=2, max_rollbacks=1
        )
        with pytest.raises(
            train.TrainingStopped,
            match="diverged: 2 steps in a row were bad, "
            "the last after step 1, .* after going back 1 times",
        ):
            train.run(recipe, str(tmp_path / "run"), CPU)
        assert os.listdir(tmp_path) == []

    def test_a_directory_with_other_files_keeps_them(self, tmp_path, monkeypatch):
        def interrupted(*arguments):
            raise KeyboardInterrupt

        (tmp_path / "thesis.txt").write_text("years of work")
        monkeypatch.setattr(session, "Trainer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.run(SMOKE, str(tmp_path), CPU)
        assert os.listdir(tmp_path) == ["thesis.txt"]

    def test_a_checkpoint_of_another_version(self, finished, tmp_path):
        copy = shutil.copytree(finished[0], tmp_path / "run")
        checkpoints.Store(str(copy / "checkpoints")).save(99, {"weights/x": np.ones(3)})
        with pytest.raises(InputError, match="is of another version of effnet_tf"):
            train.run(SMOKE, str(copy), CPU)

    def test_no_run_directory(self, tmp_path):
        with pytest.raises(InputError, match="not a run directory"):
            texts.read_run(str(tmp_path))
        (tmp_path / "recipe.json").write_text(SMOKE.to_json())
        with pytest.raises(InputError, match="has no classes.json"):
            texts.read_run(str(tmp_path))

    def test_no_tpu(self):
        with pytest.raises(InputError, match="TPU 'local' cannot be used"):
            train.choose_strategy("tpu")


def test_the_recipe_is_the_first_file(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(storage, "write_text", lambda path, text: written.append(path))
    with (
        pytest.raises(Stop),
        directory.claimed(str(tmp_path / "run"), SMOKE, data.open_source(SMOKE)),
    ):
        raise Stop
    assert [os.path.basename(path) for path in written] == [
        "recipe.json",
        "classes.json",
        "source.json",
    ]


def test_the_recipe_is_written_first(tmp_path, monkeypatch):
    def trainer(recipe, source, strategy):
        assert texts.read_run(str(tmp_path / "run"))[0] == SMOKE
        raise Stop

    monkeypatch.setattr(session, "Trainer", trainer)
    with pytest.raises(Stop):
        train.run(SMOKE, str(tmp_path / "run"), CPU)


def test_mixed_bfloat16_trains(tmp_path):
    recipe = dataclasses.replace(SMOKE, variant="tinier", epochs=1, precision="mixed_bfloat16")
    metrics = train.run(recipe, str(tmp_path / "run"), CPU)
    assert np.isfinite(metrics["eval_loss"])
    import keras

    assert keras.config.dtype_policy().name == "float32"  # as it was


@pytest.mark.slow
def test_without_averaging_the_raw_weights_are_evaluated(tmp_path, capsys):
    recipe = dataclasses.replace(SMOKE, epochs=1, ema_decay=0.0)
    metrics = train.run(recipe, str(tmp_path / "run"), CPU)
    assert metrics["eval_accuracy"] == metrics["eval_accuracy_raw"]
    assert "eval_accuracy_ema" not in metrics
    model = effnet_tf.model_fn(recipe.resolved_variant(), 10)
    effnet_tf.load_weights(model, str(tmp_path / "run"))
    assert "holds no averaged weights" in capsys.readouterr().out


class TestFineTuning:
    @pytest.fixture(scope="class")
    def tuned(self, finished, tmp_path_factory):
        """(recipe, directory, output): the digits' run fine-tuned on cats and dogs."""
        root = tmp_path_factory.mktemp("tuned")
        recipe = dataclasses.replace(
            RECIPES["finetune"],
            variant="tiny",
            init_weights=finished[0],
            epochs=2,
            warmup_epochs=0.0,  # below a classifier of zeros the first steps hardly move anything
            base_learning_rate=0.5,
            data_dir=str(conftest.write_photos(root / "photos")),
            batch_size=8,
            num_classes=2,
            freeze_until="stage_2",
        )
        with pytest.MonkeyPatch.context() as patch:
            printed = []
            patch.setattr("effnet_tf.train.journal.Journal.show_batch", lambda journal: None)
            patch.setattr("builtins.print", lambda *values, **_: printed.append(str(values[0])))
            train.run(recipe, str(root / "run"), CPU)
        return recipe, str(root / "run"), "\n".join(printed)

    def test_says_what_it_starts_from(self, tuned, finished):
        assert f"weights: {finished[0]}" in tuned[2] and "averaged weights" in tuned[2]
        assert "; new: the classifier (2 classes), starting at zero." in tuned[2]
        assert "predictions/kernel (16, 10) -> (16, 2): starts at zero" in tuned[2]
        assert "parameters train, from stage_2 on; batch norm: frozen" in tuned[2]

    def test_what_is_frozen_stays_and_the_rest_moves(self, tuned, finished):
        before, after = checkpoint_values(finished[0]), checkpoint_values(tuned[1])
        for name, value in after.items():
            if not name.startswith("weights/") or "predictions" in name:
                continue
            start = before[name.replace("weights/", "ema/", 1)]
            frozen = "bn/" in name or any(part in name for part in ("stem", "block1"))
            moved = np.abs(value - start).max()
            assert moved == 0 if frozen else moved > 0 or "/se/" in name, name

    def test_resumes_exactly_without_its_initial_weights(self, tuned, tmp_path, monkeypatch):
        recipe, workdir, _ = tuned
        copy = str(tmp_path / "run")
        run_until(3, recipe, copy)
        monkeypatch.setattr(Trainer, "start", None)  # not called again
        train.run(recipe, copy, CPU)
        expected, found = checkpoint_values(workdir), checkpoint_values(copy)
        for name, value in expected.items():
            np.testing.assert_array_equal(value, found[name], err_msg=name)

    def test_other_classes_of_the_same_number_get_a_fresh_classifier(
        self, finished, monkeypatch, capsys
    ):
        recipe = dataclasses.replace(SMOKE, init_weights=finished[0])
        source = data.open_source(recipe)
        letters = dataclasses.replace(source, class_names=tuple("abcdefghij"))
        kernels = []
        prefix = dataclasses.replace(
            recipe, init_weights=checkpoints.newest(f"{finished[0]}/checkpoints")
        )
        for recipe, which in ((recipe, source), (recipe, letters), (prefix, letters)):
            trainer = Trainer(recipe, which, CPU)
            trainer.start()
            kernels.append(
                [model.get_layer("predictions").kernel.numpy() for model in trainer.models.values()]
            )
        old = checkpoint_values(finished[0])["ema/predictions/kernel"]
        np.testing.assert_array_equal(kernels[0], [old, old])
        for raw, average in kernels[1:]:
            assert not raw.any() and not average.any()
        starts = [line for line in capsys.readouterr().out.splitlines() if "variables are" in line]
        assert starts[0] == f"All 64 variables are from '{finished[0]}', the classifier's too."
        assert starts[1] == (
            f"62 of 64 variables are from '{finished[0]}'; new: the classifier (10 classes), "
            "starting at zero."
        )

    def test_pixel_constants_travel_with_the_weights(self, tmp_path):
        variant = dataclasses.replace(SMOKE, variant="tinier").resolved_variant()
        start = effnet_tf.model_fn(variant, 10, preprocessing="inception")
        start.save_weights(tmp_path / "a.weights.h5")
        recipe = dataclasses.replace(
            SMOKE, variant="tinier", epochs=1, init_weights=str(tmp_path / "a.weights.h5")
        )
        workdir = str(tmp_path / "run")
        train.run(recipe, workdir, CPU)
        loaded = effnet_tf.model_fn(variant, 10, weights=workdir)
        assert pixels.constants_of(loaded)[0] == [127.5] * 3
        trainer = Trainer(recipe, data.open_source(recipe), CPU)  # and through a resume
        trainer.restore(checkpoint_values(workdir))
        for model in trainer.models.values():
            assert pixels.constants_of(model)[1] == [127.5] * 3

    def test_two_replicas_leave_frozen_weights_alone(self, finished, mirrored):
        recipe = dataclasses.replace(
            SMOKE,
            init_weights=finished[0],
            freeze_until="head",
            batch_norm="inference",
            body_rate=0.5,
        )
        trainer = Trainer(recipe, data.open_source(recipe), mirrored)
        trainer.start()
        before = {v.path: v.numpy() for v in trainer.models["raw"].weights}
        trainer.train_steps(trainer.train_iterator(0), tf.constant(2))
        changed = {
            v.path for v in trainer.models["raw"].weights if (v.numpy() != before[v.path]).any()
        }
        assert changed == {
            "top_conv/kernel",
            "top_bn/gamma",
            "top_bn/beta",
            "predictions/kernel",
            "predictions/bias",
        }

    def test_a_wrong_number_of_classes(self, tmp_path):
        with pytest.raises(InputError, match="num_classes is 5, but Handwritten digits has 10"):
            train.run(dataclasses.replace(SMOKE, num_classes=5), str(tmp_path / "run"), CPU)
        assert os.listdir(tmp_path) == []

    @pytest.mark.parametrize(
        "change, message",
        [
            (dict(init_weights="/no/file"), "no weights at '/no/file'"),
            (dict(freeze_until="stage_9", init_weights="x"), "no stage 'stage_9'"),
        ],
    )
    def test_what_cannot_be_used_leaves_nothing(self, change, message, tmp_path):
        with pytest.raises(InputError, match=message):
            train.run(dataclasses.replace(SMOKE, **change), str(tmp_path / "run"), CPU)
        assert os.listdir(tmp_path) == []
