"""search/studies.py: what workers share, and what becomes of the trials of a dead one."""

import functools
import time

import pytest

from effnet_tf import InputError
from effnet_tf.search import studies
from effnet_tf.search.studies import Study, open_storage

OPTIONS = {name: tuple(range(5)) for name in "abcd"}


@pytest.fixture
def journal(tmp_path):
    return str(tmp_path / "deep" / "study.journal")


def opened(journal, **arguments):
    return Study(open_storage(journal), "x", settings={"target": 5}, **arguments)


def in_memory():
    """Returns a function that opens a study, always the same one, without a file."""
    import optuna

    storage = optuna.storages.InMemoryStorage()
    return functools.partial(Study, storage, "x", settings={"target": 5})


def value(chosen):
    return sum(chosen.values()) - 0.1 * chosen["a"] ** 2


def go_on(study, count):
    """Evaluates so many trials; returns what was tried."""
    tried = []
    for _ in range(count):
        number, chosen = study.ask(OPTIONS)
        study.tell(number, [value(chosen)], {"chosen": chosen})
        tried.append(tuple(chosen.values()))
    return tried


class TestAskAndTell:
    def test_what_is_told_is_found_by_other_workers(self, journal):
        first, second = opened(journal), opened(journal)
        number, chosen = first.ask(OPTIONS)
        assert set(chosen) == set(OPTIONS) and second.running() == 1
        first.tell(number, [0.5], {"accuracy": 0.75, "spec": [{"kind": "conv"}]})
        (found,) = second.finished()
        assert (found.number, found.values) == (0, (0.5,))
        assert found.about == {"accuracy": 0.75, "spec": [{"kind": "conv"}]}
        assert second.running() == 0 and second.settings == {"target": 5}

    @pytest.mark.parametrize("sampler", studies.SAMPLERS)
    def test_a_resumed_search_goes_on_as_one_that_was_not_interrupted(self, sampler):
        whole = go_on(in_memory()(sampler=sampler), 26)
        again = in_memory()
        parts = [go_on(again(sampler=sampler), 13) for _ in range(2)]
        assert parts[0] + parts[1] == whole
        assert len(set(whole)) > 15

    def test_the_seed_counts(self):
        tried = [go_on(in_memory()(seed=seed), 3) for seed in (0, 1)]
        assert tried[0] != tried[1]

    def test_workers_do_not_draw_the_same(self, journal):
        first, second = opened(journal, sampler="random"), opened(journal, sampler="random")
        drawn = [worker.ask(OPTIONS)[1] for _ in range(5) for worker in (first, second)]
        assert len({tuple(each.values()) for each in drawn}) == 10

    @pytest.mark.parametrize("sampler", ("tpe", "nsga2"))
    def test_samplers_do_better_than_chance(self, sampler):
        def mean(name):
            study = in_memory()(sampler=name)
            go_on(study, 60)
            return sum(trial.values[0] for trial in study.finished()[30:]) / 30

        assert mean(sampler) > mean("random") + 0.5

    def test_a_front_has_two_values(self, journal):
        study = opened(journal, directions=("maximize", "minimize"), sampler="nsga2")
        number, _ = study.ask(OPTIONS)
        study.tell(number, [0.5, 7.0], {})
        assert study.finished()[0].values == (0.5, 7.0)


class TestDeadWorkers:
    def test_their_trials_are_failed_and_count_for_nothing(self, journal):
        dead, alive = opened(journal, patience=0.3), opened(journal, patience=0.3)
        dead.ask(OPTIONS)
        number, _ = alive.ask(OPTIONS)
        assert alive.fail_lost() == [] and alive.running() == 2
        time.sleep(0.35)
        alive.renew()
        assert alive.fail_lost() == [0] and alive.running() == 1
        alive.tell(number, [1.0], {})
        assert [trial.number for trial in alive.finished()] == [1]

    def test_a_worker_that_renews_is_not_dead(self, journal):
        slow, other = opened(journal, patience=0.4), opened(journal, patience=0.4)
        slow.ask(OPTIONS)
        for _ in range(6):
            time.sleep(0.11)
            slow.renew()
            assert other.fail_lost() == []

    def test_one_that_was_only_asleep_loses_its_trial_and_goes_on(self, journal):
        asleep, other = opened(journal, patience=0.1), opened(journal)
        number, _ = asleep.ask(OPTIONS)
        second, _ = asleep.ask(OPTIONS)
        time.sleep(0.15)
        assert other.fail_lost() == [number, second]
        asleep.renew()
        asleep.tell(number, [1.0], {"accuracy": 1.0})
        asleep.fail(second, "it crashed")
        assert other.finished() == []
        assert len(go_on(asleep, 1)) == 1

    def test_one_that_died_in_the_moment_of_asking(self, journal, monkeypatch):
        dead, alive = opened(journal, patience=0.1), opened(journal, patience=0.1)
        monkeypatch.setattr(Study, "_note", lambda *_: None)  # nothing was noted yet
        dead.ask(OPTIONS)
        assert alive.fail_lost() == []
        time.sleep(0.15)
        assert alive.fail_lost() == [0]

    def test_a_failed_trial_says_why(self, journal):
        study = opened(journal)
        number, _ = study.ask(OPTIONS)
        study.fail(number, "it was killed")
        import optuna

        (trial,) = optuna.load_study(study_name="x", storage=open_storage(journal)).trials
        assert trial.state.name == "FAIL" and trial.user_attrs["reason"] == "it was killed"


class TestRefusals:
    def test_other_settings(self, journal):
        opened(journal)
        with pytest.raises(InputError, match="begun with target 5, and not 6: give the same"):
            Study(open_storage(journal), "x", settings={"target": 6})

    def test_a_study_that_is_not_there(self, journal):
        with pytest.raises(InputError, match="no study 'y' yet: run the search first"):
            Study(open_storage(journal), "y")

    @pytest.mark.parametrize(
        "place", ["nosuch://here", "sqlite:////nowhere/at/all.db", "grpc://localhost:port"]
    )
    def test_storages_that_cannot_be_opened(self, place):
        with pytest.raises(InputError, match=f"The storage '{place}' cannot be opened: "):
            open_storage(place)


def test_a_password_is_not_told():
    with pytest.raises(InputError, match="'postgresql://me:...@nowhere/x' cannot") as caught:
        open_storage("postgresql://me:secret@nowhere/x")
    assert "secret" not in str(caught.value)


def test_a_database(tmp_path):
    place = f"sqlite:///{tmp_path}/study.db"
    go_on(opened(place), 2)
    assert len(opened(place).finished()) == 2


@pytest.mark.filterwarnings("ignore")  # to Optuna it is an experiment
def test_the_proxy_of_optuna(journal):
    import socket
    import threading

    import optuna

    with socket.socket() as unused:
        unused.bind(("localhost", 0))
        port = unused.getsockname()[1]
    serve = functools.partial(
        optuna.storages.run_grpc_proxy_server, open_storage(journal), host="localhost", port=port
    )
    threading.Thread(target=serve, daemon=True).start()
    go_on(opened(f"grpc://localhost:{port}"), 2)
    assert len(opened(journal).finished()) == 2
