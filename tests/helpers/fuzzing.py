"""Reads damaged weights files in a process of its own, in which they can do no harm unseen.

    python -m tests.helpers.fuzzing COUNT FILE ...

Each file is read COUNT times, each time damaged otherwise. Prints JSON: for each file how often
the outcome was a sentence, and how often values; "memory" is what all of it took, in MiB. The
process dies of a read that takes a minute, or of an exception that is no sentence; and what no
reader of numbers needs (a command, a connection, an import, a file to write) ends it at once.
"""

import io
import json
import os
import re
import resource
import signal
import sys
import zipfile

import numpy as np

from effnet_tf.errors import InputError
from effnet_tf.messages import log
from effnet_tf.weights import claims, contents, reading

MINUTE = 60
# Audit events of Python that reading raises none of once all is imported.
FORBIDDEN = (
    "compile",
    "ctypes",
    "exec",
    "import",
    "marshal",
    "os.exec",
    "os.fork",
    "os.kill",
    "os.posix_spawn",
    "os.putenv",
    "os.remove",
    "os.rename",
    "os.system",
    "pickle",
    "shutil",
    "socket",
    "subprocess",
)
NUMBER = re.compile(rb"\d+")
INSTEAD = (
    *(b"0", b"-1", b"1.5", b"1e400", b"NaN", b"true", b"null", b"[]", b"{}", b'"a"', b"9" * 5000),
    *(str(1 << power).encode() for power in (8, 31, 32, 40, 63, 64)),
)


# --- damage ---------------------------------------------------------------------------------------


def damaged(content, random):
    """A file's bytes, changed somewhere; those inside an archive so that its sums are right."""
    if content.startswith(claims.ZIP) and random.random() < 0.8:
        return _with_damaged_entry(content, random)
    if content[8:9] == b"{" and random.random() < 0.5:
        return _with_another_number(content, random)
    return _changed(content, random)


def _changed(content, random):
    begin, end = sorted(random.integers(0, len(content) + 1, 2))
    part = slice(begin, min(end, begin + int(random.choice([1, 8, 1000]))))
    changes = (
        lambda: _overwritten(content, random),
        lambda: content[:begin],
        lambda: content[: part.start] + content[part.stop :],
        lambda: content[: part.stop] + content[part.start :],
        lambda: content[: part.start] + random.bytes(part.stop - part.start) + content[part.stop :],
    )
    return changes[random.choice(len(changes), p=[0.6, 0.1, 0.1, 0.1, 0.1])]()


def _overwritten(content, random):
    """Some bytes are others; most of them near the beginning, where it is said what follows."""
    found = bytearray(content)
    reach = int(random.choice([200, 2000, len(found)]))
    for place in random.integers(0, min(reach, len(found)), random.integers(1, 6)):
        found[place] = random.integers(256)
    return bytes(found)


def _with_damaged_entry(content, random):
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(written, "w") as new:
        names = old.namelist()
        chosen = random.choice([0, random.integers(len(names))])  # the first is the pickle
        for number, name in enumerate(names):
            entry = old.read(name)
            if number == chosen and entry:
                entry = _changed(entry, random)
            new.writestr(name, entry)
    return written.getvalue()


def _with_another_number(content, random):
    """A number in the header of a .safetensors file is another, or none; its length is right."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = content[8:end]
    places = list(NUMBER.finditer(header))
    place = places[random.integers(len(places))]
    instead = INSTEAD[random.integers(len(INSTEAD))]
    header = header[: place.start()] + instead + header[place.end() :]
    return len(header).to_bytes(8, "little") + header + content[end:]


# --- reading --------------------------------------------------------------------------------------


def _audit(event, arguments):
    """Ends the process where Python is about to do what no reader of numbers needs."""
    writes = event == "open" and set(str(arguments[1])) & set("wax+")
    if event.startswith(FORBIDDEN) or writes:
        sys.stderr.write(f"reading did {event} {arguments}\n")
        sys.stderr.flush()
        os._exit(99)


def outcome(path):
    """ "values", or "sentence" if the file was refused as it should be."""
    target = contents.Target([], {}, 1000)
    signal.alarm(MINUTE)
    try:
        found = reading.read(path, True, target)
    except InputError as error:
        sentence = str(error)
        assert sentence.isprintable() and len(sentence) < 1000, sentence
        return "sentence"
    finally:
        signal.alarm(0)
    assert all(isinstance(value, np.ndarray) for _, value in found.values.values())
    return "values"


def read_all(content, count, file):
    """Reads a file, damaged otherwise each time; returns {outcome: how often}."""
    found, random = {"values": 0, "sentence": 0}, np.random.default_rng(len(content))
    for number in range(count):
        file.seek(0)
        file.truncate()
        file.write(damaged(content, random))
        file.flush()
        try:
            found[outcome(file.name)] += 1
        except BaseException as error:  # its traceback would import something
            sys.stderr.write(f"damage {number}, kept in {file.name}: {error!r}\n")
            sys.stderr.flush()
            os._exit(1)
    return found


def main(count, paths):
    log.setLevel("ERROR")
    contents_of = {}
    for path in paths:
        with open(path, "rb") as file:
            contents_of[path] = file.read()
        outcome(path)  # once all right: it imports and opens what it needs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    file = open(f"{paths[0]}.damaged", "wb")
    sys.addaudithook(_audit)
    found = {path: read_all(content, count, file) for path, content in contents_of.items()}
    found["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    print("\n" + json.dumps(found), flush=True)
    os._exit(0)  # the end of a process does much that the hook forbids


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
