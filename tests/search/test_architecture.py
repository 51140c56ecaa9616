"""search/architecture.py, session.py: the program, from its command line to a trained network."""

import csv
import json
import os

import pytest
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

import effnet_tf
from effnet_tf import InputError, variants
from effnet_tf.search import __main__ as program
from effnet_tf.search import charts, confirming, results, session, trials
from effnet_tf.search.space import Space
from effnet_tf.search.studies import Finished
from tests.search import searcher
from tests.search.few_images import BASE
from tests.test_plots import colours


def run(*arguments):
    program.main(program.parse(["search", "architecture", *map(str, arguments)]))


@pytest.fixture
def base(tmp_path):
    path = str(tmp_path / "base.json")
    variants.save_variant(searcher.BASE, path)
    return path


def options_of(folder, base, photos):
    options = ["--workdir", folder, "--base", base, "--dataset", "folder", "--data_dir", photos]
    return [*options, "--epochs", 1, "--batch_size", 4]


def test_a_real_trial_and_its_network(base, photos, tmp_path, capsys):
    """The one quick test that trains in a process of its own, as a person would have it."""
    folder = tmp_path / "search"
    run(*options_of(folder, base, photos), "--trials", 1)
    said = capsys.readouterr().out
    assert said.startswith("Chosen for you: --objective soft, --cost multiply_adds, --sampler tpe")
    assert "are kept aside, for --confirm." in said
    assert "The best:\ntrial   reward  accuracy  multiply-adds\n" in said
    (row,) = csv.DictReader(open(folder / session.TABLE))
    assert json.loads(row["spec"])[0]["kind"]
    assert colours(folder / session.PICTURE)

    found = str(tmp_path / "found.json")
    run("--workdir", folder, "--export", "best", "--out", found)
    assert f"Wrote {found}: few-trial" in capsys.readouterr().out
    variant = variants.find_variant(found)
    assert variants.cost(variant).multiply_adds == int(row["multiply_adds"])
    model = effnet_tf.model_fn(found)
    assert model.output_shape == (None, 2)
    from effnet_tf.recipes import Recipe

    assert Recipe(variant=found, num_classes=2).resolved_variant().stages == variant.stages


@pytest.mark.slow
def test_a_front_of_timed_networks_that_are_trained_again(base, photos, tmp_path, capsys):
    options = options_of(tmp_path / "search", base, photos)
    options += ["--objective", "pareto", "--sampler", "nsga2", "--cost", "latency_ms"]
    options += ["--trials", 3, "--processes", 2, "--confirm", 1, "--confirm_seeds", 2]
    run(*options)
    assert "The Pareto front:\n" in capsys.readouterr().out
    confirmed = json.loads((tmp_path / "search" / session.CONFIRMED).read_text())
    assert list(confirmed)[0] == "base" and len(confirmed) == 2
    assert all(len(each["accuracies"]) == 2 for each in confirmed.values())
    # The same again computes nothing.
    before = sorted(os.listdir(tmp_path / "search" / session.RESULTS))
    run(*options)
    assert sorted(os.listdir(tmp_path / "search" / session.RESULTS)) == before


def refused(said, *arguments):
    with pytest.raises(InputError, match=said):
        run(*arguments)


def test_what_is_missing_is_told(base, tmp_path):
    refused("must be a folder of this machine", "--workdir", "gs://bucket/x", "--base", base)
    refused("Give --base", "--workdir", tmp_path, "--dataset", "digits")
    refused("Give --dataset", "--workdir", tmp_path, "--base", base)
    refused("Give --out", "--workdir", tmp_path, "--export", "best")
    refused("There is no search in '.*study.journal' yet", *_export(tmp_path, "best"))
    options = ["--workdir", tmp_path, "--base", base, "--dataset", "digits"]
    refused("--trials is 0; it must be at least 1", *options, "--trials", 0)
    refused("epochs is 0; it must be a whole number", *options, "--epochs", 0)
    refused("--confirm is -1; it must be at least 1", *options, "--confirm", -1)


def _export(folder, which, *more):
    return ["--workdir", folder, "--export", which, "--out", folder / "found.json", *more]


