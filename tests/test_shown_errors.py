"""What does Python itself show of a mistake: at the prompt, in a script, in a notebook?

Everything goes through one real interpreter with a prompt, which reads the lines below.
"""

import pathlib
import re
import subprocess
import sys

import pytest

from effnet_tf import errors

ROOT = pathlib.Path(__file__).parents[1]
# A line that somebody types, and how the sentence begins that answers it.
MISTAKES = {
    'e.EfficientNetB0(weights="nonsense")': "There are no weights at 'nonsense'",
    "e.EfficientNetB0(classes=-1)": "num_classes is -1",
    'e.model_fn("b99")': "There is no variant 'b99'",
    'e.model_fn("b0", 0)': "",
    'e.cost("b99")': "There is no variant 'b99'",
    'e.load_weights(tiny, "no.h5")': "There are no weights at 'no.h5'",
    'e.load_model("no.keras")': "",
    'e.load_run("nowhere")': "'nowhere' is not a run directory",
    'e.feature_extractor(tiny, ["block9z"])': "",
    'e.set_trainable(tiny, "block9z")': "",
    "e.decode_predictions(np.zeros((1, 7)))": "decode_predictions names the 1000 classes",
    "e.Recipe(epochs=-1)": "epochs is -1; it must be at least 1",
    'e.list_models({"parms": "6M"})': "",
    "e.BatchNorm('nonsense')": "",
    "e.DropConnect(1.5)": "DropConnect needs a rate in",
    "e.Normalize([1.0], [0.0])": "Normalize needs a mean",
    "e.Normalize([1.0, 2.0], [3.0, 4.0])(np.zeros((1, 8, 8, 3)))": "Normalize has constants for 2",
    'e.data.open_source(e.Recipe(dataset="folder"))': "",
    'e.data.open_source(e.Recipe(dataset="folder", data_dir="nowhere"))': "",
    'e.data.open_source(e.Recipe(dataset="table", data_dir="no.csv"))': "",
    'list(e.inference.predict("nowhere", ["a.jpg"]))': "There is no file 'nowhere'",
    'e.inference.evaluate("nowhere", "photos")': "",
    'e.export.load("no.tflite")': "There is no",
    'e.export.to_tflite(tiny, "no/such/folder/m.tflite", e.export.Options(quantize="int7"))': "",
    'e.train.run(e.Recipe(dataset="folder", data_dir="nowhere"), "run")': "",
}
BEGIN = """
import sys, os, numpy as np, keras
import effnet_tf as e
tiny = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)])
"""
OTHERS = """
def calls(function): function()

def wrong(): e.model_fn("b99")

"""
MARK = "print(chr(10) + '=' * 9, file=sys.stderr, flush=True)"
EXTRA = (
    "calls(wrong)",  # the lines of the user's own functions are shown
    "raise ValueError('whole') from KeyError('x')",
    "os.environ['EFFNET_TF_TRACEBACK'] = 'full'; e.load_run('nowhere')",
)


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """{line: what the interpreter shows of it}."""
    lines = [*MISTAKES, *EXTRA]
    text = BEGIN + OTHERS + MARK + "\n" + "".join(f"{line}\n{MARK}\n" for line in lines)
    done = subprocess.run(
        [sys.executable, "-i", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})"],
        input=text,
        capture_output=True,
        text=True,
        cwd=tmp_path_factory.mktemp("prompt"),
    )
    parts = re.sub(r"^((>>>|\.\.\.) )+", "", done.stderr, flags=re.MULTILINE).split("=" * 9)
    assert len(parts) == len(lines) + 2, done.stderr
    return {line: part.strip() for line, part in zip(lines, parts[1:])}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_sentence_below_ones_own_line(shown, line):
    *frames, last = shown[line].splitlines()
    assert frames == ["Traceback (most recent call last):", '  File "<stdin>", line 1, in <module>']
    kind, _, sentence = last.partition(": ")
    assert kind.startswith("effnet_tf.") and sentence.startswith(MISTAKES[line]), last
    assert 20 < len(sentence) < 400 and sentence.count("\n") == 0


def test_the_lines_of_ones_own_functions_are_shown(shown):
    text = shown["calls(wrong)"]
    assert re.findall(r"in (\w+)", text.replace("<module>", "module"))[:3] == [
        "module",
        "calls",
        "wrong",
    ]
    assert "effnet_tf/" not in text


def test_other_exceptions_stay_whole(shown):
    text = shown[EXTRA[1]]
    assert "KeyError: 'x'" in text and "direct cause" in text


def test_all_of_it_can_be_seen(shown):
    text = shown[EXTRA[2]]
    assert "effnet_tf/models/trained.py" in text and text.endswith("--workdir ...")


def test_a_notebook_shows_the_same(monkeypatch):
    def lines():
        with pytest.raises(errors.InputError) as caught:
            exec(compile("deep()", "<cell>", "exec"), {"__name__": "__main__", "deep": deep})
        return caught.value._render_traceback_()

    def deep():
        raise errors.InputError("Wrong.") from KeyError("why")

    monkeypatch.setattr(errors, "_LIBRARIES", errors._LIBRARIES | {"tests"})
    assert lines() == [
        "Traceback (most recent call last):",
        '  File "<cell>", line 1, in <module>',
        "effnet_tf.errors.InputError: Wrong.",
    ]
    monkeypatch.setenv(errors.TRACEBACK, "full")
    assert "KeyError: 'why'" in lines()


def test_what_handlers_get_is_whole():
    try:
        raise errors.SaveError("Not written.") from OSError("disk")
    except errors.SaveError as error:
        assert isinstance(error.__cause__, OSError) and error.__traceback__ is not None
