"""The card of a fold model: the inputs, the course and the files of its training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from pydantic import field_validator

from poolblend.cards.card import Card, CardPart
from poolblend.cards.inputs import FileHash, Inputs, hash_of_hashes
from poolblend.cards.member import AnyMember
from poolblend.cards.provenance import Provenance
from poolblend.competition.columns import Columns
from poolblend.competition.options import Swap
from poolblend.competition.positive import Positive
from poolblend.competition.tasks import Task
from poolblend.text_spec import TextColumns, TextSpec
from poolblend.training.recipes import switched_off


class FoldInputs(Inputs):
    """All that a fold model's weights depend on, except library versions and the machine.

    Hashes are None for files that the fold does not use.
    """

    train_sha256: str
    joins_sha256: str | None = None
    folds_sha256: str
    pseudo_labels_sha256: str | None = None
    test_sha256: str | None = None
    test_joins_sha256: str | None = None
    task: Task
    reading: TextSpec | TextColumns
    soft: tuple[str, ...] = ()
    weight: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    joins_on: tuple[str, ...] = ()
    swap: Swap | None = None  # columns that change places: rows are read in both orders
    backbone_sha256: str | None = None  # of the weights; the backbone's folder may change
    backbone_files_sha256: str | None = None
    backbone_mlm_sha256: str | None = None  # fingerprint of its pretraining, if any
    backbone_dtype: str | None = None  # of its weights; None: fp32
    tokenizer: str | None = None  # the tokenizer's file, if transformers would use another
    settings: dict[str, Any]  # the member's settings that its weights depend on

    def changes_since(self, old: Mapping[str, Any] | Inputs) -> list[str]:
        """What differs; a recipe that poolblend did not have then was switched off."""
        before = old.as_json() if isinstance(old, Inputs) else dict(old)
        own, settings = self.settings.get("train", {}), before.get("settings", {})
        off = {key: value for key, value in switched_off().items() if key in own}
        if off:
            before["settings"] = {**settings, "train": {**off, **settings.get("train", {})}}
        return super().changes_since(before)


class TokenCount(CardPart):
    """The number of tokens in the fold's own rows, and a hash of their ids."""

    count: int
    sha256: str


class RowCounts(CardPart):
    train: int
    valid: int


class EpochRecord(CardPart):
    """One epoch: mean loss, seconds, share of padding, score on the fold's rows."""

    number: int
    loss: float
    seconds: float
    padding: float
    score: float | None = None


class HeadRecord(CardPart):
    """The fit of a scikit-learn head."""

    seconds: float
    support_vectors: int | None = None


class StatesTime(CardPart):
    """How long the hidden states of a model's frozen layers took, for all rows of a table.

    Models whose states have one `fingerprint` share them: they are computed once. `seconds` are
    None where nobody timed them.
    """

    fingerprint: str
    rows: int
    seconds: float | None


class PredictionTime(CardPart):
    """How long a fold's model took to predict the fold's own rows, in the fastest of all epochs.

    Reading texts as tokens and loading the model are not counted; nor are stored states of frozen
    layers, which `states` has.
    """

    rows: int
    seconds: float
    states: StatesTime | None = None


class BackboneHashes(CardPart):
    """Hashes of the backbone's files when the training started."""

    weights_sha256: str
    files_sha256: str


class FoldBase(CardPart):
    """The stored backbone whose tensors the fold's own file leaves out."""

    folder: str  # in models/<run>: bases/<name>, or backbones/<name> after backbone.mlm
    weights: FileHash

    @field_validator("folder")
    @classmethod
    def _stays_in_the_run(cls, value: str) -> str:
        if not _is_inside(value):
            raise ValueError("a folder outside of the run's")
        return value


class FoldFileHashes(CardPart):
    """Hashes of the fold's files, except the card."""

    weights: FileHash
    oof: FileHash
    others: dict[str, FileHash]  # by path in the model folder: tokenizer, configuration
    base: FoldBase | None = None  # None: `weights` holds the whole model

    @field_validator("others")
    @classmethod
    def _stay_in_the_folder(cls, value: dict[str, FileHash]) -> dict[str, FileHash]:
        if not all(map(_is_inside, value)):
            raise ValueError("a file outside of the fold's folder")
        return value

    @property
    def others_sha256(self) -> str:
        """One hash of tokenizer and configuration."""
        return hash_of_hashes(self.others)


def _is_inside(name: str) -> bool:
    """Whether a relative path stays in its folder, and can be the name of a file."""
    path = PurePosixPath(name.replace("\\", "/"))
    return len(name) <= 255 and name.isprintable() and ".." not in path.parts and not path.root


class FoldCard(Card):
    """A finished fold: its model, its training, its out-of-fold predictions."""

    member: AnyMember
    fold: int
    inputs: FoldInputs
    backbone: BackboneHashes | None = None  # None for a model without an encoder
    seed: int  # of this fold's training: data order, dropout, new weights
    tokens: TokenCount | None = None  # None likewise
    rows: RowCounts
    metric: str
    positive: Positive | None = None
    score: float | None  # None if the metric is undefined on these rows
    device: str
    threads: int | None = None  # of the CPU; results of another number differ in the last digits
    precision: str  # of the training
    fp32_only: bool = False  # half precision failed, so that `auto` became fp32
    epochs: tuple[EpochRecord, ...] = ()
    kept_epoch: int | None = None  # with early stopping
    optimism: float | None = None  # how much the choice of that epoch improves its score
    resumed_at_steps: tuple[int, ...] = ()
    batches_cut_into: int = 1  # more than 1 if the device ran out of memory
    steps_skipped: int = 0  # optimizer steps whose gradients overflowed in fp16
    head: HeadRecord | None = None
    columns: Columns | None = None  # fitted transformation of numeric and categorical columns
    target_scaler: dict[str, tuple[float, ...]] | None = None
    reads_padding: bool = False  # padding changes predictions, so batches have equal lengths
    seconds: float
    prediction: PredictionTime | None = None
    config: dict[str, Any]
    provenance: Provenance
    files: FoldFileHashes

    @property
    def place(self) -> tuple[str, int]:
        """The member's name and the fold."""
        return self.member.name, self.fold


class FailureNote(Card):
    """Why the training of a fold from these inputs failed."""

    member: str
    fold: int
    reason: str
    inputs: dict[str, Any]
    written: str
