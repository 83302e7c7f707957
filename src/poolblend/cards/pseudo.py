"""The card of pseudo-labels: the models and weights that made them, for each fold."""

from __future__ import annotations

from poolblend.cards.blend import Weighting
from poolblend.cards.card import Card, CardPart
from poolblend.cards.inputs import FileHash
from poolblend.cards.provenance import Provenance
from poolblend.cards.submission import BlendInUse
from poolblend.competition.tasks import Task


class PseudoMember(CardPart):
    """The fold model that predicted, and its weight in the mixture."""

    fold: int
    weight: float
    weights_sha256: str


class PseudoFold(CardPart):
    """The labels for the training of `fold`: blended by weights fitted `without` that fold."""

    fold: int
    without: int
    members: dict[str, PseudoMember]
    mixture: Weighting


class PseudoCard(Card):
    """The card of a set of pseudo-labels; `files` has one file per fold, added when written."""

    run: str
    name: str
    train_sha256: str
    joins_sha256: str | None = None
    test_sha256: str
    test_joins_sha256: str | None = None
    folds_sha256: str
    task: Task
    blend: BlendInUse
    folds: tuple[PseudoFold, ...]
    provenance: Provenance
    files: tuple[FileHash, ...] = ()

    def same_labels(self, other: PseudoCard) -> bool:
        """Whether both come from the same competition, models and weights."""
        rest = {"blend", "provenance", "files"}
        return self.model_dump(exclude=rest) == other.model_dump(exclude=rest)
