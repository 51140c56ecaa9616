"""Images in memory: what is read, how it is resized, and how it is divided into folds."""

import dataclasses

import numpy as np
import pytest

import effnet_tf
from effnet_tf.search import images
from tests.search.few_images import colours


def test_digits_are_read_as_they_are(few_digits):
    import sklearn.datasets

    found = images.load("digits", 8)
    wanted = np.round(sklearn.datasets.load_digits().images * (255 / 16)).astype("uint8")
    assert found.pixels.shape == (720, 8, 8, 3) and found.pixels.dtype == np.uint8
    assert (found.pixels == found.pixels[..., :1]).all()
    # The order is that of the parts; the images are all there.
    ours, theirs = found.pixels[..., 0].reshape(720, -1), wanted.reshape(720, -1)
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs))
    assert 0.15 < found.held_out.mean() < 0.25 and len(found.class_names) == 10


def test_a_folder_is_read_whole_but_for_what_cannot_be_read(photos, capsys):
    (photos / "cat" / "0.jpg").write_bytes(b"\xff\xd8\xffnothing")
    found = images.load("folder", 4, str(photos), holdout=0.25)
    assert found.pixels.shape == (23, 4, 4, 3) and found.held_out.sum() in (5, 6)
    assert "1 images cannot be used" in capsys.readouterr().out
    cats = found.pixels[found.labels == 0]
    assert (cats[..., 0] > 240).all()  # the colour of its class
    # Shrunk to the means of their areas, and not to samples: single pixels' noise is 74.
    assert cats[..., 1].std() < 20


def test_what_does_not_fit_is_refused(photos):
    with pytest.raises(
        effnet_tf.InputError, match="24 images, which at 9000 pixels .* take smaller images"
    ):
        images.load("folder", 9000, str(photos))


def test_folds_are_disjoint_and_have_every_class_alike():
    whole = colours(100)
    parts = [whole.fold(number, 5).held_out for number in range(5)]
    assert (np.sum(parts, 0) == 1).all()
    for part in parts:
        assert part.sum() == 20
        assert set(np.bincount(whole.labels[part])) <= {6, 7}
    other = dataclasses.replace(whole, held_out=~whole.held_out)
    assert (other.fold(2, 5).held_out == parts[2]).all()


@pytest.mark.parametrize("number, of, message", [(5, 5, "no fold 5 of 5"), (0, 50, "'a' has 34")])
def test_folds_that_cannot_be(number, of, message):
    with pytest.raises(effnet_tf.InputError, match=message):
        colours(100).fold(number, of)


def test_resizing_keeps_the_mean_and_the_type():
    whole = colours()
    small = whole.resized(2)
    assert small.shape == (96, 2, 2, 3) and small.dtype == np.uint8
    assert abs(small.mean() - whole.pixels.mean()) < 1
    assert whole.resized(4) is whole.pixels
    # Each new pixel lies in one field, and takes nothing of its neighbours.
    checks = np.kron([[0, 255], [255, 0]], np.ones((4, 4)))[None, ..., None].repeat(3, 3)
    assert images.resize(checks.astype("uint8"), 2)[0, :, :, 0].tolist() == [[0, 255], [255, 0]]


def test_the_digest_sees_what_is_held_out():
    whole = colours()
    assert whole.digest() == colours().digest() != whole.fold(0, 3).digest()
