"""How does a device become a table of latencies?

Operators are timed in TFLite files of their own: those of the base, and of the base at some other
widths and sides, so that plans lie between what was measured; and all of such a network's in one
file, which tells how much longer they take together. Here TensorFlow's interpreter runs them;
elsewhere LiteRT's benchmark does, and its logs are read: tools/litert_operators.md.
"""

import argparse
import functools
import json
import operator
import os
import platform
import re

from effnet_tf import extras, local_files, progress
from effnet_tf.errors import InputError, first_line
from effnet_tf.scaling.latency import DTYPES, MOST_BYTES, Table
from effnet_tf.scaling.nets import Nets
from effnet_tf.scaling.operators import Operator, operators_of_network
from effnet_tf.scaling.strategies import Factors
from effnet_tf.variants import Network, Variant, find_variant, resolve

# Width and side of the base whose operators are measured, as factors. What lies between differs
# from one of them by less than a factor of 2 in channels or pixels.
SIZES = ((1.0, 1.0), (0.5, 0.5), (1.5, 0.75), (0.75, 1.5), (1.25, 0.3))
INDEX = "operators.json"
_LEAST = Operator("ADD", 1, 1, 1, 1, 1)
_AVERAGE = re.compile(r"Inference \(avg\): ([\d.e+-]+)")  # of LiteRT's benchmark, in microseconds


def wanted_networks(base: Variant) -> dict[str, Network]:
    """Returns the networks whose operators are measured for a base, by the names of their files."""
    nets = Nets(base, 1, 1, "float32")
    rows = [nets.row(Factors(1.0, width, side)) for width, side in SIZES]
    return {f"network_{number}": resolve(row) for number, row in enumerate(rows)}


def wanted_operators(base: Variant) -> list[Operator]:
    """Returns the operators to measure for a base, each once."""
    found: dict[Operator, None] = {}
    for network in wanted_networks(base).values():
        found.update(dict.fromkeys(operators_of_network(network)))
    return list(found)


def measure(options: argparse.Namespace) -> None:
    """Runs the program `measure`."""
    if options.threads < 1:
        raise InputError(f"threads is {options.threads}; it must be at least 1.")
    base = find_variant(options.base)
    if options.write_operators:
        count = write_operators(base, options.write_operators)
        print(f"Wrote {count} files: {options.write_operators}")
        return
    device = options.device or f"{platform.machine()}, {os.cpu_count()} cores"
    if options.logs:
        table = read_logs(base, options.logs, device, options.threads)
    else:
        table = time_operators(base, device, options.threads)
    local_files.write(options.out, table.to_json().encode("utf-8"))
    print(
        f"Wrote {options.out}: {len(table.milliseconds_of)} operators on {device}, {table.threads} "
        f"thread(s), {table.dtype}. By it, {base.name} takes {table.of_network(resolve(base)):.2f} "
        f"ms. In networks operators take {table.context:.2f} times as long as alone, and "
        f"{table.fetching:.3f} ms per million weights besides."
    )


def time_operators(base: Variant, device: str, threads: int = 1) -> Table:
    """Times the operators that a base needs on this machine.

    Args:
        base: the row.
        device: what to call this machine.
        threads: of each operator.

    Raises:
        MissingPackage: TensorFlow is not installed.
    """
    files = _files()
    # What it takes to call the interpreter at all, which a network does once.
    call = files.milliseconds_of(files.file_of(_LEAST), threads)
    wanted, times = wanted_operators(base), {}
    with progress.bar("Timing operators", len(wanted), unit="operators") as bar:
        for each in wanted:
            whole = files.milliseconds_of(files.file_of(each), threads)
            times[each] = max(whole - call, whole / 10)
            bar.update(1)
    wholes = {
        name: files.milliseconds_of(_whole(files, network), threads)
        for name, network in wanted_networks(base).items()
    }
    return _table(base, device, threads, times, wholes)


def _whole(files, network):
    return files.file_of_all(operators_of_network(network), network.side)


def _table(base, device, threads, times, wholes):
    """Returns the table of operators alone, and of what they take together in whole networks."""
    rows = []
    for name, network in wanted_networks(base).items():
        operators = list(operators_of_network(network))
        alone = sum(times[each] for each in operators)
        weights = sum(each.weights for each in operators) / 1e6
        rows.append((alone / wholes[name], weights / wholes[name]))
    return Table(device, threads, DTYPES[0], times, *_fitted(rows))


def _fitted(rows):
    """Returns a, b >= 0 for which a * x + b * y is nearest to 1 over rows of (x, y)."""
    xs, ys = zip(*rows)
    xx, xy, yy = _product(xs, xs), _product(xs, ys), _product(ys, ys)
    determinant = xx * yy - xy * xy
    if determinant > 1e-9 * xx * yy:
        a = (sum(xs) * yy - sum(ys) * xy) / determinant
        b = (sum(ys) * xx - sum(xs) * xy) / determinant
        if a > 0 and b >= 0:
            return a, b
    return sum(xs) / xx, 0.0


def _product(xs, ys):
    return sum(map(operator.mul, xs, ys))


def write_operators(base: Variant, folder: str) -> int:
    """Writes a TFLite file of each operator that a base needs, and of each whole network.

    Args:
        base: the row.
        folder: where to; it is made.

    Returns:
        How many files there are.

    Raises:
        MissingPackage: TensorFlow is not installed.
        SaveError: something cannot be written.
    """
    files, place = _files(), functools.partial(os.path.join, folder)
    os.makedirs(folder, exist_ok=True)
    rows = {}
    for number, each in enumerate(wanted_operators(base)):
        name = f"operator_{number:04}"
        local_files.write(place(f"{name}.tflite"), files.file_of(each))
        rows[name] = each._asdict()
    networks = wanted_networks(base)
    for name, network in networks.items():
        local_files.write(place(f"{name}.tflite"), _whole(files, network))
    local_files.write(place(INDEX), json.dumps(rows, indent=1).encode("utf-8"))
    return len(rows) + len(networks)


def read_logs(base: Variant, folder: str, device: str, threads: int = 1) -> Table:
    """Returns the table by what LiteRT's benchmark said of the files in a folder.

    Args:
        base: the row that they were written for.
        folder: of `write_operators`, in which NAME.log stands beside NAME.tflite.
        device: where they were timed.
        threads: that the benchmark was given.

    Raises:
        InputError: it is none, is of another base, or a log is missing or says no average.
    """
    path = os.path.join(folder, INDEX)
    try:
        rows = json.loads(local_files.read(path, MOST_BYTES))
        operators = {name: Operator(**row) for name, row in rows.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"'{path}' cannot be read ({first_line(error)}): --logs takes a folder of "
            "--write_operators."
        ) from error
    if set(operators.values()) != set(wanted_operators(base)):
        raise InputError(f"The files in '{folder}' were written for another base than {base.name}.")
    times = {
        each: _average(os.path.join(folder, f"{name}.log")) for name, each in operators.items()
    }
    wholes = {name: _average(os.path.join(folder, f"{name}.log")) for name in wanted_networks(base)}
    return _table(base, device, threads, times, wholes)


def _average(path):
    try:
        text = local_files.read(path, MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"The log '{path}' cannot be read: {first_line(error)}.") from error
    found = _AVERAGE.findall(text)
    if not found:
        raise InputError(
            f"The log '{path}' says no 'Inference (avg)': did the benchmark of its file fail?"
        )
    return float(found[-1]) / 1e3


def _files():
    extras.require("Making TFLite files", "tensorflow", "keras")
    with progress.starting():
        from effnet_tf.export.tflite import operator_files

    return operator_files
