"""The pictures of a blend's result: each is drawn, written as PNG and SVG, and returned.

A picture that does not apply, such as the reliability of a regression, shows the reason instead.

Legend: M members, N rows, K outputs, F folds, R refits, B blenders.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from poolblend.ensembling import diversity
from poolblend.ensembling.costs import on_frontier
from poolblend.ensembling.smooth import truth
from poolblend.ensembling.study import importances as trial_importances
from poolblend.report import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from poolblend.cards.blend import Level
    from poolblend.ensembling.problem import Trial
    from poolblend.report.result import BlendResult

SEARCH = "optuna"
FIXED = ("equal", "best")  # these have no fitted weights, whose stability could be shown
NO_DECISIONS = "A regression task makes no decisions."
NO_SEARCH = "No search ran: optuna is not among the blenders compared."


def member_scores(result: BlendResult) -> Figure:
    """Each member's score with its interval, and on each fold."""
    table, scorer = result.findings.scores, result.comparison.scorer
    members = result.card.members
    figure = plots.member_scores(
        list(table.index),
        table[["score", "low", "high"]].to_numpy(float).T,
        np.array([members[name].fold_scores for name in table.index], float),
        scorer.label,
        scorer.better,
        blend=result.choice.honest if len(table) > 1 else np.nan,
    )
    return _keep(result, "members", figure)


def blender_scores(result: BlendResult) -> Figure:
    """Each blender's in-sample and honest score, and what it gains over the best member."""
    reports, choice, scorer = result.reports, result.choice, result.comparison.scorer
    if len(result.matrix.members) == 1:
        title = "What the blends score, in-sample and honestly"
        return _nothing(result, "blends", title, "One member: there is nothing to blend.")
    figure = plots.blender_scores(
        list(reports),
        np.array([report.in_sample for report in reports.values()]),
        np.array([report.honest for report in reports.values()]),
        np.array([choice.over_member[name] for name in reports]).T,
        scorer.label,
        scorer.better,
        chosen=choice.blender,
        best_member=choice.member_score,
    )
    return _keep(result, "blends", figure)


def prediction_correlation(result: BlendResult) -> Figure:
    """How similar the members' predictions are."""
    corr_MM = diversity.prediction_correlation(result.matrix.oof_MNK)
    return _map(result, "predictions", corr_MM, corr_MM, "Correlation of predictions")


def error_correlation(result: BlendResult) -> Figure:
    """How similar the members' errors are."""
    matrix, task = result.matrix, result.comparison.scorer.task
    corr_MM = diversity.error_correlation(matrix.oof_MNK, matrix.y, task)
    return _map(result, "errors", corr_MM, corr_MM, "Correlation of errors")


def disagreement(result: BlendResult) -> Figure:
    """On how many decisions two members differ."""
    title = "Share of decisions on which two members differ"
    labels = decisions(result)
    if not labels:
        return _nothing(result, "disagreement", title, NO_DECISIONS)
    share_MM = diversity.disagreement(labels)
    return _map(result, "disagreement", share_MM, 1 - share_MM, title)


def q_statistic(result: BlendResult) -> Figure:
    """Whether two members are right on the same decisions."""
    title = "Yule's Q: are two members right together?"
    labels = decisions(result)
    if not labels:
        return _nothing(result, "q-statistic", title, NO_DECISIONS)
    q_MM = diversity.q_statistic(labels, result.comparison.scorer.task.hard(result.matrix.y))
    return _map(result, "q-statistic", q_MM, q_MM, title)


def losses_without(result: BlendResult) -> Figure:
    """What the blend loses when a member is left out."""
    table, blender = result.findings.without, result.findings.without_blender
    if len(table) == 1:
        title, reason = "Losses without each member", "One member: there is nothing to leave out."
        return _nothing(result, "without", title, reason)
    loss_3M = table[["value", "low", "high"]].to_numpy(float).T
    metric = result.comparison.scorer.label
    figure = plots.losses_without(list(table.index), loss_3M, metric, blender=blender)
    return _keep(result, "without", figure)


def weights(result: BlendResult) -> Figure:
    """The weights in use, and how much fitted weights vary over folds and resampled rows."""
    used, refitted = result.choice.blender, result.findings.refitted_blender
    title = f"Weights in use: {used}"
    dotted = refitted if used in FIXED else used
    if refitted != used:
        also = "dots and lines" if dotted == refitted else "lines"
        title += f" ({also}: fitted by {refitted})"
    low_M, high_M = np.quantile(result.findings.refits_RM, [0.05, 0.95], axis=0)
    figure = plots.weights(
        result.matrix.members,
        result.used.weights_M,
        low_M,
        high_M,
        result.reports[dotted].fold_weights_FM if dotted in result.reports else np.empty((0, 0)),
        title,
    )
    return _keep(result, "weights", figure)


def weights_per_output(result: BlendResult) -> Figure:
    """The weights in use on each output, if they differ between outputs."""
    name, title = "weights-per-output", "Weights in use, per output"
    weights_MK = result.used.mixture.weights_MK
    if (weights_MK == weights_MK[:, :1]).all():
        return _nothing(result, name, title, "Each member has one weight for all outputs.")
    members, outputs = result.matrix.members, result.matrix.outputs
    return _keep(result, name, plots.weights_grid(members, outputs, weights_MK, title))


