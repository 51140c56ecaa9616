"""Does TPE, or NSGA-II, find better networks than chance does with as many trials?

    pip install 'effnet_tf[cpu,demo,plots,search]'
    python benchmarks/architecture_search.py        # about an hour on one core; can be interrupted

Handwritten digits, a base of three stages (architecture_search_base.json), the whole space, the
soft reward against multiply-adds. Every sampler gets as many trials, with each of several
seeds. The best network of each search is then trained again with fresh seeds, on all training
images, and judged by images that no search has seen; so is the base. What is finished is kept
in --workdir, and the same command goes on. Writes architecture_search.csv, with every trial, and
architecture_search.json beside this file, and docs/images/architecture_search.png.
"""

import argparse
import csv
import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import sys

from effnet_tf import extras
from effnet_tf.errors import InputError
from effnet_tf.search import charts, confirming, results, studies, trials
from effnet_tf.search.rewards import Objective
from effnet_tf.search.searching import Search
from effnet_tf.search.session import costs_of
from effnet_tf.search.space import Space
from effnet_tf.variants import cost, find_variant

HERE = pathlib.Path(__file__).resolve().parent
RESULTS = HERE / "architecture_search.json"
ROWS = HERE / "architecture_search.csv"
PICTURE = HERE.parent / "docs" / "images" / "architecture_search.png"
TRAINING = {"epochs": 3, "batch_size": 64, "learning_rate": 0.1}
COST = "multiply_adds"
# Of Student's distribution at 97.5 %, by degrees of freedom.
STUDENT = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
COLUMNS = ("sampler", "seed", "number", "reward", "accuracy", "multiply_adds", "params", "key")


@dataclasses.dataclass(frozen=True)
class Setting:
    """What all searches have in common."""

    workdir: str
    server: object
    images: trials.Data
    space: Space
    objective: Objective
    trials: int


def prepare(options):
    """Reads the images and the base."""
    base = find_variant(str(HERE / "architecture_search_base.json"))
    base = dataclasses.replace(base, num_classes=10)
    server = trials.fork_server()
    os.makedirs(options.workdir, exist_ok=True)
    path = os.path.join(options.workdir, "images.npz")
    images = trials.prepare(server, path, "digits", base.resolution)
    objective = Objective("soft", cost(base).multiply_adds)
    return Setting(options.workdir, server, images, Space(base), objective, options.trials)


def evaluator(setting, seeds):
    """Returns what trains networks so many times each."""
    folder = os.path.join(setting.workdir, "results")
    return trials.Trials(folder, setting.images, TRAINING, seeds, server=setting.server)


def search(setting, sampler, seed):
    """Runs one search, or what is left of it; returns its finished trials."""
    storage = studies.open_storage(os.path.join(setting.workdir, "study.journal"))
    settings = {"objective": "soft", "target": setting.objective.target, "training": TRAINING}
    name = f"{sampler}-{seed}"
    study = studies.Study(storage, name, ("maximize",), settings, sampler, seed)
    print(f"{sampler}, seed {seed}", flush=True)
    evaluated = evaluator(setting, 1)
    Search(study, setting.space, setting.objective, evaluated, costs_of, COST).run(setting.trials)
    return study.finished()[: setting.trials]


def begun(setting, sampler, seed):
    """Returns the finished trials of a search, of whichever there are."""
    storage = studies.open_storage(os.path.join(setting.workdir, "study.journal"))
    try:
        return studies.Study(storage, f"{sampler}-{seed}").finished()[: setting.trials]
    except InputError:  # not begun
        return []


def confirm(setting, found, seeds):
    """Trains the best network of each complete search again, and the base."""
    networks = {"base": setting.space.frame}
    for (sampler, seed), finished in found.items():
        if len(finished) < setting.trials:
            continue
        best = results.ranked(finished)[0]
        networks[f"{sampler} {seed}"] = setting.space.variant(best.about["spec"])
    again = confirming.confirm(networks, evaluator(setting, seeds))
    rows = []
    for name, row in networks.items():
        accuracy, price = again[name].mean, cost(row).multiply_adds
        rows.append(
            {
                "network": name,
                "multiply_adds": price,
                "params": cost(row).params,
                "accuracy": accuracy,
                "margin": again[name].margin,
                "reward": setting.objective.values(accuracy, price)[0],
                "accuracies": again[name].accuracies,
            }
        )
    return rows


def write_rows(found):
    """Writes every trial of every search."""
    with open(ROWS, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, "spec"])
        for (sampler, seed), finished in found.items():
            for trial in finished:
                about = trial.about
                numbers = [about[name] for name in COLUMNS[4:]]
                spec = json.dumps(about["spec"], separators=(",", ":"))
                writer.writerow([sampler, seed, trial.number, trial.values[0], *numbers, spec])


