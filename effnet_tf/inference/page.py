"""How does an evaluation become one page that opens anywhere, its pictures inside?"""

import base64
import html
import os
from collections.abc import Sequence

from effnet_tf import storage
from effnet_tf.errors import printable
from effnet_tf.inference import multi_telling, telling
from effnet_tf.inference.evaluating import Evaluation, MultiEvaluation

_MOST_BYTES = 1 << 28  # of a picture
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; margin: 1em 0 } img { max-width: 100% }
td, th { padding: .15em .8em; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left }
"""
_TITLES = {
    "confusion.png": "Which class is taken for which",
    "mistakes.png": "The surest mistakes",
    "calibration.png": "How sure, and how often right",
    "classes.png": "Average precision and F1 of the classes",
}


def of(evaluation: Evaluation | MultiEvaluation, folder: str, drawn: Sequence[str]) -> str:
    """Returns report.html.

    Args:
        evaluation: what is reported.
        folder: where its pictures lie.
        drawn: their names.
    """
    title = f"{evaluation.subject.name}, evaluated on the {evaluation.source.name}"
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{_text(title)}</title><style>{_STYLE}</style>",
        f"<h1>{_text(title)}</h1>",
        *(f"<p>{_text(note)}</p>" for note in evaluation.matching.notes),
        *_numbers(evaluation),
    ]
    for name in drawn:
        parts += [f"<h2>{_TITLES[name]}</h2>", _image(os.path.join(folder, name))]
    parts += _classes(evaluation)
    bad = [[entry["key"], entry["reason"]] for entry in evaluation.source.bad.entries]
    if bad:
        parts += ["<h2>Bad images</h2>", _table([["image", "why it cannot be used"], *bad])]
    return "\n".join([*parts, "</html>", ""])


def _numbers(evaluation):
    """The table of all numbers, and what has to be known of them."""
    if isinstance(evaluation, MultiEvaluation):
        texts = [multi_telling.HOW, multi_telling.CHOSEN, multi_telling.counts(evaluation)]
        rows = multi_telling.number_rows(evaluation.summary)
    else:
        texts = [telling.HOW, telling.counts(evaluation)]
        rows = telling.number_rows(evaluation.summary)
    return [_table(rows), f"<p>{_text(' '.join(texts))}</p>"]


def _classes(evaluation):
    """The table of the classes, and what is taken for what."""
    if isinstance(evaluation, MultiEvaluation):
        return ["<h2>Classes</h2>", _table(multi_telling.class_rows(evaluation))]
    return [
        *("<h2>Confusions</h2>", _table(telling.confusion_rows(evaluation))),
        *("<h2>Classes</h2>", _table(telling.class_rows(evaluation))),
    ]


def _table(rows):
    """A table; the first row is its header."""
    lines = ["<table>"]
    for number, row in enumerate(rows):
        kind = "td"
        if not number:
            kind = "th"
        cells = "".join(f"<{kind}>{_text(cell)}</{kind}>" for cell in row)
        lines.append(f"<tr>{cells}</tr>")
    return "\n".join([*lines, "</table>"])


def _text(text):
    return html.escape(printable(text))


def _image(path):
    content = base64.b64encode(storage.read_bytes(path, _MOST_BYTES)).decode("ascii")
    return f"<img alt='{_text(os.path.basename(path))}' src='data:image/png;base64,{content}'>"
