"""torch_archives.py: files of PyTorch's give its tensors bit for bit, or one sentence."""

import io
import struct
import sys
import zipfile

import numpy as np
import pytest

from effnet_tf.errors import InputError
from effnet_tf.weights import claims, contents, reading, torch_archives
from effnet_tf.weights.torch_tensors import Tensor
from tests.helpers import goldens, torch_pickles
from tests.helpers.torch_pickles import Raw, Writer, call, name, pickled, storage, tensor

MOST = claims.most_bytes(1000)
FORMS = [pytest.param(True, id="zip"), pytest.param(False, id="legacy")]
REAL = ["torch_zip.pth", "torch_legacy.pth"]


def opened(content):
    file = claims.File("a.pth", content, MOST)
    assert torch_archives.recognises(file)
    return file, torch_archives.open_file(file)


def read(content, *keys):
    """{name: array} of the tensors in a file, or in a dictionary inside it."""
    file, found = opened(content)
    state = found.value
    for key in keys:
        state = state[key]
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    return torch_archives.arrays(file, found, tensors)


def a_file(value, storages, zipped=True):
    form = torch_pickles.zip_file if zipped else torch_pickles.legacy_file
    return form(pickled(value), storages)


def numbers(count, kind="float32"):
    return count, np.arange(count, dtype=kind).tobytes()


# --- what PyTorch wrote --------------------------------------------------------------------------


@pytest.mark.parametrize("path", REAL)
def test_files_of_pytorch_bit_for_bit(path):
    found = read((goldens.REFERENCE / path).read_bytes(), "state_dict")
    with np.load(goldens.REFERENCE / "torch_files.npz") as expected:
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert (found[key].dtype, found[key].shape) == (value.dtype, value.shape), key
            assert found[key].tobytes() == value.tobytes(), key


@pytest.mark.parametrize("path", REAL)
def test_what_else_a_training_program_saved(path):
    _, found = opened((goldens.REFERENCE / path).read_bytes())
    assert found.value["epoch"] == 7 and found.value["size"] == (2, 3, 4)
    options = found.value["args"]
    assert options.name == "argparse.Namespace"
    assert options.entries["lr"] == 0.1 and options.entries["size"] == (3, 224, 224)
    assert found.unknown == ("argparse.Namespace",)
    assert list(found.value["layer"])[:2] == ["weight", "bias"]


