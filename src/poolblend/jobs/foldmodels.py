"""Run fold models from the store over a table: each loaded, used, and replaced by the next.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np

from poolblend.cards.fold import FoldCard, TokenCount
from poolblend.cards.fold_names import fold_name
from poolblend.cards.predictions import What
from poolblend.config import Member
from poolblend.jobs import tfidf_folds
from poolblend.jobs.fold_loader import FoldLoader, objective_of
from poolblend.jobs.frozen_states import with_states
from poolblend.loading.orders import exchange_of
from poolblend.loading.texts import Texts
from poolblend.modeling.model import TextModel
from poolblend.store import Store
from poolblend.store.foldfiles import FoldFiles
from poolblend.text_spec import TextColumns, TextSpec
from poolblend.training.batches import Encoded
from poolblend.training.devices import (
    Precision,
    choose_device,
    computes_in,
    enough_memory,
    out_of_memory,
    trim_heap,
)
from poolblend.training.encoding import digest
from poolblend.training.prediction import BatchCache, pooled_vectors, predict, tokens_at_once
from poolblend.training.tfidf import TfidfModel

log = logging.getLogger(__name__)


class FoldModels:
    """The store's models over the rows of `texts`; what a model is, its own card says.

    `loader` may be shared by several tables. With `remote_code`, code beside a model may run.
    """

    def __init__(
        self,
        store: Store,
        texts: Texts,
        batch_tokens: int,
        *,
        remote_code: bool = False,
        loader: FoldLoader | None = None,
    ) -> None:
        self.store, self.texts, self.batch_tokens = store, texts, batch_tokens
        self.loader = loader or FoldLoader(remote_code=remote_code)
        self._batches = BatchCache()

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
        card = files.check(model=False, base=False, oof=False)
        return TokenCount(**digest(self._encode(files, card), rows))

    def _run(
        self, what: What, member: str, fold: int, rows: np.ndarray, progress: str | None
    ) -> np.ndarray:
        """Predictions or vectors, computed by the fold's model."""
        files = self.store.fold(member, fold)
        card, model = self.loader.load(files)
        if isinstance(model, TfidfModel):
            return self._predict_plain(card, model, rows)
        assert isinstance(card.member, Member)
        assert card.backbone is not None
        encoded = self._encode(files, card)
        work: Callable[..., np.ndarray] = pooled_vectors
        if what == "predictions":
            work = partial(predict, objective=objective_of(card))
        model.to(choose_device())
        how: dict[str, Any] = {"progress": progress}
        how["batch_tokens"] = tokens_at_once(self.batch_tokens, encoded)
        states = partial(with_states, encoded, model, card.member, card.backbone, self.store, **how)
        compute = partial(_on_states, work, model, states, rows, collated=self._batches, **how)
        with enough_memory("lower batch_tokens"):
            result = _in_a_precision_that_works(compute, card)
        del model, states, compute
        trim_heap()  # the loader keeps the weights' memory for the next model
        return result

    def _predict_plain(self, card: FoldCard, model: TfidfModel, rows: np.ndarray) -> np.ndarray:
        """Predictions by a model without an encoder."""
        reading, columns = card.inputs.reading, card.columns
        assert isinstance(reading, TextColumns)
        columns_NF = None if columns is None else columns.transform(self.texts.table)
        texts = self.texts.plain(reading)
        return tfidf_folds.predict(model, texts, columns_NF, rows, objective_of(card))

    def _encode(self, files: FoldFiles, card: FoldCard) -> Encoded:
        """The table as this fold's model reads it: tokens, and the columns beside them."""
        # Folds of one backbone may hold different tokenizers, by versions of libraries.
        key, reading = card.files.others_sha256, card.inputs.reading
        assert isinstance(reading, TextSpec)
        swap = card.inputs.swap
        exchange = exchange_of(card.inputs.task, swap)
        encoded = self.texts.encode_orders(files.folder, key, reading, swap, exchange)
        if card.columns is None:
            return encoded
        return replace(encoded, columns_NF=self.texts.features(card.columns, swap))


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
    """The result in the precision of the training; in fp32 where this machine lacks it or fails.

    Thresholds and weights were fitted to predictions in that precision. What the config asks for by
    name is followed on any device.
    """
    wanted: Precision = "fp32" if card.fp32_only else card.member.train.precision
    if wanted != "auto":
        return compute(precision=wanted)
    trained = card.precision
    if not computes_in(trained, choose_device()):
        _warn_once(
            f"models trained in {trained}, which this device lacks, compute in fp32: predictions "
            "may differ by its rounding"
        )
        trained = "fp32"
    if trained == "fp32":
        return compute(precision=trained)
    try:
        result = compute(precision=trained)
        if np.isfinite(result).all():
            return result
        reason = "it gives NaN or infinite numbers"
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
    place = f"{card.member.name} {fold_name(card.fold)}"
    log.warning("%s computes in fp32: in %s it fails (%s)", place, trained, reason)
    return compute(precision="fp32")


@cache
def _warn_once(message: str) -> None:
    log.warning("%s", message)
