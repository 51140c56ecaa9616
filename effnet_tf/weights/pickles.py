"""What does a pickle hold, told without running anything of it?

A pickle is a program for a small stack machine, and may call any function of Python by its name.
This machine looks no name up, and calls nothing but the functions it was given; in place of
whatever else a pickle would call stands an `Inert`, which bears the name. Standard library only.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from typing import Any

from effnet_tf.errors import InputError, shown
from effnet_tf.weights import pickle_stack

_MOST = 1 << 21  # instructions; weights and optimiser of b7 take some 200,000
_LONGEST_NAME = 1000  # letters

# Nothing is called here, so these tables protect nobody: but a file that names one of these is an
# attack on whoever calls it, and the numbers of an attacker deserve no trust.
_ATTACKS = frozenset(
    "code codeop commands ctypes imp importlib marshal multiprocessing nt os pdb pip posix pty "
    "runpy shutil socket subprocess sys webbrowser".split()
)
_ATTACKING_BUILTINS = frozenset(
    "__import__ apply breakpoint compile eval exec execfile globals input locals open vars".split()
)
_BUILTINS = ("builtins", "__builtin__")


class Global:
    """A function or class that a pickle names; nobody looked for it.

    Attributes:
        name: module and name, with a dot between them.
    """

    def __init__(self, name: str):
        self.name = name


class Machine(pickle_stack.Stack):
    """Runs pickles.

    Attributes:
        unknown: names of what the pickles would have called, each once, in their order.
    """

    def __init__(
        self, path: str, functions: Mapping[str, Callable], persistent: Callable[[object], object]
    ):
        """Makes a machine.

        Args:
            path: of the file, for messages.
            functions: name -> what is called in the place of the function of that name. Its
                arguments are whatever the file says.
            persistent: returns what a pickle keeps elsewhere, by its identifier.
        """
        super().__init__()
        self.unknown: dict[str, None] = {}
        self._path, self._functions, self._persistent = path, functions, persistent
        self._count = 0

    def run(self, stream: io.BytesIO) -> object:
        """Returns what the next pickle of a stream holds; the stream stands behind it then.

        Lists, tuples, numbers, strings and bytes are what they are; of a dictionary there are the
        items with a str as key.

        Raises:
            InputError: the pickle was made to attack whoever opens it, or is too long.
            ValueError: it is damaged.
        """
        self.clear()
        try:
            return self._run(stream)
        except (LookupError, TypeError, UnicodeError) as error:
            raise ValueError(f"its pickle is wrong before byte {stream.tell():,}") from error

    def _run(self, stream):
        for opcode, argument, _ in pickletools.genops(stream):
            self._count_steps(1)
            if opcode.name == "STOP":
                return self.pop()
            self._step(opcode.name, argument)
        raise ValueError("its pickle has no end")

    def _count_steps(self, count):
        self._count += count
        if self._count > _MOST:
            raise InputError(
                f"'{self._path}' describes its objects in more than {_MOST:,} steps, which no file "
                "of weights needs, so it was not read."
            )

    def _step(self, name, argument):
        if name in pickle_stack.ARGUMENT:
            self.push(argument)
        elif name in pickle_stack.CONSTANTS:
            self.push(pickle_stack.CONSTANTS[name])
        elif name in pickle_stack.TUPLES:
            self._tuple(pickle_stack.TUPLES[name])
        elif name in pickle_stack.STEPS:
            pickle_stack.STEPS[name](self, argument)
        elif name in _CALLS:
            _CALLS[name](self, argument)
        else:
            raise ValueError(f"its pickle uses {name}, which PyTorch never writes")

    # --- what a pickle would call --------------------------------------------------------------

    def _global(self, argument):
        self.push(self._find(*argument.split(" ", 1)))

    def _stack_global(self, argument):
        name = self.pop()
        self.push(self._find(self.pop(), name))

    def _find(self, module, name):
        if not (isinstance(module, str) and isinstance(name, str)):
            raise TypeError
        if len(module) + len(name) > _LONGEST_NAME:
            raise ValueError("its pickle names something too long")
        found = f"{module}.{name}"
        attacks = module.partition(".")[0] in _ATTACKS
        if attacks or (module in _BUILTINS and name.partition(".")[0] in _ATTACKING_BUILTINS):
            raise InputError(
                f"'{self._path}' would make pickle call {shown(found)}: it was made to attack "
                "whoever opens it, so it was not read."
            )
        return Global(found)

    def _call(self, function, arguments):
        """Pushes what a function returns, or what stands in its place."""
        if not isinstance(function, (Global, pickle_stack.Inert)) or type(arguments) is not tuple:
            raise TypeError
        name = function.name  # or of the call that would have made it
        self._count_steps(sum(map(_length, (arguments, *arguments))))
        if name in self._functions:
            self.push(self._functions[name](*arguments))
        else:
            self.unknown[name] = None
            self.push(pickle_stack.Inert(name))

    def _reduce(self, argument):
        arguments = self.pop()
        self._call(self.pop(), arguments)

    def _new_object_ex(self, argument):
        self.pop()  # arguments by keyword
        self._reduce(argument)

    def _build(self, argument):
        """Gives an object its state; that of a dictionary itself does not matter."""
        state = self.pop()
        value = self.top()
        if isinstance(value, pickle_stack.Inert):
            if isinstance(state, dict) and not value.entries:
                value.entries = state
        elif not isinstance(value, dict):
            raise TypeError

    def _persistent_id(self, argument):
        self.push(self._persistent(self.pop()))


def _length(value):
    """How much a function may copy of an argument, which a pickle can repeat in two bytes."""
    if isinstance(value, (list, tuple, dict)):
        return len(value)
    return 0


_CALLS: dict[str, Callable[[Machine, Any], None]] = {
    "GLOBAL": Machine._global,
    "STACK_GLOBAL": Machine._stack_global,
    "REDUCE": Machine._reduce,
    "NEWOBJ": Machine._reduce,
    "NEWOBJ_EX": Machine._new_object_ex,
    "BUILD": Machine._build,
    "BINPERSID": Machine._persistent_id,
}
