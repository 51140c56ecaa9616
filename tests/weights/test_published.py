"""published.py: weights by name, from a real server."""

import dataclasses
import functools
import http.server
import json
import pathlib
import socket
import tarfile
import threading

import keras
import numpy as np
import pytest

import effnet_tf
from effnet_tf import VARIANTS, InputError
from effnet_tf.variants import published_top1
from effnet_tf.weights import published
from tests.helpers import files, goldens


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """(folder that a local server hands out, its URL, paths that were asked for)."""
    folder, asked = tmp_path_factory.mktemp("shop"), []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(folder), **options)

        def log_message(self, *_):
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}/", asked
    server.shutdown()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Keras' cache, empty."""
    monkeypatch.setattr(
        keras.utils, "get_file", functools.partial(keras.utils.get_file, cache_dir=str(tmp_path))
    )
    return tmp_path / "models"


def sell(monkeypatch, name, url, **changes):
    """Replaces where the weights `name` are published."""
    rows = tuple(dataclasses.replace(row, url=url, **changes) for row in published.PUBLISHED[name])
    monkeypatch.setitem(published.PUBLISHED, name, rows)


@pytest.fixture(scope="module")
def archive(shop, tmp_path_factory):
    """The shop gets an archive like Google's, with the golden weights of b0."""
    folder = tmp_path_factory.mktemp("tf1") / "efficientnet-b0"
    folder.mkdir()
    golden = goldens.read("b0")
    files.write_tf1(folder, files.seeded(golden))
    with tarfile.open(shop[0] / "efficientnet-b0.tar.gz", "w:gz") as tar:
        tar.add(folder, arcname="efficientnet-b0")
    return golden


