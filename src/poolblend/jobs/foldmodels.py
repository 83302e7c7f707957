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

from poolblend.competition.columns import Columns
from poolblend.errors import UserError
from poolblend.loading.competition import restore_task
from poolblend.loading.models import new_objective
from poolblend.loading.texts import Texts
from poolblend.modeling import backbone
from poolblend.modeling.frozen_heads import SUPPORT
from poolblend.modeling.model import TextModel, build_model
from poolblend.store import Store
from poolblend.store.backbones import content_sha256
from poolblend.training.batches import Encoded
from poolblend.training.devices import (
    FP32_ONLY,
    Precision,
    choose_device,
    out_of_memory,
    resolve_precision,
)
from poolblend.training.encoding import digest
from poolblend.training.memory import enough_memory, release_memory
from poolblend.training.objectives import Objective
from poolblend.training.prediction import pooled_vectors, predict
from poolblend.training.target_scaler import TargetScaler

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

        def work(
            model: TextModel, encoded: Encoded, card: dict[str, Any], **how: Any
        ) -> np.ndarray:
            return predict(model, encoded, rows, _objective(card), **how)

        return self._run(member, fold, work, progress)

    def vectors(
        self, member: str, fold: int, rows: np.ndarray, progress: str | None = None
    ) -> np.ndarray:
        """Pooled vectors (N, width of the pooler) float32 of the table's rows at `rows`."""

        def work(model: TextModel, encoded: Encoded, _: dict[str, Any], **how: Any) -> np.ndarray:
            return pooled_vectors(model, encoded, rows, **how)

        return self._run(member, fold, work, progress)

    def tokens(self, member: str, fold: int, rows: np.ndarray) -> dict[str, Any]:
        """How many tokens the fold's model reads these rows as, and a hash of them."""
        encoded = self._encode(member, fold, self.store.fold_card(member, fold) or {})
        return digest(encoded, rows)

    def _run(self, member: str, fold: int, work: Work, progress: str | None) -> np.ndarray:
        """What `work` makes of the fold's model, the table's tokens and the fold's card.

        The model is gone, and its memory given back, when this returns.
        """
        card = self.store.fold_card(member, fold) or {}
        tensors = self.store.load_tensors(member, fold)  # first: hashes of the tokenizer, too
        encoded = self._encode(member, fold, card)
        model = self._load(member, fold, card, tensors).to(choose_device())
        work = partial(work, batch_tokens=self.batch_tokens, progress=progress)
        with enough_memory("lower batch_tokens"):
            result = _computed(work, model, encoded, card, f"{member} fold {fold}")
        del model, tensors
        release_memory()
        return result

    def _encode(self, member: str, fold: int, card: dict[str, Any]) -> Encoded:
        """The table as this fold's model reads it: tokens, and the columns beside them."""
        inputs, settings = card["inputs"], card["inputs"]["settings"]
        windows = settings.get("windows")
        encoded = self.texts.encode(
            self.store.fold_folder(member, fold),
            # Folds of one backbone may hold different tokenizers, by versions of libraries.
            content_sha256(card)[1],
            settings["max_length"],
            inputs["text"],
            inputs.get("special_tokens", "tokens"),
            join=inputs.get("join", "separator"),
            truncation=settings.get("truncation", "auto"),
            windows=None if windows is None else (windows["overlap"], windows["most"]),
        )
        if card.get("columns") is None:
            return encoded
        columns = Columns.from_json(card["columns"])
        return replace(encoded, columns_NF=columns.transform(self.texts.table))

    def _load(
        self, member: str, fold: int, card: dict[str, Any], tensors: dict[str, torch.Tensor]
    ) -> TextModel:
        settings = card["inputs"]["settings"]
        columns = card.get("columns")
        base = backbone.build(self.store.fold_folder(member, fold), remote_code=self.remote_code)
        model, _ = build_model(
            # Tried when the weights were loaded: here they are still random.
            replace(base, reads_padding=card.get("reads_padding", False)),
            pooler=settings["pooler"],
            pooler_args=settings["pooler_args"],
            mask=settings["mask"],
            n_outputs=_objective(card).n_logits,
            n_columns=0 if columns is None else Columns.from_json(columns).width,
            **_head(settings["head"], tensors),
        )
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"the weights of {member} fold {fold} do not fit its card: {reason}"
            ) from None
        return model


def _computed(
    work: Work, model: TextModel, encoded: Encoded, card: dict[str, Any], what: str
) -> np.ndarray:
    """The work's result in the card's precision; in fp32 where `auto` does not survive here.

    A model that was trained in another precision meets this machine's for the first time.
    """
    wanted: Precision = card["inputs"]["settings"]["train"]["precision"]
    if card.get(FP32_ONLY):
        wanted = "fp32"
    resolved = resolve_precision(wanted, choose_device())
    if wanted != "auto" or resolved in ("fp32", card.get("precision")):
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


def _head(settings: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What `build_model` is to know of the head."""
    kind = settings.get("kind", "linear")
    if kind == "linear":
        return {"dropout": settings["dropout"], "norm": settings["norm"]}
    support = tensors.get(f"head.{SUPPORT}")
    return {"kind": kind, "n_support": 0 if support is None else len(support)}


def _objective(card: Mapping[str, Any]) -> Objective:
    inputs, scaler = card["inputs"], card.get("target_scaler")
    loss = inputs["settings"]["train"].get("loss", "auto")  # a frozen member has none
    objective = new_objective(restore_task(inputs["task"]), loss)
    return objective.with_scaler(None if scaler is None else TargetScaler.from_json(scaler))