def search(result: BlendResult, output: str = "") -> Figure:
    """Optuna's trials on all rows; with weights per output, those of one output."""
    title = "Optuna's search" + (f": {output}" if output else "")
    trials, scorer = searches(result).get(output), result.comparison.scorer
    if not trials:
        return _nothing(result, "search", title, NO_SEARCH)
    figure = plots.search(trials, scorer.label, scorer.better, title)
    return _keep(result, _file("search", output, searches(result)), figure)


def importances(result: BlendResult, output: str = "") -> Figure:
    """Which members' weights changed the search's scores."""
    title = "Which weights changed the search's scores" + (f": {output}" if output else "")
    trials = searches(result).get(output)
    if not trials:
        return _nothing(result, "importances", title, NO_SEARCH)
    name = _file("importances", output, searches(result))
    seed = result.comparison.seed
    share = trial_importances(trials, result.matrix.members, seed)
    if not share:
        reason = "There are too few trials, or all of them have the same score."
        return _nothing(result, name, title, reason)
    figure = plots.importances(list(share), np.array(list(share.values())), title)
    return _keep(result, name, figure)


def slices(result: BlendResult, column: str) -> Figure:
    """Scores by text length, or by a column of the train table."""
    tables, scorer = result.findings.slices, result.comparison.scorer
    figure = plots.slices(
        tables[column], scorer.label, scorer.better, column_name=column, over=result.choice.member
    )
    return _keep(result, _file("slices", column, tables), figure)


def reliability(result: BlendResult) -> Figure:
    """The predicted probabilities against how often the label is true."""
    title = "Are the probabilities calibrated?"
    matrix, choice, used = result.matrix, result.choice, result.used
    task = result.comparison.scorer.task
    if not task.probabilistic:
        reason = f"A {task.kind} task predicts no probabilities."
        return _nothing(result, "reliability", title, reason)
    best_NK = matrix.oof_MNK[matrix.members.index(choice.member)]
    probabilities = {choice.member: best_NK.ravel()}
    if any(mixture.space.name == "rank" for mixture in used.fold_mixtures):
        title += " (The blend averages ranks, not probabilities.)"
    elif len(matrix.members) > 1:
        probabilities[f"{choice.blender} blend"] = used.honest_pred_NK.ravel()
    figure = plots.reliability(truth(task, matrix.y).ravel(), probabilities, title)
    return _keep(result, "reliability", figure)


def budget(result: BlendResult) -> Figure:
    """Honest score against seconds, of the blends under rising limits of time."""
    title, use = "What more seconds would buy", result.card.budget
    if use is None:
        return _nothing(result, "budget", title, "There is no limit: blend.budget is not set.")
    scorer = result.comparison.scorer
    scores = [level.honest for level in use.levels]
    seconds = [level.seconds for level in use.levels]
    nothing = np.full(len(scores), np.nan)
    figure = plots.score_against_seconds(
        [_members_of(level) for level in use.levels],
        np.array([scores, nothing, nothing]),
        np.array(seconds),
        np.array(on_frontier(scores, seconds, scorer.better)),
        f"honest {scorer.label}",
        scorer.better,
        title=title,
        unit=f"seconds for {use.rows:,} rows",
        limit=use.limit,
    )
    return _keep(result, "budget", figure)


def _members_of(level: Level) -> str:
    count = len(level.members)
    return level.members[0] if count == 1 else f"{count} members"


def decisions(result: BlendResult) -> list[np.ndarray]:
    """Each member's decisions, with its own cuts if they are fitted; [] for a regression."""
    task = result.comparison.scorer.task
    if task.kind == "regression":
        return []
    pairs = zip(result.comparison.member_inputs, result.matrix.oof_MNK, strict=True)
    return [
        inputs if inputs.dtype.kind in "iu" else task.labels(pred_NK) for inputs, pred_NK in pairs
    ]


def searches(result: BlendResult) -> dict[str, tuple[Trial, ...]]:
    """Optuna's trials by output ("": all outputs); empty if no search ran."""
    report = result.reports.get(SEARCH)
    return dict(report.searches) if report else {}


def _map(
    result: BlendResult, name: str, values_MM: np.ndarray, similar_MM: np.ndarray, title: str
) -> Figure:
    alone = len(similar_MM) == 1
    linkage = None if alone else diversity.dendrogram_order(similar_MM).linkage
    figure = plots.heat_map(result.matrix.members, values_MM, title, linkage=linkage)
    return _keep(result, name, figure)


def _nothing(result: BlendResult, name: str, title: str, reason: str) -> Figure:
    return _keep(result, name, plots.nothing(title, reason))


def _keep(result: BlendResult, name: str, figure: Figure) -> Figure:
    plots.save(figure, result.figures / name)
    return figure


def _file(name: str, of: str, among: Iterable[str]) -> str:
    """A valid file name for a column or output of the user.

    It ends with the number of the column or output if its letters alone are not unique.
    """
    if not of:
        return name
    among = list(among)
    stems = [re.sub(r"[^A-Za-z0-9._-]+", "-", other).strip("-.")[:60] for other in among]
    stem = stems[among.index(of)]
    same = [other.lower() for other in stems].count(stem.lower())
    return f"{name}-{stem if stem and same == 1 else among.index(of)}"
