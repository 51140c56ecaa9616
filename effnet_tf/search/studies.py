"""How do workers on several machines share one search, whoever of them dies?

The engine is Optuna: it is asked what to try, and told what came of it. Its storage is all that
the workers share: a journal file on a disk of all, a database, or Optuna's gRPC proxy to one.

Optuna notices dead workers only with a database, and only where it runs the loop itself. So here a
worker says of each trial that it evaluates until when it is to be taken for alive, and says so
again while it lives. Whoever comes upon a trial whose time is over marks it as failed, and the
budget, which counts finished trials, has room for another.
"""

import contextlib
import dataclasses
import json
import os
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from effnet_tf import extras
from effnet_tf.errors import InputError, first_line, shown

PURPOSE = "Searching for architectures"
SAMPLERS = ("tpe", "nsga2", "random")
# Of a generation of NSGA-II; with Optuna's 50 a search of a hundred trials has but two.
POPULATION = 20
PATIENCE = 120.0  # seconds
GRPC = "grpc://"
_PASSWORD = re.compile(r":[^:@/]*@")
_SETTINGS, _ALIVE_UNTIL, _REASON = "settings", "alive_until", "reason"


@dataclasses.dataclass(frozen=True)
class Finished:
    """A trial that was evaluated.

    Attributes:
        number: in its study, from 0.
        values: of the study's directions.
        about: what was told beside the values.
    """

    number: int
    values: tuple[float, ...]
    about: dict[str, Any]


def open_storage(place: str) -> Any:
    """Returns the Optuna storage at a place.

    Args:
        place: a path, of a journal file; grpc://HOST:PORT, of `optuna.storages.
            run_grpc_proxy_server`; or a database as SQLAlchemy writes it, such as
            postgresql://USER:PASSWORD@HOST/NAME.

    Raises:
        InputError: it cannot be opened.
        MissingPackage: Optuna is not installed.
    """
    optuna = extras.load("optuna", PURPOSE)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return _opened(optuna.storages, place)
    except Exception as error:  # of drivers and networks it may be any
        # A password in the address is nobody's business; the error may repeat it.
        if "@" in place:
            raise InputError(
                f"The storage '{_PASSWORD.sub(':...@', place)}' cannot be opened: "
                f"{type(error).__name__}. Check the address, and that its driver is installed."
            ) from None
        raise InputError(f"The storage '{place}' cannot be opened: {first_line(error)}.") from error


def _opened(storages, place):
    if place.startswith(GRPC):
        host, _, port = place.removeprefix(GRPC).partition(":")
        storage = storages.GrpcStorageProxy(host=host, port=int(port or 13000))
        storage.wait_server_ready(timeout=20)
        return storage
    if "://" in place:
        return storages.RDBStorage(place)
    os.makedirs(os.path.dirname(os.path.abspath(place)), exist_ok=True)
    return storages.JournalStorage(storages.journal.JournalFileBackend(place))


