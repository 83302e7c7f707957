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
from poolblend.cards.predictions import What
from poolblend.errors import UserError
from poolblend.jobs.frozen_states import with_states
from poolblend.loading.models import new_objective
from poolblend.loading.texts import Texts
from poolblend.modeling import backbone
from poolblend.modeling.heads import SUPPORT
from poolblend.modeling.model import TextModel, build_model
from poolblend.modeling.options import Head
from poolblend.store import Store
from poolblend.store.foldfiles import FoldFiles
from poolblend.training.batches import Encoded
from poolblend.training.devices import (
    Precision,
    choose_device,
    enough_memory,
    out_of_memory,
    release_memory,
    resolve_precision,
)
from poolblend.training.encoding import digest
from poolblend.training.objectives import Objective
from poolblend.training.prediction import pooled_vectors, predict
from poolblend.training.target_scaler import TargetScaler

log = logging.getLogger(__name__)


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
        return self._run("predictions", member, fold, rows, progress)

    def vectors(
        self, member: str, fold: int, rows: np.ndarray, progress: str | None = None
    ) -> np.ndarray:
        """Pooled vectors (N, width of the pooler) float32 of the table's rows at `rows`."""
        return self._run("vectors", member, fold, rows, progress)

    def tokens(self, member: str, fold: int, rows: np.ndarray) -> TokenCount:
        """How many tokens the fold's model reads these rows as, and a hash of them."""
        files = self.store.fold(member, fold)
        return TokenCount(**digest(self._encode(files, files.check(model=False, oof=False)), rows))

    def _run(
        self, what: What, member: str, fold: int, rows: np.ndarray, progress: str | None
    ) -> np.ndarray:
        """Predictions or vectors. The model is gone, and its memory given back, on return."""
        files = self.store.fold(member, fold)
        tensors = files.tensors()  # first: hashes of the tokenizer, too
        card = files.check(model=False, oof=False)
        encoded = self._encode(files, card)
        model = self._load(files, card, tensors).to(choose_device())
        work: Callable[..., np.ndarray] = pooled_vectors
        if what == "predictions":
            work = partial(predict, objective=_objective(card))
        how: dict[str, Any] = {"batch_tokens": self.batch_tokens, "progress": progress}
        states = partial(with_states, encoded, model, card.member, card.backbone, self.store, **how)
        compute = partial(_on_states, work, model, states, rows, **how)
        with enough_memory("lower batch_tokens"):
            result = _in_a_precision_that_works(compute, card)
        del model, tensors, states, compute
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


def _on_states(
    work: Callable[..., np.ndarray],
    model: TextModel,
    states: Callable[..., Encoded],
    rows: np.ndarray,
    *,
    precision: Precision,
    **how: Any,
) -> np.ndarray:
    """The result of `work` on the table with the hidden states of that precision."""
    return work(model, states(precision=precision), rows, precision=precision, **how)


def _in_a_precision_that_works(compute: Callable[..., np.ndarray], card: FoldCard) -> np.ndarray:
    """The result in the card's precision; in fp32 where `auto` fails on this machine.

    A model that was trained in another precision meets this machine's for the first time.
    """
    wanted: Precision = "fp32" if card.fp32_only else card.member.train.precision
    resolved = resolve_precision(wanted, choose_device())
    if wanted != "auto" or resolved in ("fp32", card.precision):
        return compute(precision=wanted)
    try:
        result = compute(precision=wanted)
        if np.isfinite(result).all():
            return result
        reason = "it gives NaN or infinite numbers"
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
    place = f"{card.member.name} fold {card.fold}"
    log.warning("%s computes in fp32: in %s it fails (%s)", place, resolved, reason)
    return compute(precision="fp32")


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
    return objective.with_scaler(None if scaler is None else TargetScaler.from_json(scaler))
