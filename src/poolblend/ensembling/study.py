"""A search's trials as an Optuna study on disk, so that a killed search is continued.

Trials go into Optuna's journal, a file of one JSON line per finished trial, which optuna-dashboard
opens as well. Only plain numbers are written: samplers keep their state, which Optuna would pickle,
in memory.

Legend: M members.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from poolblend import __version__
from poolblend.ensembling.journal import SEAL, check_journal, seal
from poolblend.ensembling.problem import BlendProblem, Trial
from poolblend.errors import UserError
from poolblend.store.files import cut_torn_line
from poolblend.store.locks import ProcessLock

SEARCH = "search"
BATCH, INTERVAL = 25, 1.0  # trials, or seconds, between two writes: what a kill can cost
FEWEST_FOR_IMPORTANCE = 20


class Scored(NamedTuple):
    """A finished trial: the blender whose weights it took, or "search", and what they score."""

    source: str
    weights_M: np.ndarray
    loss: float


class Study:
    """Trials kept nowhere; `entrant` tells the processes apart that are at the study together.

    A search that is taken up after a kill is the entrant that it was.
    """

    entrant = 0

    def trials(self) -> list[Scored]:
        """All trials of the search, in the study's order, those of other processes among them."""
        return []

    def keep(self, trial: Scored) -> int:
        """Keep a trial; how many others have finished since the last one kept."""
        return 0


class _SharedStudy(Study):
    """Trials kept in a journal, together with those of other processes on the same problem."""

    def __init__(self, problem: BlendProblem, starts: Sequence[Scored]) -> None:
        assert problem.study is not None
        self._names = problem.members or tuple(f"member {m}" for m in range(problem.n_members))
        self._sign = -1 if problem.scorer.better == "max" else 1
        self._unsaved: list[Scored] = []
        self._path = problem.study.path
        name = f"{problem.study.label} [{_digest(problem, starts)}]"
        with _refusing(self._path):
            self._study = _open_journal(self._path, name, self._sign < 0)
        self._seen = len(self.trials())
        self._place: ProcessLock | None = None
        if self._seen < problem.trials:
            with _refusing(self._path):
                self.entrant, self._place = self._join()
                if not self.entrant:
                    told = self._study.get_trials(deepcopy=False)
                    sources = [each.user_attrs.get("source") for each in told]
                    n_starts = sum(source not in (None, SEARCH) for source in sources)
                    self._write(starts[n_starts:])

    def leave(self) -> None:
        """Save what was kept, and give the entrant's place up."""
        try:
            self.trials()
        finally:
            if self._place is not None:
                self._place.release()
            for left in self._path.parent.glob(f".{escape(self._path.name)}.*.lock"):
                left.unlink(missing_ok=True)

    def trials(self) -> list[Scored]:
        with _refusing(self._path):
            self._save()
            found = self._study.get_trials(deepcopy=False)
            return [self._scored(each) for each in found if each.user_attrs.get("source") == SEARCH]

    def keep(self, trial: Scored) -> int:
        self._unsaved.append(trial)
        if len(self._unsaved) < BATCH and time.monotonic() - self._saved < INTERVAL:
            return 0
        own = self._seen + len(self._unsaved)
        self._seen = len(self.trials())
        return self._seen - own

    def _join(self) -> tuple[int, ProcessLock]:
        """The first place that no living process has, and the lock on it."""
        for entrant in itertools.count():
            place = ProcessLock(self._path.with_name(f".{self._path.name}.{entrant}.lock"))
            if place.acquire(wait=False):
                return entrant, place
        raise AssertionError

    def _save(self) -> None:
        unsaved, self._unsaved = self._unsaved, []
        self._write(unsaved)
        self._saved = time.monotonic()

    def _write(self, trials: Sequence[Scored]) -> None:
        from optuna.distributions import FloatDistribution
        from optuna.trial import TrialState, create_trial

        share = FloatDistribution(0, 1)
        for trial in trials:
            known = math.isfinite(trial.loss)  # a metric without a value is a trial that failed
            value = self._sign * trial.loss if known else None
            params = dict(zip(self._names, trial.weights_M.tolist(), strict=True))
            self._study.add_trial(
                create_trial(
                    state=TrialState.COMPLETE if known else TrialState.FAIL,
                    value=value,
                    params=params,
                    distributions=dict.fromkeys(self._names, share),
                    user_attrs={
                        "source": trial.source,
                        SEAL: seal(trial.source, params, value),
                    },
                )
            )

    def _scored(self, trial: Any) -> Scored:
        weights_M = np.array([trial.params[name] for name in self._names])
        loss = math.inf if trial.value is None else self._sign * trial.value
        return Scored(SEARCH, weights_M, loss)


@contextmanager
def open_study(problem: BlendProblem, starts: Sequence[Scored]) -> Iterator[Study]:
    """The problem's study with all that it holds already; on leaving, what was kept is saved.

    Raises UserError for a file that is damaged, is no study, or is out of reach.
    """
    if problem.study is None:
        yield Study()
        return
    with quiet_optuna():
        study = _SharedStudy(problem, starts)
        try:
            yield study
        finally:
            study.leave()


def importances(
    history: Sequence[Trial], members: Sequence[str], seed: int = 42
) -> dict[str, float]:
    """How much of a search's ups and downs each member's weight explains, the most first.

    Optuna's mean decrease of impurity; nothing where there are too few trials or all score alike.
    """
    import optuna

    searched = [trial for trial in history if trial.source == SEARCH and math.isfinite(trial.loss)]
    losses = [trial.loss for trial in searched]
    if len(searched) < FEWEST_FOR_IMPORTANCE or min(losses) == max(losses):
        return {}
    share = optuna.distributions.FloatDistribution(0, 1)
    with quiet_optuna():
        study = optuna.create_study()
        for trial in searched:
            study.add_trial(
                optuna.trial.create_trial(
                    value=trial.loss,
                    params=dict(zip(members, trial.weights_M, strict=True)),
                    distributions=dict.fromkeys(members, share),
                )
            )
        evaluator = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=seed)
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Optuna says nothing meanwhile, and its log level is as it was afterwards."""
    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def _open_journal(path: Path, name: str, maximize: bool) -> Any:
    """The study of that name in a journal whose last line, if a kill tore it, has been cut off."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    lock: Any = ProcessLock(path.with_name(f".{path.name}.lock"))
    lock.acquire()
    try:
        cut_torn_line(path)
        check_journal(path)
    finally:
        lock.release()
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    with suppress(KeyError):  # not made yet
        return optuna.load_study(storage=storage, study_name=name)
    return optuna.create_study(
        storage=storage,
        study_name=name,
        direction="maximize" if maximize else "minimize",
        load_if_exists=True,  # another process may have been quicker
    )


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn whatever Optuna makes of a bad file into the one line that tells what to do."""
    try:
        yield
    except (OSError, ValueError, LookupError, TypeError, AssertionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise UserError(
            f"the study {path} cannot be used ({reason}), expected a file that the search wrote, "
            "in a folder that can be written; delete it, and the search begins anew"
        ) from error


def _digest(problem: BlendProblem, starts: Sequence[Scored]) -> str:
    """What a trial's loss depends on, in 16 hex digits: other inputs are another study."""
    facts = (
        __version__,
        problem.scorer.name,
        problem.scorer.task,
        problem.space.name,
        problem.cuts,
        problem.members,
        problem.seed,
        [start.source for start in starts],
        problem.z_MNK.shape,
    )
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=8)
    for array in (problem.z_MNK, problem.y):
        digest.update(array.dtype.str.encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
