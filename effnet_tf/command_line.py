"""How does a program read its command line, and what does it say of a mistake in it?

One line, with the nearest option or choice, and exit code 2; the options are listed by --help.

    parser = command_line.parser("python -m export", __doc__)   # absl's own flags, too
"""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from effnet_tf.called import as_called
from effnet_tf.errors import BAD_INPUT, nearest, printable

# With these absl itself decides which options are known.
_OF_ABSL = ("--undefok", "--flagfile")


class OneLine(argparse.ArgumentParser):
    """A parser that says in one line what is wrong; a base for others of argparse, too."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2 and a line, without listing all options."""
        self.exit(BAD_INPUT, f"{self.prog}: error: {printable(message)}\n")

    def parse_known_args(  # type: ignore[override]  # argparse's own has four overloads
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """As argparse does it, but for a word that nothing takes, which is an error at once.

        An option that does not exist is looked for first: what argparse says of the values that
        are then missing would mislead.
        """
        given = list(args or ())
        if self._subparsers is None and not any(each.startswith(_OF_ABSL) for each in given):
            self._refuse(each for each in _options(given) if not self._is_known(each))
        namespace, unknown = super().parse_known_args(args, namespace)
        self._refuse(unknown)
        return namespace, unknown

    def _is_known(self, option):
        return any(each.startswith(option) for each in self._option_string_actions)

    def _refuse(self, words: Iterable[str]) -> None:
        for word in words:
            name = word.partition("=")[0]
            if not name.startswith("-"):
                self.error(f"nothing takes '{word}'; --help shows what is taken")
            shown = self._shown_options()
            self.error(f"there is no option {name}. {nearest(name, shown, 0.6, 1)}")

    def _shown_options(self):
        """The options that --help lists."""
        return [
            option
            for option, action in self._option_string_actions.items()
            if action.help != argparse.SUPPRESS and option.startswith("--")
        ]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        if isinstance(action.choices, range):
            first, last = action.choices[0], action.choices[-1]
            raise argparse.ArgumentError(action, f"{value} is not between {first} and {last}")
        known = map(str, action.choices)
        raise argparse.ArgumentError(
            action, f"there is no '{value}'. {nearest(value, known, most=1)}"
        )


def _options(words):
    """Yields the names of the long options among the words of a command line."""
    for word in words:
        if word == "--":
            return
        if word.startswith("--"):
            yield word.partition("=")[0]


def parser(command: str, description: str | None) -> argparse.ArgumentParser:
    """Returns a parser that takes absl's own flags, too, as `programs.run` needs it.

    Args:
        command: how the README calls the program.
        description: what --help says first, in the README's commands.
    """
    from absl.flags import argparse_flags

    class Parser(OneLine, argparse_flags.ArgumentParser):
        """Both; its sub-parsers are of the same kind."""

        def __init__(self, **settings):
            super().__init__(**settings)
            self.add_argument(
                "--verbose",
                action="store_true",
                default=argparse.SUPPRESS,  # else a sub-parser would take back what was said before
                help="show what TensorFlow's own log says, too",
            )

    return Parser(
        prog=as_called(command).strip(),
        description=as_called(description or ""),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
