"""Does everything that effnet_tf can do, one verb each.

    python -m effnet_tf              # which verbs there are
    python -m effnet_tf train --help # what one of them takes

The programs of the repository are behind it, too: `train` is train_tpu.py, `export` is
`python -m export`. A verb's module is imported once it has been named, so that the list of them
takes no longer than Python itself.
"""

import dataclasses
import importlib
import importlib.util
import sys
from typing import NoReturn

from effnet_tf import __version__, programs
from effnet_tf.called import as_called
from effnet_tf.errors import BAD_INPUT, nearest, printable

NAME = "python -m effnet_tf"


@dataclasses.dataclass(frozen=True)
class Verb:
    """What one verb does.

    Attributes:
        about: what it is for, a line.
        module: whose `parse` and `main` do it.
        words: that its parser wants before those of the user.
    """

    about: str
    module: str
    words: tuple[str, ...] = ()


# An installation calls the folder export/ effnet_export.
_EXPORT = "export"
VERBS = {
    "models": Verb("list the networks: what each costs and reaches", "effnet_tf.catalog.program"),
    "train": Verb("train a network, or resume a run", "train_tpu"),
    "evaluate": Verb(
        "say how often a network is right, and about what", "effnet_tf.inference.evaluate_program"
    ),
    "predict": Verb(
        "say what a network sees in image files", "effnet_tf.inference.predict_program"
    ),
    "explain": Verb(
        "draw which parts of images speak for a class", "effnet_tf.inference.explain_program"
    ),
    "embed": Verb(
        "write features of images; find those most alike", "effnet_tf.inference.embed_program"
    ),
    "export": Verb("write TFLite, SavedModel and ONNX files, checked; run them", _EXPORT),
    "data": Verb("look at a data set, or prepare a smaller copy", "effnet_tf.data.__main__"),
    "plan": Verb("find the network for a budget", "effnet_tf.scaling.__main__", ("plan",)),
    "search": Verb("search an architecture, or how to scale one", "effnet_tf.search.__main__"),
    "measure": Verb(
        "time operators on a device, for plan", "effnet_tf.scaling.__main__", ("measure",)
    ),
}


def described() -> str:
    """Returns the verbs with a line each."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {verb.about}" for name, verb in VERBS.items()]
    name = as_called(f"{NAME} ").strip()
    return "\n".join(
        [
            f"usage: {name} VERB [options]",
            "",
            *lines,
            "",
            f"{name} VERB --help lists the options of one; --version says which effnet_tf this is.",
        ]
    )


def console() -> NoReturn:
    """The command `effnet`."""
    word = "".join(sys.argv[1:2])
    if word in VERBS:
        _run(VERBS[word])
    programs.begin()
    programs.leave(_answer(word))


def _answer(word):
    """Says what there is, or that there is no such verb; returns the exit code."""
    if word in ("-h", "--help", "help"):
        print(described())
        return 0
    if word == "--version":
        print(__version__)
        return 0
    if not word:
        print(described(), file=sys.stderr)
        return BAD_INPUT
    name = as_called(f"{NAME} ").strip()
    print(
        f"{name}: error: there is no verb '{printable(word)}'. {nearest(word, VERBS, most=1)}",
        file=sys.stderr,
    )
    return BAD_INPUT


def _run(verb: Verb) -> NoReturn:
    programs.begin()
    with programs.nothing_to_undo():
        module = importlib.import_module(_place(verb.module))

    def parse(argv):
        return module.parse([argv[0], *verb.words, *argv[2:]])

    programs.run(module.main, parse)


def _place(module):
    """The name that a module has here."""
    if module != _EXPORT:
        return module
    if importlib.util.find_spec("effnet_export"):
        return "effnet_export.__main__"
    return "export.__main__"


if __name__ == "__main__":
    console()
