"""The card of a checkpoint: whose it is, after which step, and all of the state but its tensors."""

from __future__ import annotations

from typing import Any

from poolblend.cards.card import Card
from poolblend.cards.inputs import FileHash
from poolblend.cards.provenance import Provenance


class CheckpointCard(Card):
    """A training between two optimizer steps; its tensors lie beside the card."""

    place: str  # <member>/checkpoints/<fold>/<step>
    step: int
    inputs: dict[str, Any]  # of the training, to know whether it may be resumed
    epochs: tuple[dict[str, Any], ...]  # finished ones, as the fold's card will hold them
    resumed: tuple[int, ...]  # steps at which the training was resumed before
    rest: dict[str, Any]  # of the state: what is not a tensor
    provenance: Provenance
    state: FileHash  # of the tensors' file
