"""A run's results as DataFrames: its members' scores, and their out-of-fold predictions."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pandas as pd

from poolblend.competition.cells import parse_column
from poolblend.config import Config
from poolblend.loading.blend_members import gather
from poolblend.loading.competition import open_store
from poolblend.report.board import make_board
from poolblend.report.standings import Standing, standing
from poolblend.training.devices import choose_device

COLUMNS = ["folds", "mean", "sd", "score", "low", "high", "seconds", "predict_seconds", "weight"]
COLUMNS += ["missing"]


def leaderboard(config: Config) -> pd.DataFrame:
    """The board as a table, the best member first: the members of config, store and blend.

    Index member. Columns: `folds` that are finished, `mean` and `sd` of their scores; `score` over
    all out-of-fold rows with its 95 % interval `low` to `high`, NaN until all folds are finished;
    `seconds` of training, `predict_seconds` of 1,000 rows; the `weight` in the blend; and for
    members that are incomplete, why they are `missing`.
    """
    store = open_store(config)
    board = make_board(config, store, choose_device().type)
    names = dict.fromkeys([*(each.name for each in config.resolve_members()), *store.members()])
    rows = {name: _of_folds(standing(store, name, board.n_folds)) for name in names}
    for each in board.members:
        score = dict(zip(("score", "low", "high"), each.score, strict=True))
        score |= {"mean": each.fold_mean, "sd": each.fold_sd}
        seconds = {"seconds": each.train_seconds, "predict_seconds": each.predict_seconds}
        rows[each.member] = {**rows.get(each.member, {}), **score, **seconds, "weight": each.weight}
    for name, why in board.missing.items():
        rows[name] = {**rows.get(name, {}), "missing": why}
    table = pd.DataFrame.from_dict(rows, "index").rename_axis("member")
    table = table.reindex(columns=COLUMNS).astype(dict.fromkeys(COLUMNS[1:-1], float))
    sign = -1 if board.better == "max" else 1
    return table.sort_values(["score", "mean"], key=lambda column: sign * column, kind="stable")


def _of_folds(each: Standing) -> dict[str, Any]:
    known = [score for score in each.scores.values() if score is not None]
    return {
        "folds": len(each.scores),
        "mean": statistics.mean(known) if known else None,
        "sd": statistics.stdev(known) if len(known) > 1 else None,
        "seconds": each.seconds if each.scores else None,
    }


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
