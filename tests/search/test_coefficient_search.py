"""The whole search of coefficients: its files, what it goes on with, and its command line."""

import json

import pytest

import effnet_tf
from effnet_tf import search
from effnet_tf.search import __main__ as program
from effnet_tf.search import coefficient_program, coefficient_search, rows, workers
from effnet_tf.variants import save_variant
from tests.search.few_images import BASE, colours
from tests.search.test_contest import pretended

QUICK = dict(factor=2.0, tolerance=0.2, seeds=2, folds=3, most=3)


@pytest.fixture
def in_memory(monkeypatch):
    """The data set "colours", wherever a search asks for one."""
    monkeypatch.setattr(
        "effnet_tf.search.images.load", lambda name, side, data_dir: colours(side=side)
    )


@pytest.fixture
def pretending(monkeypatch):
    """Trainings that take no time; returns what was trained, job by job."""
    jobs = []

    def train(bench, job):
        jobs.append(job)
        if len(jobs) == pretending_stops.get("after"):
            raise KeyboardInterrupt
        factors = dict(width=job.variant.width_coefficient, name=job.variant.name)
        candidate = type("Candidate", (), factors)
        wanted = [
            type("Wanted", (), dict(candidate=candidate, fold=job.fold, seed=seed))
            for seed in job.seeds
        ]
        return [pretended(each) for each in wanted]

    pretending_stops = {}
    monkeypatch.setattr(workers.Bench, "train", train)
    jobs_and_stops = type("Jobs", (), dict(jobs=jobs, stops=pretending_stops))
    return jobs_and_stops


def test_a_real_search(in_memory, tmp_path, capsys):
    out = tmp_path / "search"
    settings = search.Settings(epochs=1, batch_size=16)
    few = QUICK | dict(most=2)
    found = search.coefficients(BASE, "colours", str(out), settings=settings, **few)
    assert {each.name for each in out.iterdir()} == {
        "question.json",
        "trainings.csv",
        "coefficients.json",
        "chosen.json",
        "axes.png",
    }
    chosen = effnet_tf.variants.find_variant(str(out / "chosen.json"))
    assert chosen == found.variant and chosen.num_classes == 3
    cost, base = (effnet_tf.cost(each, num_classes=3).multiply_adds for each in (chosen, BASE))
    assert abs(cost / base - 2) <= 0.4
    said = capsys.readouterr().out
    assert "2 were compared" in said and "random, best" in said and "--variant" in said
    table = rows.read(str(out / "trainings.csv"))
    assert all(0 <= row.accuracy <= 1 and row.epochs == 1 for row in table)
    # Computed again from the table: the same answer, and not a training.
    before = (out / "coefficients.json").read_text()
    (out / "coefficients.json").unlink()
    again = search.answer(str(out))
    assert again == found and (out / "coefficients.json").read_text() == before
    assert json.loads(before)["networks"]["chosen"] == chosen.name


