"""Run fold models from the store over a table: each loaded once, used, and freed.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from poolblend.cards.fold import FoldCard, TokenCount
from poolblend.config.training import Head
from poolblend.errors import UserError
from poolblend.loading.models import new_objective
from poolblend.loading.texts import Texts
from poolblend.modeling import backbone
from poolblend.modeling.frozen_heads import SUPPORT
from poolblend.modeling.model import TextModel, build_model
from poolblend.store import Store
from poolblend.store.foldfiles import FoldFiles
from poolblend.training.batches import Encoded
from poolblend.training.devices import (
    Precision,
    choose_device,
    out_of_memory,
    resolve_precision,
)
from poolblend.training.encoding import digest
from poolblend.training.memory import enough_memory, release_memory
from poolblend.training.objectives import Objective
from poolblend.training.prediction import predict
from poolblend.training.units import Unit
from poolblend.training.vectors import pooled_vectors

log = logging.getLogger(__name__)

# Of a model, a table's tokens and the fold's card; batch_tokens, progress and precision by name.
Work = Callable[..., np.ndarray]


class FoldModels:
    """The store's models over the rows of `texts`; what a model is, its own card says.

    Not whether code that comes with it may run: a store may be from elsewhere.
    """

    def __init__(
        self, store: Store, texts: Texts, batch_tokens: int, *, remote_code: bool = False
    ) -> None:
        self.store, self.texts, self.batch_tokens = store, texts, batch_tokens
        self.remote_code = remote_code

    def predict(
        self, member: str, fold: int, rows: np.ndarray, progress: str | None = None
    ) -> np.ndarray:
        """Predictions (N, K) of the table's rows at `rows`."""

        def work(model: TextModel, encoded: Encoded, card: FoldCard, **how: Any) -> np.ndarray:
            return predict(model, encoded, rows, _objective(card), **how)

        return self._run(member, fold, work, progress)

    def vectors(
        self, member: str, fold: int, rows: np.ndarray, progress: str | None = None
    ) -> np.ndarray:
        """Pooled vectors (N, width of the pooler) float32 of the table's rows at `rows`."""

        def work(model: TextModel, encoded: Encoded, _: FoldCard, **how: Any) -> np.ndarray:
            return pooled_vectors(model, encoded, rows, **how)

        return self._run(member, fold, work, progress)

    def tokens(self, member: str, fold: int, rows: np.ndarray) -> TokenCount:
        """How many tokens the fold's model reads these rows as, and a hash of them."""
        files = self.store.fold(member, fold)
        return TokenCount(**digest(self._encode(files, files.check(model=False, oof=False)), rows))

    def _run(self, member: str, fold: int, work: Work, progress: str | None) -> np.ndarray:
        """What `work` makes of the fold's model, the table's tokens and the fold's card.

        The model is gone, and its memory given back, when this returns.
        """
        files = self.store.fold(member, fold)
        tensors = files.tensors()  # first: hashes of the tokenizer, too
        card = files.check(model=False, oof=False)
        encoded = self._encode(files, card)
        model = self._load(files, card, tensors).to(choose_device())
        work = partial(work, batch_tokens=self.batch_tokens, progress=progress)
        with enough_memory("lower batch_tokens"):
            result = _computed(work, model, encoded, card, f"{member} fold {fold}")
        del model, tensors
        release_memory()
        return result

    def _encode(self, files: FoldFiles, card: FoldCard) -> Encoded:
        """The table as this fold's model reads it: tokens, and the columns beside them."""
        # Folds of one backbone may hold different tokenizers, by versions of libraries.
        key = card.files.others_sha256
        encoded = self.texts.encode(files.folder, key, card.inputs.reading)
        if card.columns is None:
            return encoded
        return replace(encoded, columns_NF=card.columns.transform(self.texts.table))

    def _load(
        self, files: FoldFiles, card: FoldCard, tensors: dict[str, torch.Tensor]
    ) -> TextModel:
        member = card.member
        base = backbone.build(files.folder, remote_code=self.remote_code)
        model, _ = build_model(
            # Tried when the weights were loaded: here they are still random.
            replace(base, reads_padding=card.reads_padding),
            pooler=member.pooler,
            pooler_args=member.pooler_args,
            mask=member.mask,
            n_outputs=_objective(card).n_logits,
            n_columns=0 if card.columns is None else card.columns.width,
            **_head(member.head, tensors),
        )
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the weights of {member.name} fold {card.fold} do not fit its card: {reason}"
            ) from None
        return model


def _computed(
    work: Work, model: TextModel, encoded: Encoded, card: FoldCard, what: str
) -> np.ndarray:
    """The work's result in the card's precision; in fp32 where `auto` does not survive here.

    A model that was trained in another precision meets this machine's for the first time.
    """
    wanted: Precision = "fp32" if card.fp32_only else card.member.train.precision
    resolved = resolve_precision(wanted, choose_device())
    if wanted != "auto" or resolved in ("fp32", card.precision):
        return work(model, encoded, card, precision=wanted)
    try:
        result = work(model, encoded, card, precision=wanted)
        reason = "" if np.isfinite(result).all() else "it gives NaN or infinite numbers"
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
    if not reason:
        return result
    log.warning("%s computes in fp32: in %s it fails (%s)", what, resolved, reason)
    return work(model, encoded, card, precision="fp32")


def _head(head: Head, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What `build_model` is to know of the head."""
    if not head.frozen:
        return {"dropout": head.dropout, "norm": head.norm}
    support = tensors.get(f"head.{SUPPORT}")
    return {"kind": head.kind, "n_support": 0 if support is None else len(support)}


def _objective(card: FoldCard) -> Objective:
    loss = "auto" if card.member.head.frozen else card.member.train.loss
    objective = new_objective(card.inputs.task, loss)
    scaler = card.target_scaler
    return replace(objective, unit=None if scaler is None else Unit.from_json(scaler))
