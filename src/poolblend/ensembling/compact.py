"""Blends of very many classes: each row keeps its most probable classes and a sample of others.

10 members, 5,000 rows and 2,500 classes are 1 GB of predictions, almost all of them near 0.
Weights, scores and intervals are computed only on the columns that matter for a row.

Shapes: K classes, C classes kept of each row, W columns (C and the sample).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from poolblend.competition.metrics import SMALLEST_PROBABILITY, Scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling.choice import Choice
from poolblend.ensembling.honesty import Comparison, Honest
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import Mixture
from poolblend.ensembling.resampling import Gain
from poolblend.ensembling.rescoring import CHUNK, rescore

# Comparing all blenders takes hours with more predictions and more outputs than these.
LARGE, MANY = 2_000_000, 64
KEPT, SAMPLED = 32, 24


@dataclass(frozen=True, eq=False)
class CompactTask(Task):
    """A multiclass task where each row has its own columns, and `y` holds row numbers.

    `class_NC` holds the classes of a row's first columns in rising order, so that ties are resolved
    as among all classes; `place_N` is the column of the true class.
    """

    class_NC: np.ndarray = field(kw_only=True)
    place_N: np.ndarray = field(kw_only=True)

    def labels(self, pred_NK: np.ndarray, cuts: np.ndarray | None = None) -> np.ndarray:
        """The column of the most probable of the kept classes; sampled ones are never chosen."""
        return pred_NK[:, : self.class_NC.shape[1]].argmax(axis=1)

    def training_targets(self, y: np.ndarray) -> np.ndarray:
        """The column of each row's true class."""
        return self.place_N[y]


def is_large(matrix: OofMatrix) -> bool:
    """Whether blenders that learn a number for each output would take hours."""
    return matrix.oof_MNK.size > LARGE and len(matrix.outputs) > MANY


def is_compactable(matrix: OofMatrix, scorer: Scorer) -> bool:
    """Whether a large matrix holds classes of which only the most probable decide a row's score.

    Rank-based metrics need every class's column over all rows.
    """
    M, _, K = matrix.oof_MNK.shape
    one_class = scorer.task.kind == "multiclass" and matrix.y.ndim == 1  # of each row, not shares
    classes = one_class and not scorer.metric.rank_based
    return classes and is_large(matrix) and 2 * (KEPT + SAMPLED + M) < K


