"""search/searching.py: workers alone, several, killed, and with trials that fail."""

import os
import signal
import subprocess
import sys
import time

import pytest

from effnet_tf import InputError, variants
from effnet_tf.isolated import WorkerError
from effnet_tf.search import processes, results, searching
from effnet_tf.search.space import Space
from tests.search import searcher


class Answer:
    """A trial that ends at once, for `searching` without processes."""

    def __init__(self, answer):
        self.answer, self.is_ended = answer, False

    def result(self):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def end(self):
        self.is_ended = True


class AtOnce(searcher.Pretended):
    """Trials without processes; every `bad`-th of them fails."""

    def __init__(self, folder, bad=0, error=None):
        super().__init__(folder)
        self.started, self.bad = [], bad
        self.error = error or WorkerError("The process failed: it did.", "it did")

    def start(self, job):
        self.started.append(Answer({"accuracies": [searcher.accuracy_of(job)], "seconds": 1.0}))
        if self.bad and len(self.started) % self.bad == 0:
            self.started[-1].answer = self.error
        return self.started[-1]


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(processes, "wait", lambda running, seconds: running)


def states(folder):
    trials = searcher.study_of(folder)._study.trials
    return [trial.state.name for trial in trials]


def test_what_is_told_is_what_was_computed(at_once, tmp_path):
    folder = str(tmp_path)
    searcher.search_of(folder, trials=AtOnce(folder)).run(6)
    found = searcher.study_of(folder).finished()
    assert len(found) == 6
    space = Space(searcher.BASE)
    for trial in found:
        variant, about = space.variant(trial.about["spec"]), trial.about
        cost = variants.cost(variant)
        assert (about["multiply_adds"], about["params"]) == (cost.multiply_adds, cost.params)
        assert about["activation_bytes"] == cost.activation_bytes
        job = AtOnce(folder).job(variant)
        assert about["accuracy"] == searcher.accuracy_of(job)
        wanted = about["accuracy"] * (cost.multiply_adds / searcher.TARGET) ** -0.07
        assert trial.values[0] == pytest.approx(wanted)


def test_a_search_goes_on_where_it_was(at_once, tmp_path):
    folder = str(tmp_path)
    for wanted, left in ((4, 4), (6, 2), (6, 0)):
        trials = AtOnce(folder)
        before = len(os.listdir(tmp_path / "results"))
        searcher.search_of(folder, trials=trials).run(wanted)
        assert len(trials.started) == len(os.listdir(tmp_path / "results")) - before <= left
    assert states(folder) == ["COMPLETE"] * 6


def test_no_network_is_trained_twice(at_once, tmp_path):
    folder = str(tmp_path)
    # A database of results may be older than the study, too.
    first = AtOnce(folder)
    searcher.search_of(folder, trials=first).run(5)
    os.remove(tmp_path / "study.journal")
    again = AtOnce(folder)
    searcher.search_of(folder, trials=again).run(5)
    assert first.started and not again.started
    assert len(searcher.study_of(folder).finished()) == 5


def test_failed_trials_do_not_count(at_once, tmp_path):
    folder = str(tmp_path)
    searcher.search_of(folder, trials=AtOnce(folder, bad=3)).run(5)
    found = states(folder)
    assert found.count("COMPLETE") == 5 and found.count("FAIL") >= 1
    reasons = {trial.user_attrs.get("reason") for trial in searcher.study_of(folder)._study.trials}
    assert reasons == {None, "it did"}


def test_trial_after_trial_that_fails_is_an_error(at_once, tmp_path):
    folder = str(tmp_path)
    with pytest.raises(WorkerError, match="it did"):
        searcher.search_of(folder, trials=AtOnce(folder, bad=1)).run(5)
    assert states(folder) == ["FAIL"] * searching.MOST_FAILURES


@pytest.mark.parametrize("error", [InputError("Too few images."), KeyboardInterrupt()])
def test_what_stops_a_worker_leaves_no_trial_behind(error, at_once, tmp_path):
    folder = str(tmp_path)
    trials = AtOnce(folder, bad=2, error=error)
    with pytest.raises(type(error)):
        searcher.search_of(folder, trials=trials, count=3).run(5)
    assert "RUNNING" not in states(folder)
    assert trials.started[2].is_ended


def test_a_damaged_result_leaves_no_trial_behind(at_once, tmp_path, monkeypatch):
    folder, trials = str(tmp_path), AtOnce(str(tmp_path))
    monkeypatch.setattr(trials, "_path", lambda job: str(tmp_path / "damaged.json"))
    (tmp_path / "damaged.json").write_text("{")
    with pytest.raises(InputError, match="delete it, and it is computed again"):
        searcher.search_of(folder, trials=trials).run(5)
    assert states(folder) == ["FAIL"]


def test_several_trials_at_once(tmp_path, monkeypatch):
    folder, at_once = str(tmp_path), []
    # The first alone ends; its place is taken while there is room.
    monkeypatch.setattr(
        processes, "wait", lambda running, _: at_once.append(running) or running[:1]
    )
    searcher.search_of(folder, trials=AtOnce(folder), count=4).run(6)
    assert [len(running) for running in at_once] == [4, 4, 4, 3, 2, 1]
    assert states(folder) == ["COMPLETE"] * 6


def start_worker(folder, wanted, seconds):
    command = [sys.executable, "-m", "tests.search.searcher", folder, str(wanted), str(seconds)]
    paths = os.pathsep.join(filter(None, sys.path))
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": paths}, cwd=os.getcwd())


def wait_until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_two_workers_of_which_one_is_killed(tmp_path):
    """The other does what is left; what is lost is one trial."""
    folder, wanted = str(tmp_path), 8
    watching = searcher.study_of(folder)
    victim = start_worker(folder, wanted, 600)
    wait_until(lambda: (tmp_path / "processes").exists() and watching.running() == 1)
    other = start_worker(folder, wanted, 0.05)
    wait_until(lambda: len(watching.finished()) >= 3)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert other.wait(90) == 0
    found = states(folder)
    assert found.count("COMPLETE") == wanted and set(found) == {"COMPLETE", "FAIL"}
    assert found[0] == "FAIL"  # the victim's
    finished = watching.finished()
    assert {trial.about["key"] for trial in finished} == {
        name.removesuffix(".json") for name in os.listdir(tmp_path / "results")
    }
    # Nothing goes on computing for a worker that is gone.
    first = int((tmp_path / "processes").read_text().splitlines()[0])
    wait_until(lambda: not os.path.exists(f"/proc/{first}"))
    assert results.find(finished, "best", "soft", "multiply_adds").values[0] == max(
        trial.values[0] for trial in finished
    )
