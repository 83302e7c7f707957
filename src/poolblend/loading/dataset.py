"""What one fold learns from: its rows as tokens, their targets and weights.

Legend: N rows, F extra columns, K outputs.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from poolblend.competition.columns import Columns, fit_columns
from poolblend.config import Config, Member
from poolblend.errors import UserError
from poolblend.loading.competition import Competition, describe_task
from poolblend.loading.texts import Texts
from poolblend.modeling.sources import Located
from poolblend.store import Store
from poolblend.store.predictions import from_table
from poolblend.training.batches import Encoded, concatenated
from poolblend.training.objectives import Objective
from poolblend.training.recipes import label_weights

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Material:
    """Training takes `rows` of `encoded`; targets and weights are aligned with it, too.

    The first rows of `encoded` are those of the train table.
    """

    encoded: Encoded
    rows: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    columns: Columns | None


class Materials:
    """Makes the folds' material; tokenises once what several folds share."""

    def __init__(self, config: Config, competition: Competition, store: Store) -> None:
        self.config, self.competition, self.store = config, competition, store
        tables = competition.tables
        how = (config.remote_code, config.batch_tokens)
        self._train = Texts(tables.train, "train", *how)
        self._test = Texts(tables.test, "test", *how)

    def inputs(self, member: Member) -> dict[str, Any]:
        """What the material depends on, besides the member's settings."""
        data = self.config.data
        keys = ("train_sha256", "folds_sha256", "joins_sha256")
        read = self.competition.data
        told: dict[str, Any] = {key: read[key] for key in keys if key in read}
        told |= {"text": data.text, "special_tokens": data.special_tokens}
        named = {
            key: getattr(data, key)
            for key in ("soft", "weight", "numeric", "categorical")
            if getattr(data, key)
        }
        if data.joins:
            named["joins_on"] = [join.on for join in data.joins]
        if data.join != "separator":
            named["join"] = data.join
        if member.pseudo:
            told["pseudo_labels_sha256"] = self.store.pseudo_sha256(member.pseudo.labels)
            told |= _of_test(self.competition)
        return told | named

    def encode(self, member: Member, located: Located) -> Encoded:
        """The train table's tokens, as the member reads them."""
        return encode_for(self._train, self.config, member, located)

    def of_fold(
        self, member: Member, fold: int, located: Located, objective: Objective
    ) -> Material:
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
        material = Material(encoded, rows, targets, weights, columns)
        return self._with_pseudo(material, member, fold, located, objective)

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
        material: Material,
        member: Member,
        fold: int,
        located: Located,
        objective: Objective,
    ) -> Material:
        """With the test rows, labelled by models that never saw the fold either."""
        if member.pseudo is None:
            return material
        competition, task = self.competition, self.competition.task
        table = self.store.read_pseudo(
            member.pseudo.labels,
            fold,
            train_sha256=competition.data["train_sha256"],
            folds_sha256=competition.data["folds_sha256"],
            task=describe_task(task),
        )
        if table.attrs != _of_test(competition):
            raise UserError(
                f"pseudo-labels {member.pseudo.labels} were made for another test table; make them "
                "anew under another name (infer.py --pseudo-labels NAME)"
            )
        ids = competition.tables.test[competition.tables.id]
        pred_NK = from_table(table, ids, task.outputs)
        sure_N = _confidence(pred_NK, task.kind) >= member.pseudo.confidence
        encoded = encode_for(self._test, self.config, member, located)
        if material.columns is not None:
            encoded = replace(
                encoded, columns_NF=material.columns.transform(competition.tables.test)
            )
        n_train = len(competition.y)
        labels = objective.from_predictions(pred_NK)
        weights = np.full((len(ids), material.weights.shape[1]), member.pseudo.weight)
        if label_weights(member.applied_train, competition.y[material.rows]) is not None:
            weights *= _expected_weights(material, labels)
        log.info("%s fold %d: %d pseudo-labels of %d", member.name, fold, sure_N.sum(), len(ids))
        return Material(
            concatenated(material.encoded, encoded),
            np.concatenate([material.rows, n_train + np.flatnonzero(sure_N)]),
            np.concatenate([material.targets, labels]),
            np.concatenate([material.weights, weights]),
            material.columns,
        )


def encode_for(texts: Texts, config: Config, member: Member, located: Located) -> Encoded:
    """The texts' tokens, as the member reads them."""
    return texts.encode(located.folder, located.files_sha256, **reading(config, member))


def reading(config: Config, member: Member) -> dict[str, Any]:
    """How the member reads a table's texts, whatever its tokenizer: arguments of `Texts.encode`."""
    data, windows = config.data, member.windows
    return {
        "max_length": member.max_length,
        "text": data.text,
        "special_tokens": data.special_tokens,
        "join": data.join,
        "truncation": member.truncation,
        "windows": None if windows is None else (windows.overlap, windows.most),
    }


def _of_test(competition: Competition) -> dict[str, str]:
    """The hashes of the tables that the test rows are of."""
    tests = ("test_sha256", "test_joins_sha256")
    return {key: competition.data[key] for key in tests if key in competition.data}


def _expected_weights(material: Material, labels_NL: np.ndarray) -> np.ndarray:
    """What training rows of these labels weigh on average, as soft labels mix them, (N, 1 or L).

    Else the test rows' labels, as frequent as they are, would undo the balance.
    """
    targets_NL, weights = material.targets[material.rows], material.weights[material.rows]
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
