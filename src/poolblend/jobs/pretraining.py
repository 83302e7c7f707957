"""`backbone.mlm`: which backbones are trained on further, and how each stands in the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence

from poolblend.config import Config, Member
from poolblend.config.sections import Backbone
from poolblend.errors import UserError
from poolblend.jobs.failures import own_reason, traceback_of
from poolblend.jobs.pretrainer import Pretrainer
from poolblend.jobs.status import Look, judge
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import Competition
from poolblend.modeling.sources import Located
from poolblend.store import Store
from poolblend.store.backbones import content_sha256
from poolblend.training.fit import DivergedError
from poolblend.training.memory import release_memory

log = logging.getLogger(__name__)

NOT_YET = "not trained yet"  # in place of a hash
LOOK_AGAIN = 0.5  # seconds between two looks at a backbone that another process trains


class Pretraining:
    """The backbones of `members` that are trained on further; `located` are those they begin from.

    Raises UserError where two that differ have one name.
    """

    def __init__(
        self,
        config: Config,
        competition: Competition,
        store: Store,
        members: Sequence[Member],
        located: Mapping[str, Located],
        watch: Watch,
    ) -> None:
        self.store, self.watch = store, watch
        self._located, self._used = dict(located), _names(members)
        self._pretrainers = {
            member.backbone.name: Pretrainer(
                config, competition, store, member.backbone, located[member.name], watch
            )
            for member in members
            if member.name in self._used
        }
        self._finished: dict[str, Located] = {}
        self._failed: dict[str, str] = {}
        for name in self._pretrainers:
            if self.look(name).state == "finished":
                self._finish(name)

    @property
    def names(self) -> list[str]:
        """Of the backbones."""
        return list(self._pretrainers)

    @property
    def waiting(self) -> set[str]:
        """Names of the members whose backbone is not finished."""
        return {member for member, name in self._used.items() if name not in self._finished}

    def wanted(self, members: Collection[str]) -> list[str]:
        """The backbones that are not finished, of those that these members wait for."""
        waiting = self.waiting & set(members)
        return [name for name in self.names if name in {self._used[each] for each in waiting}]

    def located(self) -> dict[str, Located]:
        """Each member's backbone; one that is not finished is its source, with no hash of its own.

        So a fold that was trained on another one before is stale.
        """
        return {
            member: self._further(self._used[member], source) if member in self._used else source
            for member, source in self._located.items()
        }

    def _further(self, name: str, source: Located) -> Located:
        return self._finished.get(name, source._replace(weights_sha256=NOT_YET))

    def look(self, name: str) -> Look:
        """How the backbone stands where it would be trained now; all its bytes are read."""
        files, inputs = self.store.backbone(name), self._pretrainers[name].inputs
        return judge(f"backbone {name}", files.checkpoints, files.check, inputs)

    def stale(self) -> dict[str, str]:
        """The backbones that would be trained otherwise now, and what has changed."""
        looks = {name: self.look(name) for name in self._pretrainers}
        return {
            name: look.told.removeprefix(f"backbone {name} ").removeprefix("is stale: ")
            for name, look in looks.items()
            if look.state == "stale"
        }

    def refuse(self) -> None:
        """Raise UserError where training would overwrite what is there."""
        for name in self._pretrainers:
            _refuse(self.look(name))

    @property
    def unable(self) -> dict[str, str]:
        """Why members cannot be trained whose backbone could not be."""
        return {
            member: self._failed[name]
            for member, name in self._used.items()
            if name in self._failed
        }

    def rehearse(self, wanted: Collection[str]) -> None:
        """Try those of `wanted` that are not finished; one that fails is noted."""
        for name in wanted:
            self.watch.check()
            try:
                self._pretrainers[name].rehearse()
            except UserError as error:
                self._failed[name] = f"backbone {name} cannot be trained on further: {error}"

    def run(self, overwrite: bool, wanted: Collection[str]) -> None:
        """Train those of `wanted` that are not finished, or wait until another process has.

        One that fails for a reason of its own is noted, and the others go on. Raises UserError
        where training would overwrite something, unless it is to; Stopped, with all kept, when the
        watch says so.
        """
        for name in self._pretrainers:
            files, told = self.store.backbone(name), False
            lock = files.lock()
            if name in self._finished and not files.checkpoints.folder.exists():
                lock.sweep()
                continue
            if name not in self._finished and (name not in wanted or name in self._failed):
                continue
            while not lock.acquire(wait=False):
                if not told:
                    log.info("backbone %s is trained by %s; waiting for it", name, lock.holder())
                told = True
                self.watch.check()
                time.sleep(LOOK_AGAIN)
            try:
                self._settle(name, overwrite)
            finally:
                lock.release()

    def _settle(self, name: str, overwrite: bool) -> None:
        """Train the backbone unless it has been meanwhile; its lock is held."""
        look, checkpoints = self.look(name), self.store.backbone(name).checkpoints
        if look.replaces:
            if not overwrite:
                _refuse(look)
            log.info("trained again: %s", look.told)
        if not look.resumable:
            checkpoints.drop()
        if look.state != "finished" and not self._train(name):
            return
        checkpoints.drop()
        self._finish(name)

    def _train(self, name: str) -> bool:
        """Whether the backbone was trained; else why not is noted, and its checkpoints are kept."""
        try:
            self._pretrainers[name].train()
        except Exception as error:
            reason = own_reason(error)
            if reason is None:
                raise
            if isinstance(error, DivergedError):
                self.store.backbone(name).checkpoints.drop()  # they lead to the same end
            self._failed[name] = (
                reason if reason.startswith("backbone ") else f"backbone {name}: {reason}"
            )
            log.warning("%s", self._failed[name], exc_info=traceback_of(error))
        release_memory()
        return name not in self._failed

    def _finish(self, name: str) -> None:
        files = self.store.backbone(name)
        card = files.check()
        assert card is not None
        self._finished[name] = Located(files.folder, *content_sha256(card))


def _names(members: Sequence[Member]) -> dict[str, str]:
    """The names of the backbones that are trained on further, by those of their members.

    Raises UserError where two have one name; some disks tell no capital letters from small ones.
    """
    known: dict[str, Backbone] = {}
    for member in members:
        backbone = member.backbone
        if backbone.mlm and known.setdefault(backbone.name.lower(), backbone) != backbone:
            raise UserError(
                f"member {member.name}: two backbones with other settings are named "
                f"{backbone.name}; give one of them another `name`"
            )
    return {member.name: member.backbone.name for member in members if member.backbone.mlm}


def _refuse(look: Look) -> None:
    if look.state == "damaged":
        raise UserError(look.told)
    if look.state == "stale":
        raise UserError(
            f"{look.told}. Train it again with --overwrite, or give the backbone another `name` "
            "to keep both"
        )
