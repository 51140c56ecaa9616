"""safetensors.py: files read as the safetensors package reads them, damaged ones never."""

import json
import time

import numpy as np
import pytest
import safetensors.numpy

from effnet_tf.errors import InputError
from effnet_tf.weights import claims
from effnet_tf.weights import safetensors as ours

TYPES = ("float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32")


def read(content):
    return ours.tensors(claims.File("a.safetensors", content, claims.most_bytes(1000)))


def a_file(entries, numbers=b"", **metadata):
    header = json.dumps({**entries, **metadata}).encode()
    return len(header).to_bytes(8, "little") + header + numbers


def test_every_type_and_shape_bit_for_bit():
    random, state = np.random.default_rng(0), {}
    for kind in (*TYPES, "uint16", "uint8", "bool"):
        for shape in ((), (0,), (3,), (2, 3), (1, 2, 3, 4)):
            state[f"{kind}.{len(shape)}{shape[:1]}"] = random.integers(0, 2, shape).astype(kind)
    state["odd"] = random.normal(0, 1, 5).astype("float32")
    content = safetensors.numpy.save(state, {"format": "pt"})
    assert ours.recognises(content)
    found, theirs = read(content), safetensors.numpy.load(content)
    assert found.keys() == theirs.keys()
    for name, value in theirs.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(found[name], value)


def test_bfloat16_is_the_first_half_of_a_float32():
    values = np.float32([[1.0, -2.5, 3.0], [0.0, 1e30, -1e-30]])
    halves = (values.view("uint32") >> 16).astype("uint16")
    entry = {"a": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}
    found = read(a_file(entry, halves.tobytes()))["a"]
    assert found.dtype == np.float32 and found.shape == (2, 3)
    np.testing.assert_allclose(found, values, rtol=2**-7)


def test_a_type_that_numpy_lacks_is_named():
    entry = {"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}
    with pytest.raises(InputError, match="type F8_E4M3: save them as float32"):
        read(a_file(entry, bytes(2)))


@pytest.mark.parametrize(
    "shape, offsets",
    [
        ([3], [0, 8]),
        ([2], [4, 12]),
        ([2], [-8, 0]),
        ([-1, -2], [0, 8]),
        ([2.0], [0, 8]),
        ([1 << 40], [0, 1 << 42]),
        ([0], [4, 0]),
        ([True], [0, 4]),
    ],
)
def test_shapes_and_places_that_cannot_be(shape, offsets):
    entry = {"a": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}
    with pytest.raises(ValueError, match="'a' has"):
        read(a_file(entry, bytes(8)))


def test_more_dimensions_than_an_array_has():
    # The product of these sides took a minute, that of ten times as many hours.
    entry = {"a": {"dtype": "F32", "shape": [9999999999] * 170_000, "data_offsets": [0, 4]}}
    started = time.process_time()
    with pytest.raises(ValueError, match="'a' has 170,000 dimensions"):
        read(a_file(entry, bytes(4)))
    assert time.process_time() - started < 8


def test_a_header_longer_than_any_weights_need():
    content = a_file({"__metadata__": [{}] * 4_000_000})
    with pytest.raises(InputError, match="describes its tensors in 16,000,018 bytes"):
        read(content)


def test_tensors_that_share_their_bytes():
    entry = {"dtype": "F32", "shape": [250], "data_offsets": [0, 1000]}
    with pytest.raises(ValueError, match="overlap"):
        read(a_file({str(number): entry for number in range(1000)}, bytes(1000)))


def test_a_thousand_mutations_are_read_as_the_package_does_or_refused():
    random = np.random.default_rng(0)
    state = {name: random.normal(0, 1, (3, 4)).astype("float32") for name in ("a", "b")}
    whole, refused = safetensors.numpy.save(state), 0
    for _ in range(1000):
        content = bytearray(whole)
        for place in random.integers(0, len(whole) - 96, random.integers(1, 4)):
            content[place] = random.integers(256)
        content = bytes(content[: random.integers(len(whole) // 2, 2 * len(whole))])
        if not ours.recognises(content):
            continue
        try:
            found = read(content)
        except (ValueError, LookupError, TypeError, AttributeError):  # reading.read's sentence
            refused += 1
            continue
        assert sum(value.nbytes for value in found.values()) <= 2 * len(content)
        try:
            theirs = safetensors.numpy.load(content)
        except Exception:  # the package is stricter about what lies between tensors
            continue
        for name, value in theirs.items():
            np.testing.assert_array_equal(found[name], value)
    assert refused > 300
