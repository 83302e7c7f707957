"""The dataset of one fold: its training rows as tokens, their targets and weights.

Legend: N rows, F extra columns, K outputs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np
import pandas as pd

from poolblend.competition.columns import Columns, fit_columns
from poolblend.competition.options import Swap
from poolblend.config import AnyMember, Config, Member, TfidfMember
from poolblend.loading.competition import Competition
from poolblend.loading.orders import exchange_of
from poolblend.loading.texts import Texts, text_columns_of, text_spec
from poolblend.modeling.sources import Located
from poolblend.store import Store
from poolblend.store.predictions import from_table
from poolblend.training.encoding import Encoded, concatenated, in_both_orders
from poolblend.training.objectives import Objective
from poolblend.training.recipes import label_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FoldLabels:
    """Training uses `rows` of the train table, then of the test table if it has pseudo-labels.

    Targets and weights have all rows of these tables.
    """

    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    columns: Columns | None


@dataclass(frozen=True, eq=False)
class FoldDataset:
    """The labels of a fold, and all rows of its tables as tokens."""

    encoded: Encoded
    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    columns: Columns | None


class Datasets:
    """Makes the datasets of all folds; texts that folds share are tokenised once."""

    def __init__(self, config: Config, competition: Competition, store: Store) -> None:
        self.config, self.competition, self.store = config, competition, store
        tables = competition.tables
        how = (config.remote_code, config.batch_tokens)
        self._train = Texts(tables.train, "train", *how)
        self._test = Texts(tables.test, "test", *how)

    def encode(self, member: Member, located: Located) -> Encoded:
        """The tokens of the train table, as the member reads it."""
        return self._encode(self._train, member, located)

    def _encode(self, texts: Texts, member: Member, located: Located) -> Encoded:
        spec = text_spec(self.config, member)
        return texts.encode(located.folder, located.files_sha256, spec)

    def of_fold(
        self, member: Member, fold: int, located: Located, objective: Objective
    ) -> FoldDataset:
        """The rows that the fold's model learns from, as the member's encoder reads them."""
        labels, swap = self.labels(member, fold, objective), self.config.data.swap
        encoded = self._rows(member, located, labels.columns, None)
        rows, targets, weights = labels.rows, labels.targets, labels.weights
        exchange = exchange_of(self.competition.task, swap)
        if exchange is not None:
            other = self._rows(member, located, labels.columns, swap)
            encoded = in_both_orders(encoded, other, exchange)
            rows = encoded.both(rows)
            targets = np.concatenate([targets, exchange(targets)])
            by_label = weights.shape[1] > 1
            weights = np.concatenate([weights, exchange(weights) if by_label else weights])
        return FoldDataset(encoded, rows, targets, weights, labels.columns)

    def _rows(
        self, member: Member, located: Located, columns: Columns | None, swap: Swap | None
    ) -> Encoded:
        """All rows that the member may learn from, of train and then of test, in one order."""
        found = []
        for texts in [self._train] if member.pseudo is None else [self._train, self._test]:
            ordered = texts if swap is None else texts.swapped(swap)
            encoded = self._encode(ordered, member, located)
            if columns is not None:
                encoded = replace(encoded, columns_NF=columns.transform(ordered.table))
            found.append(encoded)
        return reduce(concatenated, found)

    def plain(
        self, member: TfidfMember, columns: Columns | None
    ) -> tuple[list[str], np.ndarray | None]:
        """The texts of all rows of the tables that the member learns from, and their columns."""
        tables = [self._train] if member.pseudo is None else [self._train, self._test]
        spec = text_columns_of(self.config)
        texts = [text for table in tables for text in table.plain(spec)]
        if columns is None:
            return texts, None
        return texts, np.concatenate([columns.transform(each.table) for each in tables])

    def labels(self, member: AnyMember, fold: int, objective: Objective) -> FoldLabels:
        """What the fold's model learns: of the rows outside the fold, of weight above 0."""
        competition, data = self.competition, self.config.data
        others_N = competition.fold_N != fold
        if competition.weight_N is not None:  # the mean loss needs weights above 0
            others_N &= competition.weight_N > 0
        rows = np.flatnonzero(others_N)
        soft_NK = competition.soft_NK
        targets = (
            objective.targets(competition.y)
            if soft_NK is None
            else objective.from_predictions(soft_NK)
        )
        columns = None
        if data.numeric or data.categorical:
            learned = competition.tables.train.iloc[rows]
            if data.swap is not None and not isinstance(member, TfidfMember):
                learned = pd.concat([learned, learned.rename(columns=data.swap.renamed)])
            columns = fit_columns(learned, data.numeric, data.categorical)
        labels = FoldLabels(rows, targets, self._weights(member, rows), columns)
        return self._with_pseudo(labels, member, fold, objective)

    def _weights(self, member: AnyMember, rows: np.ndarray) -> np.ndarray:
        """(N, 1), or (N, K) with weights per label; given weights have a mean of 1 over `rows`."""
        competition = self.competition
        given_N = competition.weight_N
        weights = np.ones(len(competition.y)) if given_N is None else given_N / given_N[rows].mean()
        weights = weights[:, None]
        by_label = label_weights(member.applied_train, competition.y[rows])
        if by_label is not None:
            weights = np.repeat(weights, by_label.shape[1], axis=1)
            weights[rows] *= by_label
        return weights

    def _with_pseudo(
        self, own: FoldLabels, member: AnyMember, fold: int, objective: Objective
    ) -> FoldLabels:
        """With the test rows, labelled by models that were trained without the fold."""
        if member.pseudo is None:
            return own
        competition, task = self.competition, self.competition.task
        files = self.store.known_pseudo(member.pseudo.labels)
        table = files.read(fold, data=competition.data, task=task)
        ids = competition.tables.test[competition.tables.id]
        pred_NK = from_table(table, ids, task.outputs)
        sure_N = _confidence(pred_NK, task.kind) >= member.pseudo.confidence
        n_train = len(competition.y)
        labels = objective.from_predictions(pred_NK)
        weights = np.full((len(ids), own.weights.shape[1]), member.pseudo.weight)
        if label_weights(member.applied_train, competition.y[own.rows]) is not None:
            weights *= _expected_weights(own, labels)
        log.info("%s fold %d: %d pseudo-labels of %d", member.name, fold, sure_N.sum(), len(ids))
        return FoldLabels(
            np.concatenate([own.rows, n_train + np.flatnonzero(sure_N)]),
            np.concatenate([own.targets, labels]),
            np.concatenate([own.weights, weights]),
            own.columns,
        )