def summary(options, setting, found, rows):
    """Returns the results: of each search, and how the samplers compare with chance."""
    searches = [_of_search(sampler, seed, found, rows) for sampler, seed in found]
    gains = {}
    for sampler in options.samplers:
        if sampler != "random":
            differences = {
                "searched": _seen_differences(found, sampler),
                "again": _again_differences(searches, sampler),
            }
            gains[sampler] = {kind: interval(each) for kind, each in differences.items()}
    return {
        "command": " ".join(["python", *sys.argv]),
        "networks": setting.space.size(),
        "target": setting.objective.target,
        "trials": options.trials,
        "training": TRAINING,
        "confirm_seeds": options.confirm_seeds,
        "seconds": round(sum(trial.about["seconds"] for trial in itertools.chain(*found.values()))),
        "base": rows[0],
        "searches": searches,
        "gains": gains,
    }


def _of_search(sampler, seed, found, rows):
    """Returns the best of a search: its reward there and, if it is complete, trained again."""
    best = results.ranked(found[sampler, seed])[0]
    again = {}
    for row in rows:
        if row["network"] == f"{sampler} {seed}":
            again = {**row, "again": row["reward"]}
    return {
        "sampler": sampler,
        "seed": seed,
        "trials": len(found[sampler, seed]),
        "best": best.number,
        "searched": best.values[0],
        "multiply_adds": best.about[COST],
        "spec": best.about["spec"],
        **again,
    }


def _seen_differences(found, sampler):
    """Returns best rewards of a sampler less those of chance, by seed, after as many trials."""
    differences = []
    for (name, seed), finished in found.items():
        chance = found.get(("random", seed))
        if name == sampler and chance:
            count = min(len(finished), len(chance))
            ours, theirs = [
                max(each.values[0] for each in some[:count]) for some in (finished, chance)
            ]
            differences.append(ours - theirs)
    return differences


def _again_differences(searches, sampler):
    """Returns the same of the networks trained again, of complete searches."""
    by_name = {
        (each["sampler"], each["seed"]): each["again"] for each in searches if "again" in each
    }
    seeds = [seed for name, seed in by_name if name == sampler and ("random", seed) in by_name]
    return [by_name[sampler, seed] - by_name["random", seed] for seed in seeds]


def interval(differences):
    """Returns pairs, mean of their differences, half of its 95 % confidence interval or None."""
    count = len(differences)
    if count < 2:
        return count, sum(differences), None
    spread = statistics.stdev(differences) / count**0.5
    return count, statistics.fmean(differences), STUDENT[count - 1] * spread


def draw(options, found):
    """Draws the best reward so far: the mean over the seeds of each sampler, and every search."""
    figure = extras.load("matplotlib.figure", "Drawing the benchmark").Figure(
        figsize=(8, 4.4), layout="constrained"
    )
    axis = figure.subplots()
    for number, sampler in enumerate(options.samplers):
        curves = []
        for finished in [found[each] for each in found if each[0] == sampler]:
            rewards = [trial.values[0] for trial in finished]
            curves.append(charts.best_so_far(rewards))
            axis.plot(range(1, len(rewards) + 1), curves[-1], f"C{number}", lw=0.6, alpha=0.4)
        if not curves:
            continue
        means = [statistics.fmean(column) for column in zip(*curves)]
        axis.plot(range(1, len(means) + 1), means, f"C{number}", lw=2.2, label=sampler)
    axis.set(
        xlabel="finished trials",
        ylabel="best reward so far (validation images)",
        title="Thick: mean over the seeds; thin: each search",
    )
    axis.grid(alpha=0.3)
    axis.legend()
    figure.savefig(PICTURE, dpi=110)


def main():
    """Searches, trains the best again, writes what came of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", default="runs/architecture_search")
    parser.add_argument("--trials", type=int, default=60, help="of each search")
    parser.add_argument("--seeds", type=int, default=3, help="searches of each sampler, 1 to 10")
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe", "nsga2"])
    parser.add_argument("--confirm_seeds", type=int, default=6)
    parser.add_argument("--report", action="store_true", help="search nothing, tell what there is")
    options = parser.parse_args()
    extras.require_or_exit("This benchmark", "tensorflow", "keras")
    extras.require_or_exit("This benchmark", "optuna", "matplotlib")
    setting = prepare(options)
    found = {}
    for seed in range(options.seeds):
        for sampler in options.samplers:
            how = search
            if options.report:
                how = begun
            finished = how(setting, sampler, seed)
            if finished:
                found[sampler, seed] = finished
    rows = confirm(setting, found, options.confirm_seeds)
    write_rows(found)
    results_of_all = summary(options, setting, found, rows)
    RESULTS.write_text(json.dumps(results_of_all, indent=2) + "\n", encoding="utf-8")
    draw(options, found)
    print(json.dumps(results_of_all["gains"], indent=2))


if __name__ == "__main__":
    main()