class TestFetch:
    def test_an_archive(self, shop, archive, cache, monkeypatch, capsys):
        sell(monkeypatch, "advprop", shop[1] + "efficientnet-{variant}.tar.gz")
        case, before = archive["cases"][0], len(shop[2])
        shape = (case["height"], case["width"], 3)
        model = effnet_tf.model_fn(
            "b0", weights="advprop", input_shape=shape, classifier_activation=None
        )
        # AdvProp's pixels are x * 2 / 255 - 1, and the model says so when it is saved.
        assert model.get_config()["layers"][1]["config"]["mean"] == [127.5] * 3
        said = capsys.readouterr().out
        assert "77.6 % top-1 as published" in said and "Downloading data from" in said
        assert "(x - [127.5, 127.5, 127.5]) / [127.5" in said
        again = effnet_tf.model_fn(
            "b0", weights="advprop", input_shape=shape, classifier_activation=None
        )
        assert len(shop[2]) == before + 1  # the second came from the cache
        images = goldens.images(*shape[:2])
        np.testing.assert_array_equal(model(images), again(images))
        logits = np.asarray(case["logits"])
        mean, std = (np.asarray(values) for values in published.PREPROCESSING["imagenet"])
        as_trained = ((images - mean) / std * 127.5 + 127.5).astype("float32")
        assert np.abs(model(as_trained) - logits).max() < 1e-4 * logits.std()

    def test_the_same_file_name_of_two_families_is_two_files(
        self, shop, archive, cache, monkeypatch
    ):
        for name in ("advprop", "autoaugment"):
            sell(monkeypatch, name, shop[1] + "efficientnet-{variant}.tar.gz")
        before = len(shop[2])
        paths = {published.fetch(name, "b0")[0] for name in ("advprop", "autoaugment")}
        assert len(paths) == 2 and len(shop[2]) == before + 2

    def test_a_download_that_was_cut_off_is_repeated(self, shop, archive, cache, monkeypatch):
        sell(monkeypatch, "advprop", shop[1] + "efficientnet-{variant}.tar.gz")
        path, _ = published.fetch("advprop", "b0")
        cached = pathlib.Path(f"{path}_archive")
        whole = cached.read_bytes()
        for part in (whole[: len(whole) // 2], whole[:10]):
            cached.write_bytes(part)
            effnet_tf.feature_extractor("b0", "reduction_1", weights="advprop")
            assert cached.read_bytes() == whole

    def test_a_hash_is_checked(self, shop, cache, monkeypatch):
        (shop[0] / "efficientnetb0.h5").write_bytes(b"not what was published")
        sell(monkeypatch, "imagenet", shop[1] + "efficientnet{variant}{top}.h5")
        with pytest.raises(InputError, match="cannot be downloaded from .*does not match"):
            effnet_tf.EfficientNetB0()

    @pytest.mark.parametrize(
        "arguments, file",
        [
            (dict(), "efficientnetb0.h5"),
            (dict(include_top=False), "efficientnetb0_notop.h5"),
            (dict(classes=5), "efficientnetb0_notop.h5"),
        ],
    )
    def test_the_file_that_is_needed(self, shop, cache, monkeypatch, arguments, file):
        sell(monkeypatch, "imagenet", shop[1] + "nowhere/efficientnet{variant}{top}.h5")
        with pytest.raises(InputError, match="404"):
            effnet_tf.EfficientNetB0(**arguments)
        assert shop[2][-1].endswith("/nowhere/" + file) or any(
            path.endswith("/nowhere/" + file) for path in shop[2][-3:]
        )

    def test_without_a_network(self, cache, monkeypatch):
        with socket.socket() as closed:  # taken, and nobody listens
            closed.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
            sell(monkeypatch, "noisy-student", url + "{variant}.tar.gz")
            with pytest.raises(
                InputError,
                match=f"cannot be downloaded from {url}b0.*pass the path instead of the name",
            ):
                effnet_tf.EfficientNetB0(weights="noisy-student")

    def test_a_page_instead_of_an_archive(self, shop, cache, monkeypatch):
        (shop[0] / "b0.tar.gz").write_text("<html>Sign in to the hotel's network</html>")
        sell(monkeypatch, "advprop", shop[1] + "{variant}.tar.gz")
        with (
            pytest.warns(UserWarning, match="Could not extract"),
            pytest.raises(InputError, match="the download is not an archive"),
        ):
            effnet_tf.EfficientNetB0(weights="advprop")


class TestTable:
    def test_it_is_the_published_one(self):
        facts = json.loads((goldens.REFERENCE / "published_weights.json").read_text())
        keras_files = published.find("imagenet", "b3")
        ours = facts["keras_applications"]
        assert keras_files.url == ours["base_url"] + "efficientnet{variant}{top}.h5"
        assert {name: list(md5) for name, md5 in keras_files.md5.items()} == ours["md5_top_notop"]
        for family, fact in facts["google"].items():
            name = {"imagenet": "baseline", "lite": "imagenet", "edgetpu": "imagenet"}.get(
                family, family
            )
            for variant, accuracy in fact["top1"].items():
                weights = f"{name}-475" if variant.endswith("_475") else name
                released = variant.lower().removesuffix("_475")
                row = published.find(weights, released)
                url = row.url.replace("{variant}_475", "{v}").replace("{variant}", "{v}")
                assert (url, row.preprocessing) == (fact["url"], fact["preprocessing"])
                assert published_top1(weights, released) == accuracy

    def test_every_variant_is_released(self):
        for rows in published.PUBLISHED.values():
            assert {variant for row in rows for variant in row.variants} <= set(VARIANTS)

    @pytest.mark.parametrize("variant", ["edgetpu-s", "lite2"])
    def test_urls_have_the_original_spelling(self, variant, monkeypatch, tmp_path):
        asked = {}
        monkeypatch.setattr(
            keras.utils, "get_file", lambda **options: asked.update(options) or str(tmp_path)
        )
        path, (mean, std) = published.fetch("imagenet", variant)
        assert asked["origin"].endswith(
            {
                "edgetpu-s": "/efficientnet-edgetpu-S.tar.gz",
                "lite2": "/lite/efficientnet-lite2.tar.gz",
            }[variant]
        )
        assert (mean, std) == (VARIANTS[variant].mean, VARIANTS[variant].std)

    def test_what_was_never_published(self):
        with pytest.raises(InputError, match="'b8'; it has 'advprop'"):
            effnet_tf.EfficientNetB8(weights="imagenet", include_top=False)

    def test_a_network_of_ones_own(self):
        with pytest.raises(InputError, match="not one of the released variants"):
            effnet_tf.model_fn(effnet_tf.CompoundScaling().variant(-2), weights="imagenet")