def test_hashes(competition: Competition) -> dict[str, str]:
    """The hashes of the tables that the test rows come from."""
    tests = ("test_sha256", "test_joins_sha256")
    return {key: competition.data[key] for key in tests if key in competition.data}


def _expected_weights(own: FoldLabels, labels_NL: np.ndarray) -> np.ndarray:
    """The mean weight of training rows with the same (soft) labels, (N, 1) or (N, L).

    With it, the test rows keep the balance of the class weights.
    """
    targets_NL, weights = own.targets[own.rows], own.weights[own.rows]
    on_L, off_L = (
        (weights * share).sum(axis=0) / np.maximum(share.sum(axis=0), np.finfo(float).tiny)
        for share in (targets_NL, 1 - targets_NL)
    )
    if labels_NL.shape[1] == weights.shape[1]:  # multilabel: each output is a label
        return on_L * labels_NL + off_L * (1 - labels_NL)
    return (on_L * labels_NL).sum(axis=1, keepdims=True)


def _confidence(pred_NK: np.ndarray, kind: str) -> np.ndarray:
    """For each row, the probability of the likeliest label, of the least confident output.

    It is 1 for tasks that predict values.
    """
    if kind == "multiclass":
        return pred_NK.max(axis=1)
    if kind in ("binary", "multilabel"):
        return np.maximum(pred_NK, 1 - pred_NK).min(axis=1)
    return np.ones(len(pred_NK))
