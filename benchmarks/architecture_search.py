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
import json
import os
import pathlib
import statistics
import sys

from effnet_tf import extras
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
    study = studies.Study(
        storage, f"{sampler}-{seed}", settings=settings, sampler=sampler, seed=seed
    )
    evaluated = evaluator(setting, 1)
    print(f"{sampler}, seed {seed}", flush=True)
    Search(study, setting.space, setting.objective, evaluated, costs_of, COST).run(setting.trials)
    return study.finished()


def confirm(setting, found, seeds):
    """Trains the best network of each search again, and the base."""
    networks = {"base": setting.space.frame}
    for (sampler, seed), finished in found.items():
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
    """Returns the results: of each sampler its searches, and how it compares with chance."""
    samplers = {}
    for sampler in options.samplers:
        searches = [_of_search(sampler, seed, found, rows) for seed in range(options.seeds)]
        samplers[sampler] = {"searches": searches}
    for other in samplers.values():
        for kind in ("searched", "confirmed"):
            ours = [each[kind] for each in other["searches"]]
            chance = [each[kind] for each in samplers["random"]["searches"]]
            other[kind] = statistics.fmean(ours)
            other[f"{kind}_gain"] = interval([a - b for a, b in zip(ours, chance)])
    return {
        "command": " ".join(["python", *sys.argv]),
        "networks": setting.space.size(),
        "target": setting.objective.target,
        "trials": options.trials,
        "training": TRAINING,
        "confirm_seeds": options.confirm_seeds,
        "seconds": round(sum(trial.about["seconds"] for each in found.values() for trial in each)),
        "samplers": samplers,
        "networks_confirmed": rows,
    }


def _of_search(sampler, seed, found, rows):
    """Returns the best reward as the search saw it, and when its network was trained again."""
    finished = found[sampler, seed]
    row = next(row for row in rows if row["network"] == f"{sampler} {seed}")
    best = results.ranked(finished)[0]
    return {"seed": seed, "searched": best.values[0], "confirmed": row["reward"]}


def interval(differences):
    """Returns (mean, half of its 95 % confidence interval) of paired differences, by Student."""
    count = len(differences)
    if count < 2:
        return statistics.fmean(differences), None
    spread = statistics.stdev(differences) / count**0.5
    return statistics.fmean(differences), STUDENT[count - 1] * spread


def draw(options, found):
    """Draws the best reward so far: the mean over the seeds of each sampler, and every search."""
    figure = extras.load("matplotlib.figure", "Drawing the benchmark").Figure(
        figsize=(8, 4.4), layout="constrained"
    )
    axis = figure.subplots()
    for number, sampler in enumerate(options.samplers):
        curves = []
        for seed in range(options.seeds):
            rewards = [trial.values[0] for trial in found[sampler, seed]]
            curves.append(charts.best_so_far(rewards))
            axis.plot(range(1, len(rewards) + 1), curves[-1], f"C{number}", lw=0.6, alpha=0.4)
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
    parser.add_argument("--seeds", type=int, default=5, help="searches of each sampler, 1 to 10")
    parser.add_argument("--samplers", nargs="+", default=["random", "tpe", "nsga2"])
    parser.add_argument("--confirm_seeds", type=int, default=10)
    options = parser.parse_args()
    extras.require_or_exit("This benchmark", "tensorflow", "keras")
    extras.require_or_exit("This benchmark", "optuna", "matplotlib")
    setting = prepare(options)
    found = {}
    for seed in range(options.seeds):
        for sampler in options.samplers:
            found[sampler, seed] = search(setting, sampler, seed)
    rows = confirm(setting, found, options.confirm_seeds)
    write_rows(found)
    results_of_all = summary(options, setting, found, rows)
    RESULTS.write_text(json.dumps(results_of_all, indent=2) + "\n", encoding="utf-8")
    draw(options, found)
    print(json.dumps(results_of_all["samplers"], indent=2))


if __name__ == "__main__":
    main()