class Study:
    """One search; made where there is none of its name yet.

    Args:
        storage: of `open_storage`.
        name: of the study in it.
        directions: "maximize" or "minimize" for each value that is told.
        settings: what all workers must have alike, what JSON can hold; None: those that it has.
        sampler: one of `SAMPLERS`.
        seed: of the sampler, whose draws are a function of it, the number of the trial, and what
            is finished by then.
        patience: seconds without a sign of life after which a worker is taken for dead; the
            clocks of the machines must agree better than that.

    Raises:
        InputError: it was begun with other settings; or it is not there, and settings are None.
    """

    def __init__(
        self,
        storage: Any,
        name: str,
        directions: Sequence[str] = ("maximize",),
        settings: Mapping[str, Any] | None = None,
        sampler: str = "tpe",
        seed: int = 0,
        patience: float = PATIENCE,
    ):
        self._optuna = extras.load("optuna", PURPOSE)
        self._sampler, self._seed, self._patience = sampler, seed, patience
        self._asked: dict[int, Any] = {}
        self._renewed = 0.0
        if settings is None:
            self._study = self._existing(storage, name)
            return
        self._study = self._optuna.create_study(
            storage=storage, study_name=name, directions=list(directions), load_if_exists=True
        )
        self._agree(json.loads(json.dumps(settings)))

    def _existing(self, storage, name):
        try:
            return self._optuna.load_study(storage=storage, study_name=name)
        except KeyError:
            raise InputError(f"There is no study '{name}' yet: run the search first.") from None

    def _agree(self, settings):
        """Keeps the settings of a new study, or compares them with what was kept."""
        if _SETTINGS not in self._study.user_attrs:
            self._study.set_user_attr(_SETTINGS, settings)
        begun = self.settings
        for key in settings:
            if begun.get(key) != settings[key]:
                raise InputError(
                    f"The study '{self._study.study_name}' was begun with {key} "
                    f"{shown(repr(begun.get(key)))}, and not {shown(repr(settings[key]))}: give "
                    "the same, or begin another study."
                )

    @property
    def settings(self) -> dict[str, Any]:
        """What the study was begun with."""
        return self._study.user_attrs[_SETTINGS]

    # --- ask and tell -----------------------------------------------------------------------

    def ask(self, options: Mapping[str, Sequence]) -> tuple[int, dict[str, Any]]:
        """Begins a trial.

        Args:
            options: values of each choice, by its name.

        Returns:
            The number of the trial, and the value of each choice.
        """
        trial = self._study.ask()
        # A fresh sampler for every trial: a search that is resumed does not draw again what it
        # has drawn, nor does another worker. Optuna 5 asks it when the first value is wanted.
        self._study.sampler = self._sampler_of(trial.number)
        self._asked[trial.number] = trial
        self._note(trial, _ALIVE_UNTIL, time.time() + self._patience)
        return trial.number, {
            name: trial.suggest_categorical(name, list(values)) for name, values in options.items()
        }

    def _sampler_of(self, number):
        samplers, seed = self._optuna.samplers, 1_000_003 * self._seed + number
        if self._sampler == "tpe":
            return samplers.TPESampler(seed=seed)
        if self._sampler == "nsga2":
            return samplers.NSGAIISampler(population_size=POPULATION, seed=seed)
        return samplers.RandomSampler(seed=seed)

    def renew(self) -> None:
        """Says of the trials that this worker evaluates that it lives; to be called often."""
        now = time.time()
        if now - self._renewed < self._patience / 4:
            return
        self._renewed = now
        for trial in self._asked.values():
            self._note(trial, _ALIVE_UNTIL, now + self._patience)

    def tell(self, number: int, values: Sequence[float], about: Mapping[str, Any]) -> None:
        """Ends a trial with its values, and keeps what is known about it."""
        trial = self._asked.pop(number)
        for key, value in about.items():
            self._note(trial, key, value)
        self._study.tell(trial, list(values), skip_if_finished=True)

    def fail(self, number: int, reason: str) -> None:
        """Ends a trial without a result."""
        trial = self._asked.pop(number)
        self._note(trial, _REASON, reason)
        self._study.tell(trial, state=self._state("FAIL"), skip_if_finished=True)

    def fail_own(self, reason: str) -> None:
        """Ends all trials that this worker has begun and not ended."""
        for number in list(self._asked):
            self.fail(number, reason)

    def _note(self, trial, key, value):
        """Keeps something of a trial, but for one that was taken away: we seemed to be dead."""
        with contextlib.suppress(self._optuna.exceptions.UpdateFinishedTrialError):
            trial.set_user_attr(key, value)

    # --- looking ----------------------------------------------------------------------------

    def fail_lost(self) -> list[int]:
        """Marks the trials of dead workers as failed; returns their numbers."""
        lost = []
        for trial in self._trials("RUNNING"):
            # One without a time has been begun by a worker in this moment, or by one that died
            # in it: it counts from its beginning.
            until = trial.user_attrs.get(_ALIVE_UNTIL)
            if until is None:
                until = trial.datetime_start.timestamp() + self._patience
            if until < time.time() and trial.number not in self._asked:
                self._study.tell(trial.number, state=self._state("FAIL"), skip_if_finished=True)
                lost.append(trial.number)
        return lost

    def running(self) -> int:
        """Returns how many trials are being evaluated, by all workers."""
        return len(self._trials("RUNNING"))

    def finished(self) -> list[Finished]:
        """Returns the trials that were evaluated, in the order of their numbers."""
        return [
            Finished(trial.number, tuple(trial.values), _without(trial.user_attrs, _ALIVE_UNTIL))
            for trial in self._trials("COMPLETE")
        ]

    def _trials(self, state):
        return self._study.get_trials(deepcopy=False, states=[self._state(state)])

    def _state(self, name):
        return getattr(self._optuna.trial.TrialState, name)


def _without(attributes, name):
    return {key: value for key, value in attributes.items() if key != name}
