"""The card of stored hidden states: all that they depend on."""

from __future__ import annotations

from poolblend.cards.card import Card
from poolblend.cards.inputs import FileHash, Inputs


class HiddenStatesInputs(Inputs):
    """An encoder, the rows that it read, and how it computed."""

    backbone_sha256: str
    backbone_files_sha256: str
    rows_sha256: str  # of the rows' tokens, and of how they are cut into windows
    layers: tuple[int, ...]  # 0: the embeddings
    precision: str
    attention: str
    equal_lengths: bool  # rows were read without padding, since the encoder reads it


class HiddenStatesCard(Card):
    """The card beside a file of hidden states, an array (tokens, layers, hidden).

    `seconds` are what it took to compute them, None if unknown.
    """

    inputs: HiddenStatesInputs
    shape: tuple[int, int, int]
    file: FileHash
    seconds: float | None = None
