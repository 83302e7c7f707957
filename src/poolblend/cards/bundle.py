"""The card of a bundle for inference elsewhere, and the note of what of it has been handed over."""

from __future__ import annotations

from poolblend.cards.blend import BlendMember
from poolblend.cards.card import Card, CardPart
from poolblend.cards.inputs import FileHash
from poolblend.cards.provenance import Provenance


class Agreement(CardPart):
    """Predictions of the out-of-fold rows by weights in half precision, beside the stored ones.

    Differences are between the predictions of fold models, as probabilities or in the units of the
    targets; scores are those of the blend.
    """

    rows: int
    largest: float
    mean: float
    metric: str
    score: float
    half_score: float

    def describe(self) -> str:
        """One line."""
        return (
            f"half precision on {self.rows} out-of-fold rows: predictions differ by "
            f"{self.largest:.2g} at most, {self.mean:.2g} on average; {self.metric} "
            f"{self.half_score:.5f}, with full precision {self.score:.5f}"
        )


class BundleCard(Card):
    """A bundle: the run's fold models that have weight, and what its notebook is to look for.

    `tables` are the files of the competition that inference reads. `files` are the bundle's, by
    path; `agreement` is None where weights are as they were trained.
    """

    run: str
    tables: tuple[str, ...]
    weights: dict[str, float]
    agreement: Agreement | None
    files: dict[str, FileHash]
    provenance: Provenance

    @staticmethod
    def weights_of(members: dict[str, BlendMember]) -> dict[str, float]:
        return {name: member.weight for name, member in members.items()}


class HandedOver(Card):
    """How far a bundle has been handed over to Kaggle.

    `dataset` is the fingerprint of the bundle that was uploaded, `notebook` the hash of the
    notebook that was pushed as `version`, None once that has failed; `submitted` is the last
    version that was submitted.
    """

    dataset: str | None = None
    notebook: str | None = None
    version: int | None = None
    submitted: int | None = None
