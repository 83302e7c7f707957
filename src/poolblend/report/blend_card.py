"""Fill in the blend card from the results of a comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from poolblend.cards.blend import (
    BlendCard,
    BlenderScores,
    BlendMember,
    BudgetUse,
    Chosen,
    Diversity,
    FitOptions,
    Form,
    Interval,
    LossWithout,
    Refitted,
    Weighting,
)
from poolblend.cards.provenance import Provenance
from poolblend.config import Config
from poolblend.ensembling.blenders import by_simplicity
from poolblend.ensembling.choice import Choice, sentence
from poolblend.ensembling.contributions import fold_scores, stability_table
from poolblend.ensembling.diversity import (
    ambiguity,
    disagreement,
    error_correlation,
    prediction_correlation,
    q_statistic,
)
from poolblend.ensembling.honesty import Comparison, Honest
from poolblend.ensembling.slices import slice_sentence
from poolblend.loading.blend_members import Members
from poolblend.report.result import Findings


def blend_card(
    config: Config,
    gathered: Members,
    comparison: Comparison,
    choice: Choice,
    findings: Findings,
    fitted_rows: int | None = None,
    budget: BudgetUse | None = None,
) -> BlendCard:
    """The card of a finished comparison; `fitted_rows` of a sample that weights are fitted on."""
    matrix, competition = comparison.matrix, gathered.competition
    error_corr_MM = error_correlation(matrix.oof_MNK, matrix.y, competition.task)
    stability = stability_table(matrix.members, findings.refits_RM)
    used = comparison.reports[choice.blender]
    members = {
        name: BlendMember(
            origin=gathered.origins[name],
            weight=float(used.weights_M[m]),
            **_row(findings.scores, name),
            fold_scores=fold_scores(matrix, competition.scorer, comparison.member_inputs[m]),
            without=LossWithout(**_row(findings.without, name)),
            refitted=Refitted(**_row(stability, name)),
            error_correlation=_mean_with_others(error_corr_MM, m),
        )
        for m, name in enumerate(matrix.members)
    }
    return BlendCard(
        run=config.run,
        task=competition.task,
        positive=competition.positive,
        metric=competition.scorer.name,
        blender=choice.blender,
        sentence=sentence(choice),
        choice=Chosen(**{name: getattr(choice, name) for name in Chosen.model_fields}),
        form=Form(**comparison.form._asdict()),
        mixture=Weighting(**used.mixture.to_json()),
        members=members,
        left_out=gathered.left_out,
        blenders={
            name: _scores_of(report, choice, name) for name, report in comparison.reports.items()
        },
        simplest_first=tuple(by_simplicity()),
        inputs=competition.data,
        rows=len(gathered.matrix.y),
        fitted_rows=fitted_rows,
        compared_rows=None if fitted_rows is None else len(matrix.y),
        diversity=_diversity(comparison, used, error_corr_MM),
        without_blender=findings.without_blender,
        refitted_blender=findings.refitted_blender,
        slices={
            column: slice_sentence(table, choice.blender, choice.member, column)
            for column, table in findings.slices.items()
            if choice.n_members > 1
        },
        budget=budget,
        options=FitOptions(
            space=config.blend.space,
            weights=config.blend.weights,
            thresholds=config.blend.thresholds,
            trials=config.blend.trials,
            seed=config.seed,
        ),
        config=config.model_dump(mode="json"),
        provenance=Provenance.here(),
    )


def _scores_of(report: Honest, choice: Choice, name: str) -> BlenderScores:
    return BlenderScores(
        in_sample=report.in_sample,
        honest=report.honest,
        optimism=report.optimism,
        over_member=Interval(**choice.over_member[name]._asdict()),
        over_equal=Interval(**choice.over_equal[name]._asdict()),
        space=report.mixture.space.name,
        weights=report.mixture.weights_MK.tolist(),
        fold_weights=report.fold_weights_FM.tolist(),
    )


def _row(table: pd.DataFrame, name: str) -> dict[str, Any]:
    """A table's row, with None for NaN."""
    row = table.to_dict("index")[name]
    return {str(key): None if pd.isna(value) else value for key, value in row.items()}


def _diversity(comparison: Comparison, used: Honest, error_corr_MM: np.ndarray) -> Diversity:
    """How different the members are on average, in numbers and in a sentence.

    `error_corr_MM` is the correlation of their errors.
    """
    matrix, scorer, task = comparison.matrix, comparison.scorer, comparison.scorer.task
    pairs = np.triu_indices(len(matrix.members), 1)

    def mean(values_MM: np.ndarray) -> float | None:
        known = values_MM[pairs][np.isfinite(values_MM[pairs])]
        return float(known.mean()) if known.size else None

    numbers: dict[str, Any] = {
        "prediction_correlation": mean(prediction_correlation(matrix.oof_MNK)),
        "error_correlation": mean(error_corr_MM),
    }
    clauses = []
    if numbers["error_correlation"] is not None:
        correlation = numbers["error_correlation"]
        clauses.append(f"the members' errors correlate by {correlation:.3f} on average")
    if task.kind != "regression":
        labels = comparison.member_inputs
        if scorer.metric.inputs == "scores":
            labels = tuple(task.labels(pred_NK) for pred_NK in matrix.oof_MNK)
        numbers["disagreement"] = mean(disagreement(labels))
        numbers["q_statistic"] = mean(q_statistic(labels, task.hard(matrix.y)))
        if numbers["disagreement"] is not None:
            clauses.append(f"two of them decide {numbers['disagreement']:.1%} differently")
        if numbers["q_statistic"] is not None:
            clauses.append(f"Yule's Q is {numbers['q_statistic']:.3f}")
    parts = ambiguity(matrix.oof_MNK, used.mixture.weights_MK, matrix.y, task)
    if np.isfinite(parts.ensemble_error):
        numbers |= parts._asdict()
        clauses.append(
            f"their mean squared error of {parts.member_error:.5f}, less a spread of "
            f"{parts.ambiguity:.5f}, is the {parts.ensemble_error:.5f} of their weighted mean"
        )
    sentence = "; ".join(clauses)
    return Diversity(**numbers, sentence=f"{sentence[:1].upper()}{sentence[1:]}.")


def _mean_with_others(error_corr_MM: np.ndarray, m: int) -> float | None:
    others = np.delete(error_corr_MM[m], m)
    known = others[np.isfinite(others)]
    return float(known.mean()) if known.size else None
