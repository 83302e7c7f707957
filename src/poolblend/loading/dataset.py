"""The dataset of one fold: its training rows as tokens, their targets and weights.

Legend: N rows, F extra columns, K outputs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from poolblend.competition.columns import Columns, fit_columns
from poolblend.config import Config, Member
from poolblend.loading.competition import Competition
from poolblend.loading.texts import Texts, text_spec
from poolblend.modeling.sources import Located
from poolblend.store import Store
from poolblend.store.predictions import from_table
from poolblend.training.batches import Encoded, concatenated
from poolblend.training.objectives import Objective
from poolblend.training.recipes import label_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class FoldDataset:
    """Training takes `rows` of `encoded`; targets and weights are aligned with it, too.

    The first rows of `encoded` are those of the train table.
    """

    encoded: Encoded
    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    columns: Columns | None


class Datasets:
    """Makes the folds' datasets; tokenises once what several folds share."""

    def __init__(self, config: Config, competition: Competition, store: Store) -> None:
        self.config, self.competition, self.store = config, competition, store
        tables = competition.tables
        how = (config.remote_code, config.batch_tokens)
        self._train = Texts(tables.train, "train", *how)
        self._test = Texts(tables.test, "test", *how)

    def encode(self, member: Member, located: Located) -> Encoded:
        """The train table's tokens, as the member reads them."""
        return self._encode(self._train, member, located)

    def _encode(self, texts: Texts, member: Member, located: Located) -> Encoded:
        spec = text_spec(self.config, member)
        return texts.encode(located.folder, located.files_sha256, spec)

    def of_fold(
        self, member: Member, fold: int, located: Located, objective: Objective
    ) -> FoldDataset:
        """What the member's model of `fold` learns from: no row of the fold, none of weight 0."""
        competition, data = self.competition, self.config.data
        others_N = competition.fold_N != fold
        if competition.weight_N is not None:  # a batch of weights of 0 would have no mean loss
            others_N &= competition.weight_N > 0
        rows = np.flatnonzero(others_N)
        encoded = self.encode(member, located)
        soft_NK = competition.soft_NK
        targets = (
            objective.targets(competition.y)
            if soft_NK is None
            else objective.from_predictions(soft_NK)
        )
        columns = None
        if data.numeric or data.categorical:
            train = competition.tables.train
            columns = fit_columns(train.iloc[rows], data.numeric, data.categorical)
            encoded = replace(encoded, columns_NF=columns.transform(train))
        weights = self._weights(member, rows)
        dataset = FoldDataset(encoded, rows, targets, weights, columns)
        return self._with_pseudo(dataset, member, fold, located, objective)

    def _weights(self, member: Member, rows: np.ndarray) -> np.ndarray:
        """(N, 1), or (N, K) where labels are weighted apart; given ones with mean 1 over `rows`."""
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
        self,
        dataset: FoldDataset,
        member: Member,
        fold: int,
        located: Located,
        objective: Objective,
    ) -> FoldDataset:
        """With the test rows, labelled by models that never saw the fold either."""
        if member.pseudo is None:
            return dataset
        competition, task = self.competition, self.competition.task
        files = self.store.known_pseudo(member.pseudo.labels)
        table = files.read(fold, data=competition.data, task=task)
        ids = competition.tables.test[competition.tables.id]
        pred_NK = from_table(table, ids, task.outputs)
        sure_N = _confidence(pred_NK, task.kind) >= member.pseudo.confidence
        encoded = self._encode(self._test, member, located)
        if dataset.columns is not None:
            encoded = replace(
                encoded, columns_NF=dataset.columns.transform(competition.tables.test)
            )
        n_train = len(competition.y)
        labels = objective.from_predictions(pred_NK)
        weights = np.full((len(ids), dataset.weights.shape[1]), member.pseudo.weight)
        if label_weights(member.applied_train, competition.y[dataset.rows]) is not None:
            weights *= _expected_weights(dataset, labels)
        log.info("%s fold %d: %d pseudo-labels of %d", member.name, fold, sure_N.sum(), len(ids))
        return FoldDataset(
            concatenated(dataset.encoded, encoded),
            np.concatenate([dataset.rows, n_train + np.flatnonzero(sure_N)]),
            np.concatenate([dataset.targets, labels]),
            np.concatenate([dataset.weights, weights]),
            dataset.columns,
        )


def test_hashes(competition: Competition) -> dict[str, str]:
    """The hashes of the tables that the test rows are of."""
    tests = ("test_sha256", "test_joins_sha256")
    return {key: competition.data[key] for key in tests if key in competition.data}


def _expected_weights(dataset: FoldDataset, labels_NL: np.ndarray) -> np.ndarray:
    """What training rows of these labels weigh on average, as soft labels mix them, (N, 1 or L).

    Else the test rows' labels, as frequent as they are, would undo the balance.
    """
    targets_NL, weights = dataset.targets[dataset.rows], dataset.weights[dataset.rows]
    on_L, off_L = (
        (weights * share).sum(axis=0) / np.maximum(share.sum(axis=0), np.finfo(float).tiny)
        for share in (targets_NL, 1 - targets_NL)
    )
    if labels_NL.shape[1] == weights.shape[1]:  # each output is a label of its own
        return on_L * labels_NL + off_L * (1 - labels_NL)
    return (on_L * labels_NL).sum(axis=1, keepdims=True)


def _confidence(pred_NK: np.ndarray, kind: str) -> np.ndarray:
    """Of each row, the least sure output's likeliest label's probability; 1 for values."""
    if kind == "multiclass":
        return pred_NK.max(axis=1)
    if kind in ("binary", "multilabel"):
        return np.maximum(pred_NK, 1 - pred_NK).min(axis=1)
    return np.ones(len(pred_NK))
