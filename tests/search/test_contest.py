"""Who wins, and what is reported beside it: everything a function of the table."""

import dataclasses
import json
import zlib

import numpy as np
import pytest

import effnet_tf
from effnet_tf.search import Settings, question, verdict
from effnet_tf.search.contest import Contest
from effnet_tf.search.filling import missing
from effnet_tf.search.question import Question
from effnet_tf.search.rows import Table, row_of
from tests.search.few_images import BASE

ASKED = Question(
    dataclasses.replace(BASE, num_classes=3),
    "Colours",
    "0123",
    factor=2.0,
    tolerance=0.2,
    seeds=4,
    folds=3,
    most=12,
    settings=Settings(epochs=1),
)


def pretended(wanted):
    """An accuracy as a training might give it: wide networks are better, seeds differ."""
    text = f"{wanted.candidate.name} {wanted.fold} {wanted.seed}"
    noise = zlib.crc32(text.encode()) / 2**32
    return 0.5 + 0.1 * (wanted.candidate.width - 1) + 0.02 * noise


class Pretender:
    """Fills a table with pretended accuracies, and notes what it was asked for."""

    def __init__(self, table):
        self.table, self.trained = table, []

    def __call__(self, wanted):
        for each in missing(self.table, wanted):
            self.trained.append(each)
            self.table.add([row_of(each.candidate, *each[:1], *each[2:], pretended(each))])


def run(table):
    pretender = Pretender(table)
    contest = Contest(ASKED, table, pretender)
    most = contest.trainings()
    outcome = contest.run()
    assert len(pretender.trained) <= most
    return outcome, pretender.trained


def test_halving_leaves_the_better_half():
    outcome, trained = run(Table())
    candidates, _ = ASKED.candidates()
    by_rung = {}
    for each in trained:
        by_rung.setdefault(each.rung, {}).setdefault(each.candidate.name, set()).add(each.seed)
    assert set(by_rung["0"]) == {each.name for each in candidates}
    assert all(seeds == {0} for seeds in by_rung["0"].values())
    first = {each.candidate: pretended(each) for each in trained if each.rung == "0"}
    better = sorted(first, key=first.get, reverse=True)[: -(-len(first) // 2)]
    assert set(by_rung["1"]) == {each.name for each in better}
    assert [each.name for each in outcome.finalists][0] == outcome.chosen.name
    means = [
        np.mean([pretended(w) for w in trained if w.candidate == each and w.rung in "012"])
        for each in outcome.finalists
    ]
    assert means == sorted(means, reverse=True)


def test_the_report_is_of_seeds_and_folds_that_chose_nothing():
    outcome, trained = run(Table())
    chose = {(each.fold, each.seed) for each in trained if each.rung != "final"}
    report = {(each.fold, each.seed) for each in trained if each.rung == "final"}
    assert {fold for fold, _ in chose} == {0} and {fold for fold, _ in report} == {1, 2}
    assert not {seed for _, seed in chose} & {seed for _, seed in report}
    assert {"base", "random, median", "random, best", "chosen"} <= set(outcome.roles)
    assert {"depth only", "resolution only"} <= set(outcome.roles)
    for each in outcome.roles.values():
        names = {(w.fold, w.seed) for w in trained if w.rung == "final" and w.candidate == each}
        assert names == report  # paired


def test_random_choice_has_the_same_budget():
    outcome, trained = run(Table())
    halving = [each for each in trained if each.rung not in ("random", "final")]
    assert len(outcome.drawn) == min(len(halving) // 4, len(outcome.candidates))
    best = max(
        outcome.drawn,
        key=lambda each: np.mean(
            [pretended(w) for w in trained if w.candidate == each and w.rung != "final"]
        ),
    )
    assert outcome.roles["random, best"] == outcome.drawn[0] == best


def test_the_same_table_gives_the_same_answer_and_trains_nothing():
    table = Table()
    first, _ = run(table)
    again, trained = run(table)
    assert trained == [] and again == first
    answers = [verdict.judge(ASKED, table, each) for each in (first, again)]
    assert answers[0] == answers[1]
    json.dumps(verdict.to_dict(answers[0]))


def test_the_answer_is_that_of_the_rows():
    table = Table()
    outcome, _ = run(table)
    answer = verdict.judge(ASKED, table, outcome)
    fresh = {
        role: [r.accuracy for r in table.rows if r.rung == "final" and r.candidate == each.name]
        for role, each in outcome.roles.items()
    }
    for role, values in fresh.items():
        assert answer.accuracies[role].mean == pytest.approx(np.mean(values))
        assert answer.accuracies[role].low <= np.mean(values) <= answer.accuracies[role].high
    difference = np.mean(fresh["chosen"]) - np.mean(fresh["base"])
    assert answer.differences["base"].mean == pytest.approx(difference)
    assert answer.beta == outcome.chosen.width and answer.scaling().beta == answer.beta
    for name in ("alpha", "beta", "gamma"):
        low, high = answer.intervals[name]
        assert 1 <= low <= getattr(answer, name) <= high
    text = "\n".join(verdict.describe(ASKED, answer, outcome.roles))
    assert f"beta  {answer.beta:.3f}" in text and "random, best" in text


class TestTheQuestionOfAFolder:
    def test_it_is_read_as_it_was_written(self, tmp_path):
        question.claim(str(tmp_path / "new" / "folder"), ASKED)
        assert question.read(str(tmp_path / "new" / "folder")) == ASKED
        question.claim(str(tmp_path / "new" / "folder"), ASKED)

    @pytest.mark.parametrize(
        "change, message",
        [
            (
                dict(tolerance=0.1),
                "another tolerance, 0.2 instead of 0.1: choose another --workdir",
            ),
            (dict(digest="9"), "another digest"),
            (dict(settings=Settings(epochs=2)), "another settings, epochs 1, .* of epochs 2"),
            (dict(base=BASE), "another base, 'few' or other numbers"),
        ],
    )
    def test_another_one_is_refused(self, change, message, tmp_path):
        question.claim(str(tmp_path), ASKED)
        with pytest.raises(effnet_tf.InputError, match=message):
            question.claim(str(tmp_path), dataclasses.replace(ASKED, **change))
        assert question.read(str(tmp_path)) == ASKED

    def test_there_is_none(self, tmp_path):
        with pytest.raises(effnet_tf.InputError, match="There is no search of coefficients in"):
            question.read(str(tmp_path / "nowhere"))

    @pytest.mark.parametrize("text", ["{", "[]", '{"base": 3}', "null"])
    def test_what_is_none(self, text, tmp_path):
        (tmp_path / question.FILE).write_text(text)
        with pytest.raises(effnet_tf.InputError, match="not the question of a search"):
            question.read(str(tmp_path))


@pytest.mark.parametrize(
    "change, message",
    [(dict(seeds=1), "seeds is 1; it must be at least 2"), (dict(folds=1), "folds is 1")],
)
def test_bad_numbers(change, message):
    with pytest.raises(effnet_tf.InputError, match=message):
        dataclasses.replace(ASKED, **change)
