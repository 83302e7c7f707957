"""The card of a checkpoint: its training and step, and the state except the tensors."""

from __future__ import annotations

from typing import Any

from poolblend.cards.card import Card
from poolblend.cards.inputs import FileHash
from poolblend.cards.provenance import Provenance


class CheckpointCard(Card):
    """The state of a training between two optimizer steps; the tensors are in a file beside it."""

    place: str  # <member>/checkpoints/<fold>/<step>
    step: int
    inputs: dict[str, Any]  # of the training; it is only resumed from equal inputs
    epochs: tuple[dict[str, Any], ...]  # finished epochs, as in the fold's card
    resumed: tuple[int, ...]  # steps at which the training was resumed before
    rest: dict[str, Any]  # the part of the state that is not tensors
    provenance: Provenance
    state: FileHash  # of the file of tensors
