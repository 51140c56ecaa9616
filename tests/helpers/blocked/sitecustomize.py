"""Python with some packages missing: with this folder on PYTHONPATH, those named in BLOCKED.

Python imports this file when it starts, so child processes lack the same packages.
"""

import os
import sys


class Finder:
    """A finder for `sys.meta_path` that finds some packages not to be installed."""

    names = frozenset(filter(None, os.environ.get("BLOCKED", "").split(",")))

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        """Raises what Python raises for a package that is nowhere."""
        if name.partition(".")[0] in cls.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Finder)
