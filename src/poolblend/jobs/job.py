"""A job is a value: all that one unit of work needs, which can be written down and sent elsewhere.

`read_job(job.model_dump_json())` gives the job again, in this process or in another one. Whether
the store already holds a job's result is its status; doing it is the worker's affair.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from poolblend.cards.backbone import BackboneInputs
from poolblend.cards.card import DamagedError
from poolblend.cards.fold import FailureNote, FoldInputs
from poolblend.cards.fold_names import fold_name
from poolblend.cards.inputs import Inputs
from poolblend.cards.provenance import now
from poolblend.config import AnyMember, Config, Member, derive_seed
from poolblend.modeling.options import Backbone
from poolblend.store import Store
from poolblend.store.backbones import Trained
from poolblend.store.foldfiles import FoldFiles


class JobStatus(NamedTuple):
    """Whether the store holds a job's result; `message` says what is damaged or has changed.

    `resumable` says whether there is a checkpoint to resume from; `failed` is the note of an
    attempt from the same inputs that failed.
    """

    state: Literal["missing", "finished", "damaged", "stale"]
    message: str = ""
    resumable: bool = False
    failed: FailureNote | None = None

    @property
    def replaces(self) -> bool:
        """Whether doing the job would overwrite something, which must be asked for."""
        return self.state in ("damaged", "stale")


class TrainingJob(BaseModel):
    """What the jobs that train have in common."""

    model_config = ConfigDict(frozen=True)

    config: Config
    # That the training computes in: the config's, or fp32 where a trial found that `auto` fails.
    precision: Literal["auto", "fp32", "bf16", "fp16"]

    @property
    def name(self) -> str:
        """Names the job among those of its run."""
        raise NotImplementedError

    @property
    def waits_for(self) -> tuple[str, ...]:
        """Names of the jobs whose results it needs."""
        return ()

    def depends_on(self) -> Inputs:
        """All that its result depends on."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Hex sha256 of what it depends on: jobs that give the same result have the same."""
        return self.depends_on().fingerprint()

    def note_failure(self, store: Store, reason: str) -> None:
        """Keep in the store why the job failed."""

    def files(self, store: Store) -> FoldFiles | Trained:
        """Where its result, its checkpoints and its lock are."""
        raise NotImplementedError

    def status(self, store: Store, *, hashes: bool = False) -> JobStatus:
        """How the store stands to this job; with `hashes`, all bytes of a result are read."""
        files = self.files(store)
        newest = files.checkpoints.newest()
        since = "; ".join(self.depends_on().changes_since(newest.card.inputs)) if newest else ""
        resumable = newest is not None and not since
        try:
            changes = self._changes(store, hashes=hashes)
        except DamagedError as error:
            return JobStatus("damaged", str(error), resumable)
        if changes:
            return JobStatus("stale", f"{self.name} is stale: {'; '.join(changes)}", resumable)
        if changes is not None:
            return JobStatus("finished")
        if since:
            message = f"{self.name} has a checkpoint of another training: {since}"
            return JobStatus("stale", message)
        return JobStatus("missing", resumable=resumable)

    def _changes(self, store: Store, *, hashes: bool) -> list[str] | None:
        """The changes since the result was made; None if there is no result."""
        raise NotImplementedError


class BackboneJob(TrainingJob):
    """Continued masked-language-model training of one backbone, on the texts of train and test."""

    kind: Literal["backbone"] = "backbone"
    backbone: Backbone
    inputs: BackboneInputs

    @property
    def name(self) -> str:
        return f"backbone {self.backbone.name}"

    def depends_on(self) -> Inputs:
        return self.inputs

    def files(self, store: Store) -> Trained:
        return store.backbone(self.backbone.name)

    def _changes(self, store: Store, *, hashes: bool) -> list[str] | None:
        card = self.files(store).check()
        return None if card is None else self.inputs.changes_since(card.inputs)


class FoldJob(TrainingJob):
    """Training of one member's model of one fold."""

    kind: Literal["fold"] = "fold"
    member: AnyMember
    fold: int
    inputs: FoldInputs
    standalone: bool = False  # the whole model is stored, also what its backbone has

    @property
    def name(self) -> str:
        return f"{self.member.name} {fold_name(self.fold)}"

    @property
    def encoder_member(self) -> Member:
        """The member, for whatever is done with its encoder alone."""
        assert isinstance(self.member, Member)
        return self.member

    @property
    def trained_backbone(self) -> str | None:
        """The name of the backbone that is trained further first, if there is one."""
        member = self.member
        return member.backbone.name if isinstance(member, Member) and member.backbone.mlm else None

    @property
    def waits_for(self) -> tuple[str, ...]:
        return () if self.trained_backbone is None else (f"backbone {self.trained_backbone}",)

    @property
    def seed(self) -> int:
        """The seed that all chance of this training comes from."""
        return derive_seed(self.member.seed, "fold", self.fold)

    def depends_on(self) -> Inputs:
        return self.inputs

    def files(self, store: Store) -> FoldFiles:
        return store.fold(self.member.name, self.fold)

    def status(self, store: Store, *, hashes: bool = False) -> JobStatus:
        status = super().status(store, hashes=hashes)
        note = None if status.state == "finished" else self.files(store).failure()
        same = note is not None and not self.inputs.changes_since(note.inputs)
        return status._replace(failed=note) if same else status

    def note_failure(self, store: Store, reason: str) -> None:
        note = FailureNote(
            member=self.member.name,
            fold=self.fold,
            reason=reason,
            inputs=self.inputs.as_json(),
            written=now().isoformat(timespec="seconds"),
        )
        self.files(store).mark_failed(note)

    def _changes(self, store: Store, *, hashes: bool) -> list[str] | None:
        files = self.files(store)
        card = files.check() if hashes and files.card() else files.card()
        if card is None:
            return None
        changes = self.inputs.changes_since(card.inputs)
        if self.trained_backbone is not None and not changes:
            with suppress(DamagedError):  # its own job says so
                trained = store.backbone(self.trained_backbone).card()
                if trained is not None and trained.hashes() != card.backbone:
                    changes = ["backbone has changed"]
        return changes


Job = BackboneJob | FoldJob
_ANY: TypeAdapter[Job] = TypeAdapter(Annotated[Job, Field(discriminator="kind")])


def read_job(text: str) -> Job:
    """The job that `model_dump_json` wrote."""
    return _ANY.validate_json(text)