@pytest.mark.parametrize("zipped", FORMS)
def test_equal_to_pytorch_itself(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    state = {
        f"{kind} {number}": torch.tensor(random.integers(0, 2, shape)).to(getattr(torch, kind))
        for kind in ("float64", "float32", "float16", "bfloat16", "int64", "uint8", "bool")
        for number, shape in enumerate([(), (0,), (3,), (2, 3), (2, 1, 3, 4)])
    }
    state |= {f"{key}, turned": value.mT for key, value in state.items() if value.ndim > 1}
    torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    found = read((tmp_path / "a.pth").read_bytes())
    theirs = torch.load(tmp_path / "a.pth", weights_only=True)
    assert found.keys() == theirs.keys()
    for key, value in theirs.items():
        if value.dtype == torch.bfloat16:
            value = value.float()
        assert found[key].dtype == value.numpy().dtype
        assert found[key].tobytes() == value.numpy().tobytes(), key


def test_pytorch_may_be_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert read((goldens.REFERENCE / "torch_zip.pth").read_bytes(), "state_dict")


# --- made by hand --------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", FORMS)
def test_arrays_of_every_type(zipped):
    kinds = sorted(set(torch_pickles.STORAGES) - {"bfloat16"})
    arrays = {kind: np.arange(6).reshape(3, 2).astype(kind) for kind in kinds}
    writer = Writer(zipped)
    found = read(writer.file(writer.state(arrays)))
    for kind, value in arrays.items():
        assert found[kind].dtype == kind
        np.testing.assert_array_equal(found[kind], value)


@pytest.mark.parametrize("zipped", FORMS)
def test_one_storage_of_several_tensors(zipped):
    held = storage("float32", "0", 12)
    views = {
        "rows": tensor(held, (3, 4)),
        "columns": tensor(held, (4, 3), stride=(1, 4)),
        "end": tensor(held, (2,), offset=10),
        "every second": tensor(held, (5,), offset=1, stride=(2,)),
        "one": tensor(held, (), offset=11),
        "none": tensor(held, (0, 7), offset=12),
    }
    found = read(a_file(views, {"0": numbers(12)}, zipped))
    rows = np.arange(12, dtype="float32").reshape(3, 4)
    np.testing.assert_array_equal(found["rows"], rows)
    np.testing.assert_array_equal(found["columns"], rows.T)
    np.testing.assert_array_equal(found["end"], [10, 11])
    np.testing.assert_array_equal(found["every second"], [1, 3, 5, 7, 9])
    assert found["one"] == 11 and found["none"].shape == (0, 7)


def test_parts_of_storages_as_pytorch_0_4_wrote_them():
    part = storage("float32", "0", 10, ("1", 4, 3))
    found = read(a_file({"a": tensor(part, (3,))}, {"0": numbers(10)}, zipped=False))
    np.testing.assert_array_equal(found["a"], [4, 5, 6])
    for start, length in ((8, 3), (-1, 3), (0, 11)):
        part = storage("float32", "0", 10, ("1", start, length))
        with pytest.raises(ValueError, match="not inside the one"):
            opened(a_file({"a": tensor(part, (1,))}, {"0": numbers(10)}, zipped=False))


def test_items_at_once_as_python_2_wrote_them():
    held = tensor(storage("float32", "0", 2), (2,))
    state = call("collections.OrderedDict", [["a", held], [3, held]])
    assert list(read(a_file(Raw(state), {"0": numbers(2)}, zipped=False))) == ["a"]


@pytest.mark.parametrize("zipped", FORMS)
@pytest.mark.parametrize(
    "size, offset, stride",
    [
        ((13,), 0, (1,)),
        ((12,), 1, (1,)),
        ((3, 4), 0, (5, 1)),
        ((2,), 0, (12,)),
        ((), 12, ()),
        ((1,), 1 << 40, (1,)),
        ((1 << 40,), 0, (1,)),
        ((2,), 0, (1 << 40,)),
        ((1 << 20, 1 << 20), 0, (0, 0)),
        ((2,), -1, (1,)),
        ((-2,), 0, (1,)),
        ((2,), 0, (-1,)),
        ((2, 2), 0, (1,)),
        ((2.0,), 0, (1,)),
        ((True,), 0, (1,)),
        ((1,) * 65, 0, (1,) * 65),
        ((1 << 62,), 0, (0,)),
        ([2], 0, (1,)),
    ],
)
def test_tensors_that_reach_out_of_their_storage(size, offset, stride, zipped):
    held = storage("float32", "0", 12)
    wrong = tensor(held, size, offset, stride)
    with pytest.raises((ValueError, InputError), match="tensor|claims to hold"):
        read(a_file({"a": wrong}, {"0": numbers(12)}, zipped))


@pytest.mark.parametrize("zipped", FORMS)
@pytest.mark.parametrize("count", [13, 1 << 40])
def test_storages_that_are_not_as_long_as_they_say(count, zipped):
    wrong = {"a": tensor(storage("float32", "0", count), (2,))}
    with pytest.raises(ValueError, match="storage .* (shorter|cut off)"):
        read(a_file(wrong, {"0": numbers(12)}, zipped))


@pytest.mark.parametrize("zipped", FORMS)
@pytest.mark.parametrize("count", [-1, 1.0, True, None, 1 << 60])
def test_storages_of_no_possible_length(count, zipped):
    wrong = {"a": tensor(storage("float32", "0", count), (2,))}
    with pytest.raises(ValueError, match="describes a storage wrongly"):
        read(a_file(wrong, {"0": numbers(12)}, zipped))


def test_a_storage_that_is_not_there():
    wrong = {"a": tensor(storage("float32", "../version", 2), (2,))}
    with pytest.raises(KeyError):
        read(a_file(wrong, {"0": numbers(12)}))


@pytest.mark.parametrize("zipped", FORMS)
def test_a_type_that_numpy_lacks_is_named(zipped):
    wrong = tensor(storage("ComplexHalfStorage", "0", 2), (2,))
    with pytest.raises((InputError, ValueError), match="type ComplexHalfStorage"):
        read(a_file({"a": wrong}, {"0": numbers(2)}, zipped))
    float8 = call(
        "torch._utils._rebuild_tensor_v3",
        storage("UntypedStorage", "0", 2),
        0,
        (2,),
        (1,),
        False,
        None,
        name("torch", "float8_e4m3fn"),
    )
    with pytest.raises(InputError, match="type float8_e4m3fn: save them as float32"):
        read(a_file({"a": float8}, {"0": (2, b"ab")}, zipped))


def test_views_of_complex_numbers():
    hooks = call("collections.OrderedDict")
    held = storage("float32", "0", 2)
    options = (held, 0, (2,), (1,), False, hooks)
    view = call("torch._utils._rebuild_tensor_v2", *options, {"neg": True})
    with pytest.raises(InputError, match="type conjugate or negative view"):
        read(a_file({"a": view}, {"0": numbers(2)}))
    assert read(
        a_file(
            {"a": call("torch._utils._rebuild_tensor_v2", *options, {"neg": False})},
            {"0": numbers(2)},
        )
    )["a"].tolist() == [0, 1]


@pytest.mark.parametrize(
    "identifier",
    [
        ("module", "a.B", "a.py", "print(1)"),
        ("storage", name("torch", "FloatStorage"), "0", "cpu"),
        ("storage", "FloatStorage", "0", "cpu", 1),
        ("storage", name("torch", "FloatStorage"), "0", "cpu", 1, None, None),
        ("storage", name("torch", "FloatStorage"), 0, "cpu", 1),
        "0",
    ],
)
def test_references_to_something_else(identifier):
    with pytest.raises(ValueError, match="storage"):
        read(a_file({"a": Raw(torch_pickles.push(identifier) + b"Q")}, {}))


def test_classes_whose_source_was_kept_as_before_1_6():
    kept = Raw(torch_pickles.push(("module", name("a", "Net"), "a.py", "print(1)")) + b"Q")
    held = tensor(storage("float32", "0", 2), (2,))
    saved = {"net": Raw(kept + b")\x81" + torch_pickles.push({"b": 1}) + b"b"), "a": held}
    assert list(read(a_file(saved, {"0": numbers(2)}, zipped=False))) == ["a"]


def test_the_other_order_of_bytes_is_refused():
    big = torch_pickles.zip_file(pickled({}), {}, byteorder=b"big")
    for content in (big, torch_pickles.legacy_file(pickled({}), {}, little=False)):
        with pytest.raises(InputError, match="big-endian"):
            opened(content)


def test_programs_are_refused():
    content = torch_pickles.zip_file(pickled({}), {}, **{"constants.pkl": pickled({})})
    with pytest.raises(InputError, match="program of TorchScript: save model.state_dict"):
        opened(content)


def test_a_pickle_of_somebody_else():
    with pytest.raises(InputError, match="pickle that PyTorch did not write"):
        opened(pickled({"a": 1}))


def test_a_bomb_is_not_unpacked():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(100 << 20))
    with pytest.raises(InputError, match="claims to hold 104,857,600 bytes"):
        opened(content.getvalue())


