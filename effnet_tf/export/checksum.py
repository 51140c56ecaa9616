"""Is an exported file still what its export wrote?

TFLite, ONNX and HDF5 have no checksums: of randomly damaged files, one in nine gave other
answers in silence. `FILE.report.json`, beside an export, has the SHA-256 of each of its files.
"""

import hashlib
import json
import os

from effnet_tf.errors import InputError, first_line

FIELD = "sha256"  # of the report: {name of the file, or in the SavedModel's directory: hex}
_BLOCK = 1 << 20


def report_path(path: str) -> str:
    """Returns where the report of an exported file lies: beside it."""
    return f"{path.rstrip(os.sep)}.report.json"


def of(path: str) -> dict[str, str]:
    """Returns {name: SHA-256} of a file, or of each file in a directory.

    Args:
        path: a file: its own name is the only key. Or a directory, such as a SavedModel: keys are
            relative to it, with "/".

    Raises:
        OSError: it cannot be read.
    """
    if not os.path.isdir(path):
        return {os.path.basename(path): _hash(path)}
    found = {}
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            if os.path.isfile(file):
                found[os.path.relpath(file, path).replace(os.sep, "/")] = _hash(file)
    return dict(sorted(found.items()))


def check(path: str) -> bool:
    """Compares an exported file with the report beside it.

    Returns:
        Whether there was something to compare with.

    Raises:
        InputError: the file is not the one that was written.
    """
    expected = _expected(path)
    if expected is None:
        return False
    found = of(path)
    if not os.path.isdir(path):  # a copy may have another name
        expected = dict(zip(found, expected.values()))
    changed = [name for name, digest in expected.items() if found.get(name) != digest]
    if changed:
        what = f"'{path}' is"
        if os.path.isdir(path):
            what = f"'{path}': {changed[0]} is"
        raise InputError(
            f"{what} not what its export wrote: its SHA-256 differs from the one in "
            f"'{report_path(path)}'. It is damaged, or was changed: export it again. If it is "
            "another file on purpose, remove that report."
        )
    return True


def _expected(path):
    """Returns what the report beside a file says, or None: there is none, or an older one."""
    report = report_path(path)
    if not os.path.isfile(report):
        return None
    try:
        with open(report, encoding="utf-8") as file:
            content = json.load(file)
        expected = content.get(FIELD)
        if expected is not None and not all(isinstance(each, str) for each in expected.values()):
            raise ValueError(f"its {FIELD} is not a table of texts")
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise InputError(
            f"The report '{report}' is damaged ({first_line(error)}), so that the "
            "file beside it cannot be compared: export it again, or remove "
            "that report."
        ) from error
    return expected


def _hash(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
