"""The cards of stored backbones: of one trained further (backbone.mlm), and of a copy."""

from __future__ import annotations

from typing import Any, ClassVar

from poolblend.cards.card import Card, CardPart
from poolblend.cards.fold import BackboneHashes
from poolblend.cards.inputs import FileHash, Inputs, hash_of_hashes
from poolblend.cards.provenance import Provenance
from poolblend.text_spec import TextSpec

WEIGHTS = ".safetensors"


class BackboneInputs(Inputs):
    """All that the weights depend on, except library versions and the machine."""

    source_sha256: str
    source_files_sha256: str
    tokenizer: str | None = None  # the tokenizer's file, if transformers would use another
    train_texts_sha256: str
    test_texts_sha256: str
    reading: TextSpec
    precision: str
    seed: int
    mlm: dict[str, Any]  # backbone.mlm of the config


class MlmEpoch(CardPart):
    """One epoch: mean loss, seconds, share of padding, loss on held-out texts."""

    number: int
    loss: float
    seconds: float
    padding: float
    held_out_loss: float


class HeldOutLoss(CardPart):
    """Loss on masked tokens of texts outside the training."""

    before: float
    after: float


class MlmRows(CardPart):
    train: int
    held_out: int


class StoredBackbone(Card):
    """A backbone in the store."""

    again: ClassVar[str]  # how to make it again, with its `name`

    backbone: str  # its name
    provenance: Provenance
    files: dict[str, FileHash]  # by path in the folder

    def hashes(self) -> BackboneHashes:
        """Hashes of its weights and of its other files."""
        weights = {name: file for name, file in self.files.items() if name.endswith(WEIGHTS)}
        others = {name: file for name, file in self.files.items() if name not in weights}
        return BackboneHashes(
            weights_sha256=hash_of_hashes(weights), files_sha256=hash_of_hashes(others)
        )


class BaseCard(StoredBackbone):
    """A copy of a backbone, on which fold models with frozen layers stand."""

    again = "train.py --overwrite writes it again"

    source: BackboneHashes


class BackboneCard(StoredBackbone):
    """The inputs, the course and the files of a pretraining."""

    again = "train backbone {name} again with --overwrite"

    inputs: BackboneInputs
    epochs: tuple[MlmEpoch, ...]
    rows: MlmRows
    held_out_loss: HeldOutLoss
    resumed_at_steps: tuple[int, ...] = ()
    batches_cut_into: int = 1
    device: str
    precision: str
    seconds: float
    config: dict[str, Any]