def compact_matrix(matrix: OofMatrix, scorer: Scorer) -> tuple[OofMatrix, Scorer]:
    """The matrix with `KEPT` classes of each row and `SAMPLED` of its others, and their scorer.

    Kept are the true class and those most probable, to all members together or to one. The sample
    is spread evenly over the ranks of the others and represents, for each member and row, their
    whole probability: a mean of probabilities keeps its log loss, a mean of logits keeps it to
    about one percent. `expand_comparison` then computes the scores on all classes.
    """
    M, N, K = matrix.oof_MNK.shape
    oof_MNW = np.empty((M, N, KEPT + SAMPLED + M))
    class_NC = np.empty((N, KEPT), dtype=np.int64)
    for start in range(0, N, max(1, CHUNK // (M * K))):
        rows = slice(start, start + max(1, CHUNK // (M * K)))
        oof_MNW[:, rows], class_NC[rows] = _columns(matrix.oof_MNK[:, rows], matrix.y[rows])
    place_N = (class_NC == matrix.y[:, None]).argmax(axis=1)
    names = tuple(range(oof_MNW.shape[2]))
    task = CompactTask("multiclass", scorer.task.targets, names, class_NC=class_NC, place_N=place_N)
    metric = replace(scorer.metric, function=_of_rows(scorer, task, matrix.y))
    return (
        replace(matrix, oof_MNK=oof_MNW, y=np.arange(N), outputs=task.outputs),
        Scorer(metric, task),
    )


def expand_comparison(
    comparison: Comparison, choice: Choice, matrix: OofMatrix, scorer: Scorer
) -> tuple[Comparison, Choice]:
    """The comparison and the choice of a compacted matrix, for the `matrix` with all classes.

    Every blender's weights apply to all classes; predictions and scores are computed from them.
    Gains shift with the scores and keep the widths of their intervals.
    """
    reports = rescore(_widened(comparison.reports, len(matrix.outputs)), matrix, scorer)
    sign = 1.0 if scorer.better == "max" else -1.0
    moved = {
        name: sign * (report.honest - comparison.reports[name].honest)
        for name, report in reports.items()
    }

    def shifted(gains: Mapping[str, Gain], other: str) -> dict[str, Gain]:
        since = moved[other]
        return {name: Gain(*(end + moved[name] - since for end in gains[name])) for name in gains}

    return (
        replace(
            comparison,
            matrix=matrix,
            scorer=scorer,
            reports=reports,
            member_inputs=tuple(scorer.metric_inputs(pred_NK) for pred_NK in matrix.oof_MNK),
        ),
        replace(
            choice,
            honest=reports[choice.blender].honest,
            member_score=reports[choice.single].honest,
            over_member=shifted(choice.over_member, choice.single),
            over_equal=shifted(choice.over_equal, "equal"),
        ),
    )


def _columns(oof_MNK: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (M, N, W) of some rows' own columns, and the classes (N, C) of the first."""
    p_MNK = np.clip(oof_MNK, SMALLEST_PROBABILITY, 1)
    merit_NK = p_MNK.mean(axis=0) + p_MNK.max(axis=0)
    merit_NK[np.arange(len(y)), y] = np.inf
    order_NK = np.argsort(-merit_NK, axis=1, kind="stable")
    class_NC = np.sort(order_NK[:, :KEPT], axis=1)
    kept_MNC = np.take_along_axis(p_MNK, class_NC[None], axis=2)
    log_MNR = np.log(np.take_along_axis(p_MNK, order_NK[None, :, KEPT:], axis=2))
    middles = ((np.arange(SAMPLED) + 0.5) * log_MNR.shape[2] / SAMPLED).astype(int)
    sample_MNS = log_MNR[:, :, middles]
    # Each member's sample gets the mean and the spread that its logits have over all others ...
    centred_MNS = sample_MNS - sample_MNS.mean(axis=2, keepdims=True)
    spread_MN1 = np.maximum(sample_MNS.std(axis=2, keepdims=True), 1e-12)
    centred_MNS *= log_MNR.std(axis=2, keepdims=True) / spread_MN1
    sample_MNS = np.exp(log_MNR.mean(axis=2, keepdims=True) + centred_MNS)
    # ... and their whole probability, less what makes the equal blend of logits too probable;
    rest_MN1 = (p_MNK.sum(axis=2) - kept_MNC.sum(axis=2))[..., None]
    sample_MNS *= rest_MN1 / sample_MNS.sum(axis=2, keepdims=True)
    equal_N = np.exp(log_MNR.mean(axis=0)).sum(axis=1)
    sampled_N = np.exp(np.log(sample_MNS).mean(axis=0)).sum(axis=1)
    share_N1 = np.minimum(1, equal_N / sampled_N)[:, None]
    # that part is in a column of the member's own, where the others have almost none.
    own_MNM = np.full((len(p_MNK), *rest_MN1.shape[1:-1], len(p_MNK)), SMALLEST_PROBABILITY)
    for m, rest_N1 in enumerate(rest_MN1 * (1 - share_N1)):
        own_MNM[m, :, m] += rest_N1[:, 0]
    return np.concatenate([kept_MNC, sample_MNS * share_N1, own_MNM], axis=2), class_NC


def _of_rows(scorer: Scorer, task: CompactTask, y: np.ndarray) -> Callable[..., float]:
    """The metric as a function of row numbers and inputs in the rows' own columns."""

    def of_scores(row_N: np.ndarray, inputs: np.ndarray, *fold_N: np.ndarray) -> float:
        return scorer.metric.function(task.place_N[row_N], inputs, *fold_N)

    def of_labels(row_N: np.ndarray, inputs: np.ndarray, *fold_N: np.ndarray) -> float:
        return scorer.metric.function(y[row_N], task.class_NC[row_N, inputs], *fold_N)

    return of_labels if scorer.metric.inputs == "labels" else of_scores


def widen_mixture(mixture: Mixture, n_classes: int) -> Mixture:
    """The same weights for each of the classes; they are shared, and there is no intercept."""
    weights_MK = np.broadcast_to(mixture.weights_MK[:, :1], (len(mixture.weights_MK), n_classes))
    return replace(mixture, weights_MK=weights_MK.copy(), intercept_K=np.zeros(n_classes))


def _widened(reports: Mapping[str, Honest], n_classes: int) -> dict[str, Honest]:
    return {
        name: replace(
            report,
            mixture=widen_mixture(report.mixture, n_classes),
            fold_mixtures=tuple(widen_mixture(each, n_classes) for each in report.fold_mixtures),
        )
        for name, report in reports.items()
    }
