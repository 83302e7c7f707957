"""Jobs that fail for a reason of their own: noted, while the others go on."""

from __future__ import annotations

import logging

from poolblend.cards.fold_names import grouped
from poolblend.errors import PartlyFailedError, Stopped, UserError
from poolblend.jobs.job import FoldJob, Job
from poolblend.store import Store, UnwritableError
from poolblend.training.devices import device_works
from poolblend.training.fit import DivergedError

log = logging.getLogger(__name__)

LONGEST = 300  # characters of a reason that a library gave


def own_reason(error: Exception) -> str | None:
    """Why one job failed, in one line; None for an error that every other job would meet, too."""
    if isinstance(error, (Stopped, UnwritableError)):
        return None
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MemoryError):
        return "the machine is out of memory"
    if isinstance(error, OSError) and error.errno is not None:
        return None  # the system's: a disk, a network folder
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}…"


class Noted:
    """Notes failures where the jobs are done."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._reasons: set[str] = set()

    def take(self, job: Job, error: Exception) -> str:
        """Note the job as failed, in the log and in the store; raise an error that is not its own.

        Returns the reason. The traceback is logged for an error that nobody has foreseen.
        """
        reason = own_reason(error)
        if reason is None:
            raise error
        foreseen = isinstance(error, (UserError, MemoryError))
        seen = reason in self._reasons
        log.warning("%s failed: %s", job.name, reason, exc_info=None if seen or foreseen else error)
        self._reasons.add(reason)
        if isinstance(error, DivergedError):
            job.files(self.store).checkpoints.drop()  # they lead to the same end
        job.note_failure(self.store, reason)
        if not foreseen and not device_works():
            raise UserError(
                f"the device does not compute any more after {job.name} failed ({reason}); the "
                "same command continues"
            )
        return reason


class Failures:
    """The jobs that this command could not do, by name, each with its reason."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self._folds: dict[tuple[str, int], str] = {}

    def add(self, job: Job, reason: str) -> None:
        """Count the job as failed."""
        self.reasons[job.name] = reason
        if isinstance(job, FoldJob):
            self._folds[job.member.name, job.fold] = reason

    def check(self, n_folds: int) -> None:
        """Raise PartlyFailedError where any fold failed; the log lists them first."""
        if not self._folds:
            return
        lines = list(grouped(self._folds))
        log.warning("%s", "\n".join(["", "failed:", *(f"  {line}" for line in lines)]))
        more = " (all reasons are listed above)" if len(lines) > 1 else ""
        raise PartlyFailedError(
            f"{len(self._folds)} of {n_folds} folds: {lines[0]}{more}; the same command tries them "
            "again, with --skip-failed it leaves them out"
        )
