"""Analyse a chosen blend: its members, the stability of its weights, and its weak slices."""

from __future__ import annotations

import numpy as np
import pandas as pd

from poolblend.competition.templates import text_columns
from poolblend.config import Config
from poolblend.ensembling import contributions
from poolblend.ensembling.blenders import BLENDERS
from poolblend.ensembling.choice import Choice
from poolblend.ensembling.honesty import Comparison, cross_fit
from poolblend.ensembling.slices import length_bins, slice_table, slices
from poolblend.loading.competition import Competition
from poolblend.report.result import Findings

TEXT_LENGTH = "words of text"
BEST_MEMBER = "best member"  # in slice tables, where a member's name could be that of a column
QUICK = "convex"  # replaces a blender that is too slow to be fitted many times


def row_slices(
    config: Config, competition: Competition, ids_N: np.ndarray
) -> dict[str, pd.Categorical]:
    """The slice of each of these rows, by text length and by the columns of the config."""
    tables = competition.tables
    train = tables.train.set_index(tables.id, drop=False).loc[ids_N]
    texts = train[text_columns(config.data.text)].agg(" ".join, axis=1)
    by_length = {TEXT_LENGTH: length_bins(texts)}
    return by_length | {column: slices(train[column]) for column in config.blend.slices}


def quick_blender(choice: Choice) -> str:
    """The chosen blender, or one that can be fitted many times in its place."""
    if choice.n_members > contributions.MANY:
        return "equal"
    return choice.blender if BLENDERS[choice.blender].quick else QUICK


def look_into(
    comparison: Comparison,
    choice: Choice,
    row_slices: dict[str, pd.Categorical],
    *,
    seed: int,
    resamples: int,
) -> Findings:
    """Fit the blend again without each member and on resampled rows, and score it per slice."""
    matrix, scorer = comparison.matrix, comparison.scorer
    drawn = {"seed": seed, "resamples": resamples}
    scores = contributions.member_table(matrix, scorer, comparison.member_inputs, **drawn)
    blender = quick_blender(choice)
    # The many small fits do not choose the space and the cuts again.
    chosen = {
        "space": comparison.form.space,
        "thresholds": "fitted" if comparison.form.cuts else "default",
    }
    options = comparison.options.model_copy(update=chosen)
    honest_inputs = cross_fit(blender, matrix, scorer, options, seed=seed).honest_inputs
    without = contributions.leave_one_out(matrix, scorer, options, blender, honest_inputs, **drawn)
    refitted = QUICK if blender in ("equal", "best") else blender
    refits_RM = contributions.weight_stability(matrix, scorer, options, refitted, seed=seed)
    compared = {
        BEST_MEMBER: comparison.member_inputs[matrix.members.index(choice.member)],
        **{name: comparison.reports[name].honest_inputs for name in ("equal", choice.blender)},
    }
    tables = {
        column: slice_table(
            matrix.y,
            compared,
            scorer,
            slice_N,
            reference=BEST_MEMBER,
            fold_N=matrix.fold_N,
            group_N=matrix.group_N,
            **drawn,
        )
        for column, slice_N in row_slices.items()
    }
    return Findings(scores, without, blender, refits_RM, refitted, tables)