def test_one_number_that_claims_to_be_a_gigabyte():
    claimed = {"a": tensor(storage("float32", "0", 1), (1 << 28,), stride=(0,))}
    with pytest.raises(InputError, match="claims to hold 1,073,741,824 bytes"):
        read(a_file(claimed, {"0": numbers(1)}))


# --- damaged -------------------------------------------------------------------------------------


def small(zipped):
    writer = Writer(zipped)
    random = np.random.default_rng(0)
    arrays = {key: random.normal(0, 1, (3, 2)).astype("float32") for key in ("w.weight", "w.bias")}
    options = Raw(torch_pickles.name("argparse", "Namespace") + b")\x81}X\x01\x00\x00\x00aK\x01sb")
    return writer.file({"state_dict": writer.state(arrays), "args": options, "epoch": 3})


TARGET = contents.Target([], {}, 1000)


def outcome(content, tmp_path):
    """What `reading.read` says of a file: the sentence, always one."""
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        reading.read(str(path), True, TARGET)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 500, sentence
    return sentence


@pytest.mark.parametrize("zipped", FORMS)
def test_a_thousand_mutations_are_arrays_or_a_sentence(zipped, tmp_path):
    random = np.random.default_rng(1)
    whole, said = small(zipped), []
    assert "holds no EfficientNet, MobileNet or ResNet-50 whose names" in outcome(whole, tmp_path)
    for _ in range(1000):
        content = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 6)):
            content[place] = random.integers(256)
        if random.random() < 0.2:
            content = content[: random.integers(len(whole))]
        said.append(outcome(bytes(content), tmp_path))
    # Numbers and names may change unseen: a legacy file has no checksum.
    assert sum("is damaged" in each for each in said) > 300


def test_cut_anywhere_it_is_a_sentence(tmp_path):
    whole = small(False)
    for length in range(0, len(whole), 7):
        assert outcome(whole[:length], tmp_path)


def test_bytes_after_the_end_change_nothing():
    writer = Writer(False)
    content = writer.file(writer.state({"a": np.ones(3, "float32")}))
    assert read(content + struct.pack("<q", 5))["a"].tolist() == [1, 1, 1]
