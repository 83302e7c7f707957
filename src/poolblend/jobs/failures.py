"""Folds that could not be trained for a reason of their own: noted, and the queue goes on."""

from __future__ import annotations

import logging

from poolblend.cards.provenance import now
from poolblend.config import Member
from poolblend.errors import PartlyFailedError, Stopped, UserError
from poolblend.jobs.trainer import Trainer
from poolblend.printing import grouped
from poolblend.store import UnwritableError
from poolblend.training.devices import device_works
from poolblend.training.fit import DivergedError

log = logging.getLogger(__name__)

LONGEST = 300  # characters of a reason that a library gave


def own_reason(error: Exception) -> str | None:
    """Why one fold failed, in one line; None for an error that every other fold would meet, too."""
    if isinstance(error, (Stopped, UnwritableError)):
        return None
    if isinstance(error, UserError):
        return " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "the machine is out of memory"
    if isinstance(error, OSError) and error.errno is not None:
        return None  # the system's: a disk, a network folder
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return reason if len(reason) <= LONGEST else f"{reason[:LONGEST]}…"


def traceback_of(error: Exception) -> Exception | None:
    """The error where its traceback belongs into the log: one that nobody has foreseen."""
    return None if isinstance(error, (UserError, MemoryError)) else error


class Failures:
    """The folds that this command could not train, each with its reason."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.reasons: dict[tuple[str, int], str] = {}

    def take(self, member: Member, fold: int, error: Exception) -> None:
        """Note the fold as failed, in the log and in the store; raise an error of every fold's."""
        name = member.name
        reason = own_reason(error)
        if reason is None:
            raise error
        traceback = traceback_of(error)
        seen = reason in self.reasons.values()
        log.warning(
            "%s fold %d failed: %s", name, fold, reason, exc_info=None if seen else traceback
        )
        self.add(name, fold, reason)
        store = self.trainer.store
        if isinstance(error, DivergedError):
            store.checkpoints(name, fold).drop()  # they lead to the same end
        written = now().isoformat(timespec="seconds")
        store.mark_failed(name, fold, reason, self.trainer.inputs(member), written)
        if traceback is not None and not device_works():
            raise UserError(
                f"the device does not compute any more after {name} fold {fold} failed ({reason}); "
                "the same command continues"
            )

    def add(self, name: str, fold: int, reason: str) -> None:
        """Count the fold as failed."""
        self.reasons[name, fold] = reason

    def check(self, n_jobs: int) -> None:
        """Raise PartlyFailedError where any fold failed, which is listed in the log first."""
        if not self.reasons:
            return
        lines = list(grouped(self.reasons))
        log.warning("%s", "\n".join(["", "failed:", *(f"  {line}" for line in lines)]))
        more = f" ({len(lines) - 1} more reasons above)" if len(lines) > 1 else ""
        raise PartlyFailedError(
            f"{len(self.reasons)} of {n_jobs} folds: {lines[0]}{more}; the same command tries them "
            "again, with --skip-failed it leaves them out"
        )
