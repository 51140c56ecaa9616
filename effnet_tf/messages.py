"""How does the library speak to a person, so that a caller can silence it?

Everything that it chose, loaded or left out is said by the logger "effnet_tf", on standard
output, as a plain line:

    logging.getLogger("effnet_tf").setLevel("WARNING")   # be silent
    logging.getLogger("effnet_tf").handlers.clear()      # and add your own

Not absl's logger: what it says at level INFO nobody sees in a notebook, and a default that was
chosen for the user must be seen.
"""

import logging


class _Plain(logging.Handler):
    """Prints to whatever is standard output at that moment: notebooks and tests replace it."""

    prefix = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a message without level, time and place."""
        lines = [line and f"{self.prefix}{line}" for line in record.getMessage().split("\n")]
        print("\n".join(lines), flush=True)


_handler = _Plain()
log = logging.getLogger("effnet_tf")
if not log.handlers:  # else somebody has said before the import where it shall go
    log.addHandler(_handler)
    log.propagate = False
if log.level == logging.NOTSET:
    log.setLevel(logging.INFO)


def name_this_process(name: str) -> None:
    """Puts a name before every line from now on: of several workers each has its own."""
    _handler.prefix = f"[{name}] "
