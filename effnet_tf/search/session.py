"""How does the program search, from its options to what was found?"""

import argparse
import dataclasses
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from effnet_tf import extras, local_files, programs, progress
from effnet_tf.errors import InputError
from effnet_tf.scaling.targets import parse_amount, shown
from effnet_tf.search import charts, confirming, results, studies, trials
from effnet_tf.search.rewards import LATENCY, PARETO, Objective
from effnet_tf.search.searching import Search
from effnet_tf.search.settings import Settings
from effnet_tf.search.space import Space
from effnet_tf.search.studies import Finished, Study
from effnet_tf.variants import Variant, cost, find_variant, to_json
from effnet_tf.variants.network import check_count

# In the folder of a search.
JOURNAL, RESULTS, TABLE, PICTURE = "study.journal", "results", "trials.csv", "search.png"
CONFIRMED = "confirmed.json"
# Of the options that nobody gave; they are printed.
DEFAULTS = {
    "objective": "soft",
    "cost": "multiply_adds",
    "sampler": "tpe",
    "seed": 0,
    "trials": 100,
    "seeds": 1,
    "processes": 1,
    "epochs": 30,
    "batch_size": 64,
    "learning_rate": 0.1,
}
TRAINING = ("epochs", "batch_size", "learning_rate")


def open_storage(options: argparse.Namespace, must_exist: bool = False) -> Any:
    """Opens what the workers share: by default a journal in the folder.

    Raises:
        InputError: it cannot be opened; or must exist, and is a file that does not.
    """
    place = options.storage or os.path.join(options.workdir, JOURNAL)
    if must_exist and "://" not in place and not os.path.exists(place):
        raise InputError(f"There is no search in '{place}' yet: run one first.")
    return studies.open_storage(place)


def search(options: argparse.Namespace) -> None:
    """Searches, and says and draws what was found."""
    extras.require(studies.PURPOSE, "tensorflow", "keras", "optuna")
    _choose(options)
    base = find_variant(options.base)
    storage = open_storage(options)
    programs.on_interruption(programs.goes_on_in(options.workdir))
    server = trials.fork_server()
    with tempfile.TemporaryDirectory() as folder:
        place = {"data_dir": options.data_dir, "holdout": options.holdout}
        path = os.path.join(folder, "images.npz")
        with progress.elapsed("Reading the images ..."):
            images = trials.prepare(server, path, options.dataset, base.resolution, **place)
        _say_parts(images.about)
        base = dataclasses.replace(base, num_classes=images.about["classes"])
        evaluated = _trials(server, images, options, options.seeds)
        objective = _objective(base, evaluated, options)
        study = _study(storage, base, objective, images, options)
        space = Space(base)
        print(f"The space has {space.size():.2g} networks, by {len(space.options())} choices.")
        Search(study, space, objective, evaluated, costs_of, options.cost, options.processes).run(
            options.trials
        )
        report(study.finished(), objective, options)
        if options.confirm:
            again = _trials(server, images, options, options.confirm_seeds)
            _confirm(study.finished(), space, again, options)


def _choose(options):
    """Fills in the options that nobody gave, and says which."""
    if "://" in options.workdir:
        raise InputError(
            f"--workdir '{options.workdir}' must be a folder of this machine, or of a shared disk."
        )
    for name in ("base", "dataset"):
        if not getattr(options, name):
            raise InputError(f"Give --{name}: what to search with (see --help).")
    chosen = [name for name in DEFAULTS if getattr(options, name) is None]
    for name in chosen:
        setattr(options, name, DEFAULTS[name])
    if chosen:
        print("Chosen for you: " + ", ".join(f"--{name} {DEFAULTS[name]}" for name in chosen) + ".")
    Settings(**_training(options))
    for name in ("trials", "seeds", "processes", "confirm", "confirm_seeds"):
        if getattr(options, name) is not None:
            check_count(f"--{name}", getattr(options, name))


def _say_parts(about):
    part = about["train"] // trials.PARTS
    print(
        f"{about['name']}: trials train on {about['train'] - part:,} images and are judged by "
        f"{part:,}; {about['test']:,} are kept aside, for --confirm."
    )


def _training(options):
    return {name: getattr(options, name) for name in TRAINING}


def _trials(server, images, options, seeds):
    folder, is_timed = os.path.join(options.workdir, RESULTS), options.cost == LATENCY
    return trials.Trials(folder, images, _training(options), seeds, is_timed, server)


def costs_of(variant: Variant, result: Mapping[str, Any]) -> dict[str, float]:
    """Returns what a network costs, by the names of `COSTS`.

    Args:
        variant: the network.
        result: of its trial; it has the latency, if that was measured.
    """
    counted = cost(variant)
    found: dict[str, float] = {
        "multiply_adds": counted.multiply_adds,
        "params": counted.params,
        "activation_bytes": counted.activation_bytes,
    }
    if LATENCY in result:
        found[LATENCY] = result[LATENCY]
    return found


def _objective(base, evaluated, options):
    """Returns the objective; by default a network should cost what the base does."""
    if options.objective == PARETO:
        return Objective(PARETO)
    if options.target:
        return Objective(options.objective, parse_amount(options.target))
    result = {}
    if options.cost == LATENCY:
        job = evaluated.job(base)
        result = evaluated.kept(job) or evaluated.start(job).result()
        evaluated.keep(job, result)
    target = costs_of(base, result)[options.cost]
    print(f"Chosen for you: --target {shown(target).replace(' ', '')}, what the base costs.")
    return Objective(options.objective, target)


def _study(storage, base, objective, images, options):
    """Opens the study. What all of its workers must have alike is written in it."""
    settings = {
        "base": to_json(base),
        "images": images.about["digest"],
        "training": _training(options),
        "seeds": options.seeds,
        "objective": objective.kind,
        "cost": options.cost,
        "target": objective.target,
    }
    return Study(
        storage,
        options.study,
        objective.directions,
        settings,
        options.sampler,
        options.seed,
        options.patience,
    )


# --- what was found ---------------------------------------------------------------------------


def report(finished: Sequence[Finished], objective: Objective, options: argparse.Namespace) -> None:
    """Prints the best trials, and writes the table of all, and the picture."""
    chosen = results.notable(finished, objective.kind, options.cost)
    title = "The best:"
    if objective.kind == PARETO:
        title = "The Pareto front:"
    print("\n".join([f"\n{title}", *results.describe(chosen, options.cost)]))
    path = os.path.join(options.workdir, TABLE)
    results.write_table(finished, path)
    print(f"\nWrote {path}: all {len(finished)} trials.")
    path = os.path.join(options.workdir, PICTURE)
    try:
        charts.draw(finished, options.cost, objective.target, path)
        print(f"Drew {path}.")
    except extras.MissingPackage as error:
        print(f"{error}. All else was done.")


def _confirm(finished, space, again, options):
    """Trains the best and the base again."""
    networks = {"base": space.frame}
    for trial in results.notable(finished, options.objective, options.cost)[: options.confirm]:
        networks[f"trial {trial.number}"] = space.variant(trial.about["spec"])
    found = confirming.confirm(networks, again, options.processes)
    prices = {
        name: shown(costs_of(row, found[name].result)[options.cost])
        for name, row in networks.items()
    }
    print(f"\nTrained again with {options.confirm_seeds} fresh seeds, on the images kept aside:")
    print("\n".join(confirming.describe(found, prices)))
    path = os.path.join(options.workdir, CONFIRMED)
    rows = {name: dict(each.result) for name, each in found.items()}
    local_files.write(path, (json.dumps(rows, indent=1) + "\n").encode("utf-8"))
    print(f"Wrote {path}.")
