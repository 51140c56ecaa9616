"""How do two programs take turns here, and what is written of them?

Beside the programs that import it, which are run as `python benchmarks/PROGRAM.py`. A ratio is
ours divided by theirs in the same round: what else a machine does then slows both.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PICTURES = HERE.parent / "docs" / "images"
THEIRS = "keras.applications"
PACKAGES = "tensorflow tensorflow-cpu keras keras-cv numpy scikit-learn torch timm".split()


def parser(description):
    """Returns the parser of a program's command line, which shows its docstring as it is."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def turns(names, number):
    """Returns who is measured when in round `number`: every other one backwards."""
    return list(names)[:: -1 if number % 2 else 1]


def cpu_seconds(call):
    """Returns (CPU seconds of this process, user and system, in a call; what it returns)."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def apart(*arguments, timeout=None):
    """Runs a Python program in a process of its own.

    Args:
        *arguments: of Python, the program first.
        timeout: seconds after which it is ended; None: never.

    Returns:
        What the last line that it prints says, as JSON. Where it fails, this program ends with
        what it said.

    Raises:
        subprocess.TimeoutExpired: it was ended.
    """
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, arguments))} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])  # Keras prints before


def spread(values):
    """Returns the median of numbers, and the quartiles around it; of fewer than four, the ends."""
    values = sorted(values)
    low, high = values[0], values[-1]
    if len(values) > 3:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    found = {"median": statistics.median(values), "low": low, "high": high}
    return {name: round(value, 4) for name, value in found.items()}


def compared(ours, theirs):
    """Returns medians of both sides' figures, and the `spread` of their ratios round by round."""
    return {
        "ours": round(statistics.median(ours), 5),
        "theirs": round(statistics.median(theirs), 5),
        "ratio": spread([a / b for a, b in zip(ours, theirs)]),
    }


def machine():
    """Returns what figures depend on, beside the code."""
    versions = {
        distribution.name: distribution.version
        for distribution in importlib.metadata.distributions()
        if distribution.name.lower().replace("_", "-") in PACKAGES
    }
    cpu = platform.processor()
    if os.path.exists("/proc/cpuinfo"):
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        cpu = models[0] if models else cpu
    return {"versions": versions, "cpu": cpu, "cores": os.cpu_count()}


def command(name):
    """Returns how a program was called."""
    return " ".join(["python", f"benchmarks/{name}.py", *sys.argv[1:]])


def save(name, rows, **settings):
    """Writes NAME.json beside this file: the command, the machine, `settings` and rows."""
    results = {"command": command(name), **machine(), **settings, "rows": rows}
    (HERE / f"{name}.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def picture(name, title, ratios):
    """Draws ratios to theirs as bars with their quartiles: docs/images/NAME.png.

    Args:
        name: of the picture, without ending.
        title: above it.
        ratios: {label of a bar: a `spread`}, from the top.
    """
    from effnet_tf import extras

    figure_of = extras.load("matplotlib.figure", "The picture of a benchmark").Figure
    figure = figure_of(figsize=(8, 1.2 + 0.32 * len(ratios)), layout="constrained")
    axes = figure.subplots()
    medians = [each["median"] for each in ratios.values()]
    whiskers = [
        [each["median"] - each["low"] for each in ratios.values()],
        [each["high"] - each["median"] for each in ratios.values()],
    ]
    colours = ["tab:green" if median <= 1 else "tab:orange" for median in medians]
    axes.barh(list(ratios), medians, xerr=whiskers, color=colours, ecolor="0.3", capsize=2)
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("ratio to theirs (median, quartiles)")
    axes.set_title(title)
    figure.savefig(PICTURES / f"{name}.png", dpi=110)
