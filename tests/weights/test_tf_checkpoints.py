"""tf_checkpoints.py: Google's TF1 checkpoints give the original code's logits."""

import gzip
import shutil

import numpy as np
import pytest
import tensorflow as tf

import effnet_tf
from effnet_tf import InputError, load_weights
from effnet_tf.runs import locate
from tests.helpers import files, goldens, tiny_net
from tests.helpers.files import assert_untouched, classifier, logits_error

TINY = tiny_net.scaled(-8)


@pytest.fixture(scope="module")
def tf1(tmp_path_factory):
    """(golden, folder of a checkpoint with its weights as averages) of b0."""
    golden, folder = goldens.read("b0"), tmp_path_factory.mktemp("efficientnet-b0")
    files.write_tf1(folder, files.seeded(golden))
    return golden, folder


class TestTf1:
    @pytest.mark.parametrize(
        "variant, scope",
        [
            ("b0", "efficientnet-b0"),
            ("lite0", "lite0/model"),
            ("edgetpu-s", "efficientnet-edgetpu-S"),
            pytest.param("b2", "efficientnet-b2", marks=pytest.mark.slow),
        ],
    )
    def test_averages_give_the_original_logits(self, variant, scope, tmp_path):
        golden = goldens.read(variant)
        prefix = files.write_tf1(tmp_path, files.seeded(golden), scope)
        model = classifier(variant, golden)
        report = load_weights(model, prefix)
        assert logits_error(model, golden) < 1e-5
        assert report.ema is True and "averaged weights" in str(report)
        assert len(report.matched) == len(golden["variables"])
        assert not (report.missing or report.unused or report.reshaped)
        assert report.variants == (variant,)

    @pytest.mark.parametrize(
        "spelling",
        ["folder", "folder/", "model.ckpt", "model.ckpt.index", "model.ckpt.data-00000-of-00001"],
    )
    def test_every_spelling_of_the_path(self, tf1, spelling):
        folder = tf1[1]
        path = (
            str(folder) + spelling.removeprefix("folder")
            if "folder" in spelling
            else str(folder / spelling)
        )
        assert locate.checkpoint_prefix(path) == str(folder / "model.ckpt")

    @pytest.mark.parametrize(
        "state",
        [None, 'model_checkpoint_path: "/cns/oi-d/home/efficientnet-b0/model.ckpt-218949"\n'],
    )
    def test_an_archive_whose_checkpoint_file_helps_not(self, tf1, tmp_path, state):
        inside = tmp_path / "outer" / "efficientnet-b0"
        shutil.copytree(tf1[1], inside)
        (inside / "checkpoint").unlink()
        if state:
            (inside / "checkpoint").write_text(state)
        for path in (inside, inside.parent):
            assert locate.checkpoint_prefix(str(path)) == str(inside / "model.ckpt")

    def test_several_checkpoints_and_no_word_which(self, tf1, tmp_path):
        for name in ("a", "b"):
            shutil.copy(tf1[1] / "model.ckpt.index", tmp_path / f"{name}.index")
        with pytest.raises(InputError, match="holds 2 checkpoints"):
            locate.checkpoint_prefix(str(tmp_path))

    def test_raw_weights(self, tf1):
        golden, folder = tf1
        model = classifier("b0", golden)
        report = load_weights(model, folder, ema=False)
        assert report.ema is False and "raw weights" in str(report)
        assert np.abs(model.get_layer("stem_conv").kernel).max() > 2  # the noise

    def test_without_averages_it_says_so(self, tmp_path, capsys):
        golden = goldens.read("b0")
        files.write_tf1(tmp_path, files.seeded(golden), ema=False)
        model = classifier("b0", golden, weights=str(tmp_path))
        assert "holds no averaged weights" in capsys.readouterr().out
        assert logits_error(model, golden) < 1e-5

    def test_an_unknown_variable_is_not_passed_over(self, tmp_path):
        golden = goldens.read("b0")
        files.write_tf1(
            tmp_path,
            files.seeded(golden),
            extra=["efficientnet-b0/adapter/gain", "efficientnet-b0/stem/conv2d/bias"],
        )
        model = classifier("b0", golden)
        before = model.get_weights()
        with pytest.raises(InputError, match=r"unused 2: .*adapter/gain \(3,\)"):
            load_weights(model, tmp_path)
        assert_untouched(model, before)

    def test_a_missing_variable_is_named(self, tmp_path, capsys):
        golden = goldens.read("b0")
        variables = files.seeded(golden)
        del variables["efficientnet-b0/blocks_3/se/conv2d_1/bias"]
        files.write_tf1(tmp_path, variables)
        model = classifier("b0", golden)
        before = model.get_weights()
        with pytest.raises(InputError, match=r"missing 1: block3a/se/expand/bias \(144,\)"):
            load_weights(model, tmp_path)
        assert_untouched(model, before)
        report = load_weights(model, tmp_path, strict=False)
        assert report.missing == ("block3a/se/expand/bias (144,)",)
        assert "block3a/se/expand/bias (144,)" in capsys.readouterr().out

    @pytest.mark.parametrize("variant", ["b1", "lite0", "edgetpu-s"])
    def test_another_variant_is_named(self, tf1, variant):
        model = effnet_tf.model_fn(variant)
        before = model.get_weights()[:50]
        with pytest.raises(InputError, match=f"of variant b0, and this model is {variant}"):
            load_weights(model, tf1[1])
        assert_untouched(model, before)

    def test_another_variant_through_the_first_blocks(self, tf1):
        # block1a and its input are the same in b0 and b1; reduction_1 comes after block1b there.
        with pytest.raises(InputError, match="variant b0, not of b1"):
            effnet_tf.feature_extractor("b1", "stem", weights=str(tf1[1]))

    def test_a_checkpoint_of_something_else(self, tmp_path):
        tf.train.Checkpoint(v=tf.Variable(1.0)).write(str(tmp_path / "other"))
        with pytest.raises(InputError, match="neither train_tpu.py nor Google's"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "other"))

    @pytest.mark.parametrize("damage", ["no data", "half data", "half index"])
    def test_a_damaged_one(self, tf1, tmp_path, damage):
        shutil.copytree(tf1[1], tmp_path, dirs_exist_ok=True)
        path = tmp_path / (
            "model.ckpt.index" if "index" in damage else "model.ckpt.data-00000-of-00001"
        )
        content = path.read_bytes()
        path.unlink()
        if "half" in damage:
            path.write_bytes(content[: len(content) // 2])
        model = effnet_tf.model_fn("b0")
        before = model.get_weights()
        with pytest.raises(InputError, match="is damaged or incomplete"):
            load_weights(model, tmp_path)
        assert_untouched(model, before)

    def test_the_archive_itself(self, tmp_path):
        (tmp_path / "b0.tar.gz").write_bytes(gzip.compress(b"x" * 100))
        with pytest.raises(InputError, match="extract it"):
            effnet_tf.model_fn(TINY, weights=str(tmp_path / "b0.tar.gz"))