def test_an_interrupted_search_ends_with_the_same_rows(in_memory, pretending, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    settings = search.Settings(batch_size=16)
    arguments = dict(settings=settings, **QUICK | dict(most=6, seeds=4))
    search.coefficients(BASE, "colours", str(whole), **arguments)
    count = len(pretending.jobs)
    done = []
    for after in (2, count // 2):
        pretending.jobs.clear()
        pretending.stops["after"] = after
        with pytest.raises(KeyboardInterrupt):
            search.coefficients(BASE, "colours", str(cut), **arguments)
        with pytest.raises(effnet_tf.InputError, match="not finished: at least .* are missing"):
            search.answer(str(cut))
        done += pretending.jobs[:-1]
    pretending.jobs.clear()
    pretending.stops.clear()
    search.coefficients(BASE, "colours", str(cut), **arguments)
    done += pretending.jobs
    assert len(done) == len(set(done)) == count  # nothing twice
    for name in ("trainings.csv", "coefficients.json", "question.json", "chosen.json"):
        assert (whole / name).read_bytes() == (cut / name).read_bytes()


def test_what_was_trained_before_counts_in_the_progress(in_memory, pretending, tmp_path, capsys):
    settings = search.Settings(batch_size=16)
    search.coefficients(BASE, "colours", str(tmp_path), settings=settings, **QUICK)
    path = tmp_path / "trainings.csv"
    done = len(rows.read(str(path)))
    assert f"Training: {done}/{done} trainings" in capsys.readouterr().err
    path.write_text("".join(path.read_text().splitlines(True)[:-2]))
    search.coefficients(BASE, "colours", str(tmp_path), settings=settings, **QUICK)
    assert f"Training: {done}/{done} trainings" in capsys.readouterr().err


def test_without_matplotlib_there_is_everything_but_the_picture(
    in_memory, pretending, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr("effnet_tf.extras.is_installed", lambda package: package != "matplotlib")
    settings = search.Settings(batch_size=16)
    search.coefficients(BASE, "colours", str(tmp_path), settings=settings, **QUICK)
    assert not (tmp_path / "axes.png").exists() and (tmp_path / "chosen.json").exists()
    assert "No picture without matplotlib: pip install" in capsys.readouterr().out


def test_another_search_in_the_folder_is_left_alone(in_memory, pretending, tmp_path):
    settings = search.Settings(batch_size=16)
    search.coefficients(BASE, "colours", str(tmp_path), settings=settings, **QUICK)
    before = (tmp_path / "trainings.csv").read_bytes()
    with pytest.raises(effnet_tf.InputError, match="another seeds, 2 instead of 3"):
        search.coefficients(
            BASE, "colours", str(tmp_path), settings=settings, **QUICK | dict(seeds=3)
        )
    assert (tmp_path / "trainings.csv").read_bytes() == before


class TestTheProgram:
    def test_it_hands_its_options_on(self, in_memory, pretending, monkeypatch, tmp_path, capsys):
        monkeypatch.setattr(coefficient_program, "use_one_thread", lambda: None)
        save_variant(BASE, str(tmp_path / "base.json"))
        options = program.parse(
            f"x coefficients --base {tmp_path}/base.json --dataset colours --tolerance 0.2 "
            f"--seeds 2 --most 3 --batch_size 16 --no_halving --workdir {tmp_path}/out".split()
        )
        program.main(options)
        said = capsys.readouterr().out
        assert "Chosen for you: --factor 2, --folds 5, --multiple_of 1, --processes 1, " in said
        table = rows.read(f"{tmp_path}/out/trainings.csv")
        assert {row.rung for row in table} == {"0", "final"}  # nothing is left for the random one
        program.main(program.parse(f"x coefficients --report --workdir {tmp_path}/out".split()))
        assert capsys.readouterr().out.splitlines()[0] in said

    @pytest.mark.parametrize(
        "words, message",
        [
            ("--base b0", "--dataset is missing"),
            ("--dataset digits", "--base is missing"),
            ("--base b33 --dataset digits", "no variant 'b33'"),
            ("--base b0 --dataset digits --processes 0", "processes is 0"),
            ("--base b0 --dataset digits --epochs 0", "epochs is 0"),
            ("--base b0 --dataset digits --factor 0.5", "factor is 0.5"),
            ("--report", "There is no search of coefficients in"),
        ],
    )
    def test_bad_input(self, words, message, monkeypatch, tmp_path):
        monkeypatch.setattr(coefficient_program, "use_one_thread", lambda: None)
        options = program.parse(f"x coefficients --workdir {tmp_path}/out {words}".split())
        with pytest.raises(effnet_tf.InputError, match=message):
            program.main(options)
        assert not (tmp_path / "out").exists()

    def test_help_needs_no_tensorflow(self):
        import subprocess
        import sys

        code = (
            "import sys; from effnet_tf.search import __main__ as program\n"
            "try: program.parse(['x', 'coefficients', '--help'])\n"
            "except SystemExit: sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0 and "--tolerance" in done.stdout, done.stderr


@pytest.mark.slow
def test_several_processes_give_the_same_and_survive_a_kill(few_digits, tmp_path):
    """Real processes: the rows of two workers are those of one."""
    settings = search.Settings(epochs=1, batch_size=64)
    tables = []
    for processes in (1, 2):
        out = str(tmp_path / str(processes))
        coefficient_search.coefficients(
            BASE, "digits", out, settings=settings, processes=processes, **QUICK
        )
        tables.append(rows.read(f"{out}/trainings.csv"))
    assert tables[0] == tables[1]