def finished(*rows):
    """Trials of (number, reward, accuracy, cost)."""
    spec = Space(searcher.BASE).spec({})
    return [
        Finished(
            number,
            (value,),
            {
                "accuracy": accuracy,
                "multiply_adds": cost,
                "params": cost,
                "activation_bytes": cost,
                "key": f"k{cost}",
                "spec": spec,
                "seconds": 1.0,
            },
        )
        for number, value, accuracy, cost in rows
    ]


FOUND = finished((0, 0.8, 0.7, 10), (1, 0.9, 0.9, 20), (4, 0.7, 0.8, 30), (5, 0.9, 0.9, 20))


class TestResults:
    def test_the_best_is_the_first_of_the_greatest_rewards(self):
        assert results.find(FOUND, "best", "soft", "params").number == 1
        assert results.find(FOUND, "4", "soft", "params").number == 4
        # The network of trials 1 and 5 is listed once.
        assert [trial.number for trial in results.ranked(FOUND)] == [1, 0, 4]
        assert [trial.number for trial in results.notable(FOUND, "hard", "params")] == [1, 0, 4]
        assert [trial.number for trial in results.notable(FOUND, "pareto", "params")] == [0, 1]

    @pytest.mark.parametrize(
        "trials, which, kind, said",
        [
            (FOUND, "3", "soft", "There is no finished trial '3': give 'best', or a number"),
            (FOUND, "best", "pareto", "no best network: choose one of its trials, 0, 1"),
            ([], "best", "soft", "No trial is finished yet"),
        ],
    )
    def test_what_is_not_there_is_refused(self, trials, which, kind, said):
        with pytest.raises(InputError, match=said):
            results.find(trials, which, kind, "params")

    def test_the_table_has_every_trial(self, tmp_path):
        path = str(tmp_path / "trials.csv")
        results.write_table(FOUND, path)
        rows = list(csv.DictReader(open(path)))
        assert [int(row["number"]) for row in rows] == [0, 1, 4, 5]
        assert float(rows[1]["value"]) == 0.9 and rows[1]["multiply_adds"] == "20"
        assert "latency_ms" not in rows[0]


class TestPictures:
    def test_a_search_is_drawn(self, tmp_path):
        drawn = []
        for target in (None, 15.0):
            path = tmp_path / f"{target}.png"
            charts.draw(FOUND, "multiply_adds", target, str(path))
            drawn.append(colours(path))
        assert all((214, 39, 40) in each for each in drawn)  # C3: the front
        assert drawn[0] != drawn[1]

    @pytest.mark.parametrize("low, between", [(90e3, True), (9e3, False)])
    def test_costs_are_labelled_as_in_the_tables(self, low, between):
        axis = Figure().subplots()
        axis.set(xscale="log", xlim=(low, 400e3))
        charts._label_costs(axis)
        assert axis.xaxis.get_major_formatter()(100e3) == "100 k"
        minor = axis.xaxis.get_minor_formatter()
        assert isinstance(minor, FuncFormatter) is between  # else they run into each other

    def test_the_best_so_far(self):
        assert charts.best_so_far([1, 3, 2, 5, 4]) == [1, 3, 3, 5, 5]


class TestConfirming:
    def test_fresh_seeds_and_images_kept_aside(self, tmp_path):
        asked = []

        class Trials(trials.Trials):
            def kept(self, job):
                asked.append(job)
                return {"accuracies": [0.5, 0.7, 0.9]}

        made = Trials(str(tmp_path), trials.Data("", {"digest": "d"}), {}, 3)
        found = confirming.confirm({"base": BASE}, made)
        assert [(job["part"], job["seeds"]) for job in asked] == [("test", [1000, 1001, 1002])]
        assert found["base"].mean == pytest.approx(0.7)
        assert found["base"].margin == pytest.approx(1.96 * 0.2 / 3**0.5)
        lines = confirming.describe(found, {"base": "20.0 k"})
        assert lines[1] == "base     70.00 ± 22.63  20.0 k"


class TestCosts:
    def test_counted_and_measured(self):
        counted = variants.cost(BASE)
        found = session.costs_of(BASE, {})
        assert found == {
            "multiply_adds": counted.multiply_adds,
            "params": counted.params,
            "activation_bytes": counted.activation_bytes,
        }
        assert session.costs_of(BASE, {"latency_ms": 2.5})["latency_ms"] == 2.5
