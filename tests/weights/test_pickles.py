"""pickles.py: what a pickle holds is told, and nothing that it names ever runs."""

import collections
import io
import os
import pickle
import time
import types

import pytest

from effnet_tf.errors import InputError
from effnet_tf.weights import pickle_stack, pickles


def machine(functions=None, persistent=lambda identifier: ("kept", identifier)):
    return pickles.Machine("a.pth", functions or {}, persistent)


def run(content, **options):
    return machine(**options).run(io.BytesIO(content))


PLAIN = {
    "numbers": [0, 1, 255, 256, -1, 70000, 1 << 40, -(1 << 70), 1 << 3000, 0.5, True, False, None],
    "texts": ("a", "ü猫", "x" * 300, ""),
    "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [(), []]),
    "again": [{"a": {"b": []}}] * 3,
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_objects_of_every_protocol(protocol):
    assert run(pickle.dumps(PLAIN, protocol)) == PLAIN


@pytest.mark.parametrize("protocol", [3, 4, 5])  # earlier ones call a function for bytes
def test_bytes(protocol):
    values = [b"bytes", b"b" * 300, b""]
    assert run(pickle.dumps(values, protocol)) == values


def test_keys_that_are_not_str_are_left_out():
    assert run(pickle.dumps({"a": 1, 2: 3, (4, 5): 6, None: {7: 8}})) == {"a": 1}


def test_several_pickles_of_one_stream():
    stream, runs = io.BytesIO(pickle.dumps([1]) + pickle.dumps("two") + b"rest"), machine()
    assert runs.run(stream) == [1] and runs.run(stream) == "two" and stream.read() == b"rest"


def test_a_known_function_is_replaced():
    content = pickle.dumps(collections.OrderedDict(a=1), 2)
    assert run(content, functions={"collections.OrderedDict": dict}) == {"a": 1}


def test_what_is_kept_elsewhere():
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.name if isinstance(value, pickles.Global) else None

    stream = io.BytesIO()
    Pickler(stream, 2).dump([pickles.Global("x")])
    assert run(stream.getvalue()) == [("kept", "x")]


class Mapping(dict):
    """A class of items and attributes, as trainers have for options."""


@pytest.mark.parametrize("protocol", [2, 4])
def test_unknown_objects_are_inert_and_keep_what_they_would_hold(protocol):
    items = Mapping(model="b0")
    objects = [types.SimpleNamespace(lr=0.5), items, {1, 2}, frozenset("a"), complex(1, 2)]
    runs = machine()
    space, mapping, *others = runs.run(io.BytesIO(pickle.dumps(objects, protocol)))
    assert all(isinstance(each, pickle_stack.Inert) for each in (space, mapping, *others))
    assert (space.name, space.entries) == ("types.SimpleNamespace", {"lr": 0.5})
    assert mapping.name.endswith("test_pickles.Mapping") and mapping.entries == {"model": "b0"}
    assert "types.SimpleNamespace" in runs.unknown


# --- hostile pickles ---------------------------------------------------------------------------

RUN = b"X\x09\x00\x00\x00touch pwn"  # what a shell would run
ATTACKS = {
    "reduce": b"\x80\x02cos\nsystem\n" + RUN + b"\x85R.",
    "reduce, posix": b"\x80\x02cposix\nsystem\n" + RUN + b"\x85R.",
    "global alone": b"\x80\x02csubprocess\nPopen\n.",
    "inside a list": b"\x80\x02](K\x01cos\nsystem\n" + RUN + b"\x85Re.",
    "popped again": b"\x80\x02cos\nsystem\n" + RUN + b"\x85R0N.",
    "new object": b"\x80\x02csubprocess\nPopen\n" + RUN + b"\x85\x81.",
    "new object, keywords": b"\x80\x04csubprocess\nPopen\n)}X\x04\x00\x00\x00args"
    + RUN
    + b"s\x92.",
    "stack global": b"\x80\x04\x8c\x02os\x8c\x06system\x93" + RUN + b"\x85R.",
    "stack global, memo": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x940h\x00h\x01\x93.",
    "eval": b"\x80\x02c__builtin__\neval\n" + RUN + b"\x85R.",
    "exec": b"\x80\x02cbuiltins\nexec\n" + RUN + b"\x85R.",
    "import": b"\x80\x02cbuiltins\n__import__\n" + RUN + b"\x85R.",
    "inner name": b"\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93.",
    "run a module": b"\x80\x02crunpy\n_run_code\n.",
    "delete files": b"\x80\x02cshutil\nrmtree\n" + RUN + b"\x85R.",
    "another file": b"\x80\x02cimportlib.util\nfind_spec\n.",
    "marshal": b"\x80\x02cmarshal\nloads\n" + RUN + b"\x85R.",
}
WRONG = {
    "text": b"ios\nsystem\n.",
    "instance": b"(S'touch pwn'\nios\nsystem\n.",
    "object": b"\x80\x02(cos.path\nx\no.".replace(b"os.path", b"abc"),
    "extension 1": b"\x80\x02\x82\x01.",
    "extension 2": b"\x80\x02\x83\x01\x00.",
    "extension 4": b"\x80\x02\x84\x01\x00\x00\x00.",
    "buffer": b"\x80\x05\x97.",
    "read-only buffer": b"\x80\x05N\x98.",
    "persistent text": b"P1\n.",
    "a memo that is empty": b"\x80\x02h\x07.",
    "a memo of the top of nothing": b"\x80\x02q\x00.",
    "nothing": b"\x80\x02.",
    "no end": b"\x80\x02N",
    "empty": b"",
    "no mark": b"\x80\x02N0e.",
    "too few for a tuple": b"\x80\x02N\x86.",
    "items of a number": b"\x80\x02K\x01(K\x02e.",
    "odd items": b"\x80\x02}(X\x01\x00\x00\x00au.",
    "items of a tuple": b"\x80\x02)NNs.",
    "call of a number": b"\x80\x02K\x01)R.",
    "call of a text": b"\x80\x02X\x01\x00\x00\x00a)R.",
    "state of a number": b"\x80\x02K\x01}b.",
    "state of a list": b"\x80\x02]}b.",
    "state of a function": b"\x80\x02ca\nb\n}b.",
    "a name that is a number": b"\x80\x04K\x01\x8c\x01a\x93.",
    "a name that is too long": b"\x80\x04\x8c\x01aX\xd0\x07\x00\x00" + b"a" * 2000 + b"\x93.",
    "cut text": b"\x80\x02X\xff\xff\xff\x7fabc.",
    "vast text": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc.",
    "vast bytes": b"\x80\x05\x96\x00\x00\x00\x00\x00\x00\x00\x7fabc.",
    "negative length": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "not UTF-8": b"\x80\x02X\x01\x00\x00\x00\xff.",
}


@pytest.mark.parametrize("content", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_refused_by_name(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"'a.pth' would make pickle call [\w.]+: it was made to"):
        run(content)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_a_wrong_pickle_is_an_error(content):
    with pytest.raises(ValueError):
        run(content)


def test_functions_that_nobody_knows_do_not_run(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(os.path, "attack", called.append, raising=False)
    # By names that look harmless: as a function, a class, with a state, on what that returns.
    content = b"\x80\x02cposixpath\nattack\nK\x01\x85R}X\x01\x00\x00\x00aK\x02sbK\x03\x85R."
    found = run(content)
    assert isinstance(found, pickle_stack.Inert) and found.name == "posixpath.attack"
    assert not called


def test_states_do_not_reach_real_objects():
    # __setstate__, __dict__ and __class__ are keys like any others.
    state = b"}(X\x0c\x00\x00\x00__setstate__K\x01X\x09\x00\x00\x00__class__K\x02u"
    found = run(b"\x80\x02ca\nB\n)\x81" + state + b"b.")
    assert found.entries == {"__setstate__": 1, "__class__": 2}
    assert type(found) is pickle_stack.Inert


class TestWhatWouldExhaustTheMachine:
    def refused(self, content):
        started = time.process_time()
        with pytest.raises((InputError, ValueError)):
            run(content)
        assert time.process_time() - started < 8

    def test_more_steps_than_any_weights_need(self):
        self.refused(b"\x80\x02" + b"N0" * (1 << 21) + b".")

    def test_a_memo_place_far_away_takes_nothing(self):
        assert run(b"\x80\x02Nr\xff\xff\xff\xff.") is None

    def test_deep_nesting(self):
        found = run(b"\x80\x02)" + b"\x85" * 100_000 + b".")
        assert isinstance(found, tuple)
        # As a key it would be hashed, layer by layer.
        assert run(b"\x80\x02}(X\x01\x00\x00\x00aN)" + b"\x85" * 100_000 + b"Nu.") == {"a": None}
        del found

    def test_a_cycle(self):
        found = run(b"\x80\x02]q\x00h\x00a.")
        assert found[0] is found

    def test_a_long_argument_again_and_again(self):
        items = b"](" + b"N" * 50_000 + b"eq\x01\x85q\x020"
        call = b"h\x00h\x02R0"
        content = b"\x80\x02ca\nb\nq\x000" + items + call * 50_000 + b"N."
        started = time.process_time()
        with pytest.raises(InputError, match="more than 2,097,152 steps"):
            run(content, functions={"a.b": list})
        assert time.process_time() - started < 5

    def test_a_long_text_as_arguments(self):
        text = b"X\x00\x00\x10\x00" + b"a" * (1 << 20) + b"q\x010"
        self.refused(b"\x80\x02ca\nb\nq\x000" + text + b"h\x00h\x01R0" * 400_000 + b"N.")

    def test_long_names_again_and_again(self):
        text = b"X\x00\x00\x10\x00" + b"a" * (1 << 20)
        self.refused(b"\x80\x04" + text + b"q\x000" + b"h\x00h\x00\x93" * 100_000 + b".")
