"""How are command lines shown, run one after the other, and waited for?"""

import pathlib
import re
import shlex
import shutil
import subprocess
import time
import typing
from collections.abc import Sequence

from effnet_tf.errors import InputError

ROOT = pathlib.Path(__file__).resolve().parents[1]
POLL_SECONDS = 30


class Command(typing.NamedTuple):
    """A command line. With `until`, it is repeated until it prints one of these words."""

    words: list[str]
    until: tuple[str, ...] = ()
    hopeless: tuple[str, ...] = ()  # these words end the waiting, too


class CommandFailed(Exception):
    """A command ended badly; the message says which, and what to do."""


def shown(words: Sequence[str]) -> str:
    """Returns a command line for a shell, of at most 100 columns where its words allow."""
    text = ""
    for word in words:
        word = _quoted(word)
        width = len(text.rpartition("\n")[2]) + len(word.partition("\n")[0])
        if not text:
            text = word
        elif width < 97:
            text += f" {word}"
        else:
            text += f" \\\n    {word}"
    return text


def _quoted(word):
    """A word for a shell; of --option=value only the value is quoted."""
    option, _, value = word.partition("=")
    if value and re.fullmatch("--[a-z-]+", option):
        return f"{option}={shlex.quote(value)}"
    return shlex.quote(word)


def script(title: str, commands: Sequence[Command]) -> str:
    """Returns commands as text for a person and a shell, below a comment."""
    lines = [f"# {title}"]
    for command in commands:
        if command.until:
            lines.append(f"# Until it prints {' or '.join(command.until)}:")
        lines.append(shown(command.words))
    return "\n".join(lines)


def run(commands: Sequence[Command], hint: str) -> None:
    """Runs commands one after the other, from the root of the repository.

    Args:
        commands: what to run.
        hint: what to do if one fails.

    Raises:
        InputError: this machine lacks one of the programs; then none is run.
        CommandFailed: one failed, or printed that waiting is hopeless.
    """
    _check_programs(commands)
    for command in commands:
        print(f"$ {shown(command.words)}", flush=True)
        while not _is_done(command, hint):
            time.sleep(POLL_SECONDS)


def _check_programs(commands):
    missing = {command.words[0] for command in commands if not shutil.which(command.words[0])}
    if missing:
        raise InputError(
            f"This machine has no program {' and no '.join(sorted(missing))}; gcloud "
            "is at cloud.google.com/sdk; --dry_run shows the commands."
        )


def _is_done(command, hint):
    """Runs a command; returns whether it need not be run again."""
    output = None
    if command.until:
        output = subprocess.PIPE
    finished = subprocess.run(command.words, cwd=ROOT, text=True, stdout=output)
    word = (finished.stdout or "").strip()
    if word:
        print(word, flush=True)
    if finished.returncode or word in command.hopeless:
        what = f"The command failed with exit code {finished.returncode}"
        if word:
            what = f"The TPU is {word}"
        raise CommandFailed(f"{what}; nothing after that command was run. {hint}")
    return not command.until or word in command.until
