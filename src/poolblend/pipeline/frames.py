"""A run's results as DataFrames: its members' scores, and their out-of-fold predictions."""

from __future__ import annotations

import logging
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.competition.cells import parse_column
from poolblend.competition.metrics import METRICS
from poolblend.config import Config
from poolblend.ensembling.contributions import member_table
from poolblend.ensembling.many_rows import sample_rows
from poolblend.errors import UserError
from poolblend.loading.blend_members import gather
from poolblend.loading.competition import open_store
from poolblend.report.standings import Standing, standing
from poolblend.store import Store, read_folds

log = logging.getLogger(__name__)


def leaderboard(config: Config) -> pd.DataFrame:
    """A row per member, the best first: index member, the members of the config and of the store.

    Columns: `folds` that are finished; `score` over all out-of-fold rows with its 95 % interval
    `low` to `high`, NaN until all folds are finished; `mean` and `sd` of the scores of finished
    folds; `seconds` of training; and `weight` once there is a blend, each of whose members has a
    row.
    """
    store = open_store(config)
    folds = read_folds(store.folds_path)
    n_folds = config.folds.n if folds is None else folds.table["fold"].nunique()
    names = dict.fromkeys([*(each.name for each in config.resolve_members()), *store.members()])
    standings = [standing(store, name, n_folds) for name in names]
    rows = {each.member: _row(each) for each in standings}
    complete = [each.member for each in standings if len(each.scores) == n_folds]
    for name, scores in _scores(config, store, complete).items():
        rows[name] |= scores
    members = store.read_blend().members if store.blend_path.exists() else {}
    for name, member in members.items():
        if name not in rows:  # of another tool
            folds_of = dict(enumerate(member.fold_scores))
            own = {"score": member.score, "low": member.low, "high": member.high}
            rows[name] = _row(Standing(name, n_folds, folds_of, np.nan, ())) | own
        rows[name]["weight"] = member.weight
    table = pd.DataFrame.from_dict(rows, "index").rename_axis("member")
    sign = -1 if METRICS[config.metric].better == "max" else 1
    return table.sort_values(["score", "mean"], key=lambda column: sign * column, kind="stable")


def _row(each: Standing) -> dict[str, float | None]:
    known = [score for score in each.scores.values() if score is not None]
    return {
        "folds": len(each.scores),
        "score": np.nan,
        "low": np.nan,
        "high": np.nan,
        "mean": statistics.mean(known) if known else np.nan,
        "sd": statistics.stdev(known) if len(known) > 1 else np.nan,
        "seconds": each.seconds if each.scores else np.nan,
    }


def _scores(config: Config, store: Store, complete: list[str]) -> dict[str, dict[Any, float]]:
    """Score, low and high of each complete member; none where their data have changed."""
    if not complete:
        return {}
    try:
        gathered = gather(config, store, complete, None)
    except UserError as error:
        log.warning("no scores over all rows: %s", error)
        return {}
    matrix, scorer = sample_rows(gathered.matrix), gathered.competition.scorer
    inputs = [scorer.metric_inputs(pred_NK) for pred_NK in matrix.oof_MNK]
    drawn = {"seed": config.seed, "resamples": config.blend.resamples}
    table = member_table(matrix, scorer, inputs, **drawn)
    return {str(name): scores.to_dict() for name, scores in table.iterrows()}


def oof(config: Config, *, members_from: str | None = None) -> pd.DataFrame:
    """Out-of-fold predictions of all complete members, in train's order of rows.

    Columns: the ids under their own name, `fold`, the targets, and each member's prediction as
    `<member>`, or where there are several outputs `<member>:<output>`. `members_from` is a folder
    of other tools' predictions, as for `blend`.
    """
    folder = Path(members_from).expanduser() if members_from else None
    gathered = gather(config, open_store(config), None, folder)
    matrix, tables, task = gathered.matrix, gathered.competition.tables, gathered.competition.task
    ids = tables.train[tables.id]
    row_N = pd.Index(matrix.ids_N).get_indexer(pd.Index(ids))
    found = {tables.id: parse_column(ids), "fold": matrix.fold_N[row_N]}
    found |= {target: tables.train[target] for target in task.targets}
    for name, pred_NK in zip(matrix.members, matrix.oof_MNK, strict=True):
        for k, output in enumerate(matrix.outputs):
            column = name if len(matrix.outputs) == 1 else f"{name}:{output}"
            found[column] = pred_NK[row_N, k]
    return pd.DataFrame(found)
