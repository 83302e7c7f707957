"""The blend's pictures: each drawn from what the blend found, kept as PNG and SVG, and returned.

Legend: M members, N rows, K outputs, F folds, R refits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from poolblend.ensembling import diversity
from poolblend.ensembling.smooth import truth
from poolblend.ensembling.study import importances
from poolblend.report import plots
from poolblend.report.plots.style import nothing, theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from poolblend.ensembling.problem import Trial
    from poolblend.pipeline.blending import Blend

SEARCH = "optuna"
FIXED = ("equal", "best")  # their weights say nothing of how firm fitted ones are


class Pictures:
    """One method per picture of a blend; the store's `figures/` has the files.

    A picture that does not apply, such as the reliability of a regression, says so instead.
    """

    def __init__(self, blend: Blend) -> None:
        self._blend, self._matrix = blend, blend.matrix
        scorer = blend.comparison.scorer
        self._task, self._metric, self._better = scorer.task, scorer.name, scorer.better

    def members(self) -> Figure:
        """Each member's score with its interval, and on each fold."""
        table, card = self._blend.members, self._blend.card.members
        score_M, low_M, high_M = (table[name].to_numpy(float) for name in ("score", "low", "high"))
        figure = plots.member_scores(
            list(table.index),
            score_M,
            low_M,
            high_M,
            self._metric,
            self._better,
            fold_scores_MF=np.array([card[name].fold_scores for name in table.index], float),
            reference=self._blend.choice.honest if len(table) > 1 else None,
        )
        return self._keep("members", figure)

    def blends(self) -> Figure:
        """Each blender's in-sample and honest score, and what it gains over the best member."""
        title = "What the blends score, in-sample and honestly"
        reports, choice = self._blend.reports, self._blend.choice
        if len(self._matrix.members) == 1:
            return self._keep("blends", _nothing(title, "One member: there is nothing to blend."))
        gain_B, low_B, high_B = np.array([choice.over_member[name] for name in reports]).T
        figure = plots.optimism(
            list(reports),
            np.array([report.in_sample for report in reports.values()]),
            np.array([report.honest for report in reports.values()]),
            self._metric,
            self._better,
            chosen=choice.blender,
            gain=gain_B,
            low=low_B,
            high=high_B,
            reference=choice.member_score,
            reference_name="best member, honest",
            title=title,
        )
        return self._keep("blends", figure)

    def predictions(self) -> Figure:
        """How alike the members predict."""
        corr_MM = diversity.prediction_correlation(self._matrix.oof_MNK)
        return self._map("predictions", corr_MM, corr_MM, "Correlation of predictions")

    def errors(self) -> Figure:
        """How alike the members err."""
        matrix = self._matrix
        corr_MM = diversity.error_correlation(matrix.oof_MNK, matrix.y, self._task)
        return self._map("errors", corr_MM, corr_MM, "Correlation of errors")

    def disagreement(self) -> Figure:
        """On how many decisions two members differ."""
        title = "Share of decisions on which two members differ"
        if not self.labels:
            return self._undecided("disagreement", title)
        share_MM = diversity.disagreement(self.labels)
        return self._map("disagreement", share_MM, 1 - share_MM, title)

    def q_statistic(self) -> Figure:
        """Whether two members are right on the same decisions."""
        title = "Yule's Q: are two members right together?"
        if not self.labels:
            return self._undecided("q-statistic", title)
        q_MM = diversity.q_statistic(self.labels, self._task.hard(self._matrix.y))
        return self._map("q-statistic", q_MM, q_MM, title)

    def without(self) -> Figure:
        """What the blend loses when a member is left out."""
        table = self._blend.without
        value_M, low_M, high_M = (table[name].to_numpy(float) for name in ("value", "low", "high"))
        figure = plots.leave_one_out(
            list(table.index) if len(table) > 1 else [],
            value_M,
            low_M,
            high_M,
            self._metric,
            title=f"What the {self._blend.card.without_blender} blend loses without each member",
        )
        return self._keep("without", figure)

    def weights(self) -> Figure:
        """The weights in use, and how firm fitted ones are: over folds, and on resampled rows."""
        blend, used = self._blend, self._blend.choice.blender
        title = f"Weights in use: {used}"
        dotted = blend.refitted if used in FIXED else used
        if blend.refitted != used:
            also = "dots and lines" if dotted == blend.refitted else "lines"
            title += f" ({also}: fitted by {blend.refitted})"
        low_M, high_M = np.quantile(blend.refits_RM, [0.05, 0.95], axis=0)
        figure = plots.weights_bar(
            self._matrix.members,
            blend.used.weights_M,
            title,
            low=low_M,
            high=high_M,
            fold_weights_FM=blend.reports[dotted].fold_weights_FM
            if dotted in blend.reports
            else None,
        )
        return self._keep("weights", figure)

    def weights_per_output(self) -> Figure:
        """The weights in use on each output, where they differ between outputs."""
        title, weights_MK = "Weights in use, per output", self._blend.used.mixture.weights_MK
        if (weights_MK == weights_MK[:, :1]).all():
            figure = _nothing(title, "Each member has one weight for all outputs.")
        else:
            figure = plots.weights_grid(
                self._matrix.members, self._matrix.outputs, weights_MK, title
            )
        return self._keep("weights-per-output", figure)

    def search(self, output: str = "") -> Figure:
        """Optuna's trials on all rows; with weights per output, those of one output."""
        title = _titled("Optuna's search", output)
        trials = self.searches.get(output)
        if not trials:
            return self._unsearched("search", title)
        figure = plots.optuna_history(trials, self._metric, self._better, title)
        return self._keep(_file("search", output, self.searches), figure)

    def importances(self, output: str = "") -> Figure:
        """Which members' weights the search's scores turned on."""
        title = _titled("Which weights the search turned on", output)
        trials = self.searches.get(output)
        if not trials:
            return self._unsearched("importances", title)
        share = importances(trials, self._matrix.members, self._blend.comparison.seed)
        figure = plots.importances(list(share), np.array(list(share.values())), title)
        return self._keep(_file("importances", output, self.searches), figure)

    def slices(self, column: str) -> Figure:
        """Scores by text length, or by a column of the train table."""
        choice, table = self._blend.choice, self._blend.slices[column]
        figure = plots.slices(
            table, self._metric, self._better, f"Scores by {column}", over=choice.member
        )
        return self._keep(_file("slices", column, self._blend.slices), figure)

    def reliability(self) -> Figure:
        """Whether a predicted probability is how often it comes true."""
        title = "Do the probabilities mean what they say?"
        matrix, choice, used = self._matrix, self._blend.choice, self._blend.used
        if not self._task.probabilistic:
            reason = f"A {self._task.kind} task predicts no probabilities."
            return self._keep("reliability", _nothing(title, reason))
        best = matrix.oof_MNK[matrix.members.index(choice.member)]
        told = {choice.member: best.ravel()}
        if any(mixture.space.name == "rank" for mixture in used.fold_mixtures):
            title += " (The blend averages ranks, which are none.)"
        elif len(matrix.members) > 1:
            told[f"{choice.blender} blend"] = used.honest_pred_NK.ravel()
        figure = plots.reliability(truth(self._task, matrix.y).ravel(), told, title=title)
        return self._keep("reliability", figure)

    @property
    def labels(self) -> list[np.ndarray]:
        """Each member's decisions, at cuts of its own where cuts are fitted; none in regression."""
        if self._task.kind == "regression":
            return []
        pairs = zip(self._blend.comparison.member_taken, self._matrix.oof_MNK, strict=True)
        return [
            taken if taken.dtype.kind in "iu" else self._task.labels(pred_NK)
            for taken, pred_NK in pairs
        ]

    @property
    def searches(self) -> dict[str, tuple[Trial, ...]]:
        """Optuna's trials by the output searched for, "" for all; empty where none was asked."""
        report = self._blend.reports.get(SEARCH)
        return dict(report.searches) if report else {}

    def _map(self, name: str, values_MM: np.ndarray, alike_MM: np.ndarray, title: str) -> Figure:
        linkage = diversity.dendrogram_order(alike_MM).linkage
        figure = plots.heat_map(self._matrix.members, values_MM, title, linkage=linkage)
        return self._keep(name, figure)

    def _undecided(self, name: str, title: str) -> Figure:
        return self._keep(name, _nothing(title, "A regression task decides nothing."))

    def _unsearched(self, name: str, title: str) -> Figure:
        reason = "No search ran: optuna is not among the blenders compared."
        return self._keep(name, _nothing(title, reason))

    def _keep(self, name: str, figure: Figure) -> Figure:
        if not figure.axes:  # IPython shows nothing of a figure that has only text
            figure.set_layout_engine("none")
            figure.add_axes((0, 0, 1, 1)).set_axis_off()
        plots.save(figure, self._blend.store.figure_path(name))
        return figure


_nothing = theme()(nothing)


def _titled(title: str, output: str) -> str:
    return f"{title}: {output}" if output else title


def _file(name: str, of: str, among: Iterable[str]) -> str:
    """A file's name after one of the user's columns or outputs, whatever letters those have.

    Where that leaves nothing to tell it from the others, its place among them does.
    """
    if not of:
        return name
    among = list(among)
    stems = [re.sub(r"[^A-Za-z0-9._-]+", "-", other).strip("-.")[:60] for other in among]
    stem = stems[among.index(of)]
    alike = [other.lower() for other in stems].count(stem.lower())
    return f"{name}-{stem if stem and alike == 1 else among.index(of)}"
