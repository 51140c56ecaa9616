"""What `help`, `dir`, completion, a prompt and a notebook show of effnet_tf."""

import pydoc
import re
import rlcompleter

import pytest

import effnet_tf
from effnet_tf import columns
from effnet_tf.variants import CONSTRUCTORS

LINE = re.compile(r"^    (\w+)( and so on)?  +\S.{10,}$")


def test_help_begins_with_a_line_for_every_name():
    found = [LINE.match(line) for line in effnet_tf.__doc__.splitlines()]
    names = [match[1] for match in found if match]
    rest = set(CONSTRUCTORS) - {"EfficientNetB0"}  # "and so on"
    assert sorted(names) == sorted(set(effnet_tf.__all__) - rest)
    shown = pydoc.plain(pydoc.render_doc(effnet_tf.cost))
    assert "Counts" in shown or "Returns" in shown


@pytest.mark.parametrize(
    "package", [effnet_tf, *(getattr(effnet_tf, name) for name in ("data", "export", "train"))]
)
def test_dir_lists_the_public_names(package):
    assert {name for name in dir(package) if not name.startswith("_")} == set(package.__all__)


def test_completion_offers_the_public_names():
    complete = rlcompleter.Completer({"e": effnet_tf}).complete
    found = [complete("e.load_", number) for number in range(4)]
    assert [each and each.rstrip("()") for each in found] == [
        "e.load_model",
        "e.load_run",
        "e.load_weights",
        None,
    ]


def test_variants_show_as_a_table():
    lines = repr(effnet_tf.VARIANTS).splitlines()
    assert lines[0].split()[:3] == ["variant", "pixels", "parameters"]
    assert len(lines) == 1 + len(effnet_tf.VARIANTS)
    assert lines[1].split() == ["b0", "224", "5.3", "M", "0.39", "G", "78.8", "%", "noisy-student"]
    html = effnet_tf.VARIANTS._repr_html_()
    assert html.count("<tr>") == len(lines) and "<td>5.3 M</td>" in html


def test_recipes_show_as_a_table():
    lines = repr(effnet_tf.RECIPES).splitlines()
    assert len(lines) == 1 + len(effnet_tf.RECIPES)
    (digits,) = [line.split() for line in lines if line.startswith("digits")]
    assert digits == ["digits", "b0-phi-4", "32", "digits", "32", "16", "rmsprop", "none"]


def test_a_recipe_shows_what_is_not_the_papers():
    html = effnet_tf.RECIPES["digits"]._repr_html_()
    changed, _, same = html.partition("<details>")
    assert ">epochs</td><td>16</td><td>350</td></tr>" in changed
    assert ">momentum</td><td>0.9</td></tr>" in same and "epochs<" not in same.split("warmup")[0]


def test_what_is_shown_cannot_write_html():
    shown = columns.Shown({"<b>": 1}, lambda each: [["name"], *([name] for name in each)])
    assert "&lt;b&gt;" in shown._repr_html_() and repr(shown) == "name\n<b>"


def test_a_plain_one_is_a_dict():
    plain = columns.Shown({"a": 1})
    assert repr(plain) == "{'a': 1}" and plain._repr_html_() is None
