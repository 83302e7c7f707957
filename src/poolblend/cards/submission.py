"""The card of a submission: its columns, and the blend that made it."""

from __future__ import annotations

from poolblend.cards.blend import BlendCard
from poolblend.cards.card import Card, CardPart
from poolblend.cards.inputs import FileHash
from poolblend.cards.provenance import Provenance
from poolblend.competition.positive import Positive


class BlendInUse(CardPart):
    """The blend that an artefact was made with; `written` distinguishes it from later ones."""

    blender: str
    metric: str
    sentence: str
    written: str

    @classmethod
    def of(cls, card: BlendCard) -> BlendInUse:
        return cls(
            blender=card.blender,
            metric=card.metric,
            sentence=card.sentence,
            written=card.provenance.written,
        )


class SubmissionCard(Card):
    """The card of a submission; `columns` has the content of each column, `values` its form.

    `refit` names the members whose model of all rows predicted, rather than those of their folds.
    """

    run: str
    values: str
    columns: dict[str, str]
    positive: Positive | None
    blend: BlendInUse
    weights: dict[str, float]
    refit: tuple[str, ...] = ()
    test_sha256: str
    rows: int
    device: str
    provenance: Provenance
    file: FileHash
