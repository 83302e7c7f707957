"""The blend card: what a blend is, what it is worth, and what it was made of."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from poolblend.cards.provenance import provenance
from poolblend.competition.metrics import UndefinedScoreError
from poolblend.config import Config
from poolblend.ensembling.blenders import by_simplicity
from poolblend.ensembling.choice import Choice, sentence
from poolblend.ensembling.diversity import (
    ambiguity,
    disagreement,
    error_correlation,
    prediction_correlation,
    q_statistic,
)
from poolblend.ensembling.honesty import Comparison, Honest
from poolblend.ensembling.matrix import OofMatrix
from poolblend.loading.blend_members import Members
from poolblend.loading.competition import Competition


def blend_card(
    config: Config,
    gathered: Members,
    comparison: Comparison,
    choice: Choice,
    told: pd.DataFrame,
    without: pd.DataFrame,
    firmness: pd.DataFrame,
) -> dict[str, Any]:
    """All that infer.py, the tables and whoever doubts them will ask of this blend, for JSON.

    `told`, `without` and `firmness` are the tables of `contributions`, a row per member.
    """
    matrix, competition = gathered.matrix, gathered.competition
    alike_MM = error_correlation(matrix.oof_MNK, matrix.y, competition.task)
    used = comparison.reports[choice.blender]
    members = {
        name: {
            "weight": float(used.weights_M[m]),
            **_plain(told, name),
            "fold_scores": _fold_scores(competition, matrix, comparison.member_taken[m]),
            "without": _plain(without, name),
            "refitted": _plain(firmness, name),
            "error_correlation": _mean_with_others(alike_MM, m),
            **gathered.files[name],
        }
        for m, name in enumerate(matrix.members)
    }
    return {
        "run": config.run,
        **_asked(competition),
        "metric": competition.scorer.name,
        "blender": choice.blender,
        "sentence": sentence(choice),
        # The gains stand with each blender.
        "choice": {k: v for k, v in asdict(choice).items() if not k.startswith("over_")},
        "form": comparison.form._asdict(),
        "mixture": used.mixture.to_json(),
        "members": members,
        "left_out": gathered.left_out,
        "blenders": {
            name: _told_of(report, choice, name) for name, report in comparison.reports.items()
        },
        "simplest_first": by_simplicity(),
        "inputs": competition.data,
        "rows": len(matrix.y),
        "diversity": _diversity(comparison, used, alike_MM),
        "config": config.model_dump(),
        **provenance(),
    }


def _asked(competition: Competition) -> dict[str, Any]:
    """The task, and which label of a binary one is positive, with what told so."""
    positive = competition.positive and competition.positive._asdict()
    return {"task": competition.task.to_json(), "positive": positive}


def _told_of(report: Honest, choice: Choice, name: str) -> dict[str, Any]:
    return {
        "in_sample": report.in_sample,
        "honest": report.honest,
        "optimism": report.optimism,
        "over_member": choice.over_member[name]._asdict(),
        "over_equal": choice.over_equal[name]._asdict(),
        "space": report.mixture.space.name,
        "weights": report.mixture.weights_MK.tolist(),
        "fold_weights": report.fold_weights_FM.tolist(),
    }


def _plain(table: pd.DataFrame, name: str) -> dict[str, Any]:
    """A table's row for JSON, which knows no NaN."""
    row = table.to_dict("index")[name]
    return {str(key): None if pd.isna(value) else value for key, value in row.items()}


def _diversity(comparison: Comparison, used: Honest, alike_MM: np.ndarray) -> dict[str, Any]:
    """How different the members are on average, in numbers and in a sentence.

    `alike_MM` is the correlation of their errors.
    """
    matrix, scorer, task = comparison.matrix, comparison.scorer, comparison.scorer.task
    pairs = np.triu_indices(len(matrix.members), 1)

    def mean(values_MM: np.ndarray) -> float | None:
        known = values_MM[pairs][np.isfinite(values_MM[pairs])]
        return float(known.mean()) if known.size else None

    told: dict[str, Any] = {
        "prediction_correlation": mean(prediction_correlation(matrix.oof_MNK)),
        "error_correlation": mean(alike_MM),
    }
    said = []
    if told["error_correlation"] is not None:
        said.append(f"the members' errors correlate by {told['error_correlation']:.3f} on average")
    if task.kind != "regression":
        labels = comparison.member_taken
        if scorer.metric.takes == "scores":
            labels = tuple(task.labels(pred_NK) for pred_NK in matrix.oof_MNK)
        told["disagreement"] = mean(disagreement(labels))
        told["q_statistic"] = mean(q_statistic(labels, task.hard(matrix.y)))
        if told["disagreement"] is not None:
            said.append(f"two of them decide {told['disagreement']:.1%} differently")
        if told["q_statistic"] is not None:
            said.append(f"Yule's Q is {told['q_statistic']:.3f}")
    parts = ambiguity(matrix.oof_MNK, used.mixture.weights_MK, matrix.y, task)
    if np.isfinite(parts.ensemble_error):
        told |= parts._asdict()
        said.append(
            f"their mean squared error of {parts.member_error:.5f}, less a spread of "
            f"{parts.ambiguity:.5f}, is the {parts.ensemble_error:.5f} of their weighted mean"
        )
    sentence = "; ".join(said)
    return told | {"sentence": f"{sentence[:1].upper()}{sentence[1:]}."}


def _mean_with_others(alike_MM: np.ndarray, m: int) -> float | None:
    others = np.delete(alike_MM[m], m)
    known = others[np.isfinite(others)]
    return float(known.mean()) if known.size else None


def _fold_scores(
    competition: Competition, matrix: OofMatrix, taken: np.ndarray
) -> list[float | None]:
    scores: list[float | None] = []
    for fold in range(competition.n_folds):
        rows = matrix.fold_N == fold
        try:
            scores.append(competition.scorer.score_taken(matrix.y[rows], taken[rows]))
        except UndefinedScoreError:
            scores.append(None)
    return scores
