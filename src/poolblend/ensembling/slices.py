"""Scores per slice of the rows: the best blend overall may lose on an important slice.

Shapes: V values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from poolblend.competition.metrics import Scorer, UndefinedScoreError
from poolblend.ensembling.choice import show_gain
from poolblend.ensembling.resampling import RESAMPLES, Gain, Resamples
from poolblend.errors import UserError, unknown

EMPTY = "(empty)"
# Resamples of fewer rows, or groups, differ too little for their quantiles to be an interval.
FEWEST = 30
LONGEST = 40
GAIN = ("gain", "low", "high")


def slices(values: Iterable[Any], levels: int = 8) -> pd.Categorical:
    """The slice of each row by a column's values: at most `levels` of them, and "(empty)".

    Numbers, also as strings, become values or bins of about equal size, equal values together,
    labelled "12–34"; NaN is empty among numbers. Of other values the most frequent stand for
    themselves and the rest are "other (n levels)".
    """
    cells = _cells(values)
    number_N = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64)
    blank_N = cells.str.lower().isin(("", "nan")).to_numpy()
    numeric = bool((np.isnan(number_N) == blank_N).all() and not blank_N.all())
    empty_N = blank_N if numeric else (cells == "").to_numpy()
    filled_N = ~empty_N
    code_N = np.empty(len(cells), dtype=np.int64)
    if numeric:
        code_N[filled_N], names = _bins(number_N[filled_N], levels)
    else:
        code_N[filled_N], names = _levels(cells[filled_N], levels)
    code_N[empty_N] = len(names)
    names = [*names, EMPTY] if empty_N.any() else names
    return pd.Categorical.from_codes(code_N, pd.Index(_distinct(names), dtype=object), ordered=True)


def length_bins(texts: Iterable[Any], levels: int = 8) -> pd.Categorical:
    """The slice of each text by its length, in words between blanks; a missing text has none."""
    lengths = slices([len(text.split()) for text in _cells(texts)], levels)
    return lengths.rename_categories(lambda name: f"{name} word{'' if name == '1' else 's'}")


def slice_table(
    y: np.ndarray,
    metric_inputs: Mapping[str, np.ndarray],
    scorer: Scorer,
    slice_N: Any,
    *,
    reference: str,
    fold_N: np.ndarray | None = None,
    group_N: np.ndarray | None = None,
    seed: int = 42,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Scores in each slice: index slice; rows, a column per prediction, gain, low, high.

    `metric_inputs` are as `Scorer` returns them, `fold_N` the folds of out-of-fold predictions. The
    gain is that of the last over `reference`, positive where better, with a 95 % interval from
    30 rows on (groups, where given). NaN where the metric is undefined in a slice. Raises UserError
    for an unknown reference or slices of other rows.
    """
    if reference not in metric_inputs:
        raise unknown("prediction", reference, metric_inputs)
    labels = pd.Categorical(slice_N)
    if len(labels) != len(y):
        raise UserError(
            f"slices of {len(labels)} rows were given for {len(y)} predicted ones, expected one "
            "for each; take the column from the table that was predicted"
        )
    chosen = list(metric_inputs)[-1]
    table = {}
    for code in np.unique(labels.codes[labels.codes >= 0]):
        row_N = np.flatnonzero(labels.codes == code)
        part = {name: inputs[row_N] for name, inputs in metric_inputs.items()}
        fold, group = (None if each is None else each[row_N] for each in (fold_N, group_N))
        scores = {name: _score(scorer, y[row_N], inputs, fold) for name, inputs in part.items()}
        value = (scores[chosen] - scores[reference]) * (1 if scorer.better == "max" else -1)
        gained = Gain(value, np.nan, np.nan)
        if len(row_N if group is None else np.unique(group)) >= FEWEST:
            with suppress(UserError):  # undefined on most resamples
                gained = Resamples(
                    y[row_N],
                    {name: part[name] for name in (reference, chosen)},
                    scorer,
                    fold_N=fold,
                    group_N=group,
                    seed=seed,
                    resamples=resamples,
                ).gain(reference, chosen)
        table[labels.categories[code]] = {
            "rows": len(row_N),
            **scores,
            **dict(zip(GAIN, gained, strict=True)),
        }
    columns = ["rows", *metric_inputs, *GAIN]
    return pd.DataFrame.from_dict(table, orient="index", columns=columns).rename_axis("slice")


def slice_sentence(table: pd.DataFrame, chosen: str, reference: str, column: str = "") -> str:
    """In which slices `chosen` scores significantly below `reference`, or that in none."""
    judged = table[table["low"].notna()]
    of = f" of {column}" if column else ""
    if judged.empty:
        return (
            f"{chosen} and {reference} cannot be compared in any slice{of}: each slice has fewer "
            f"than {FEWEST} rows, or the metric is undefined in it."
        )
    silent = len(table) - len(judged)
    rest = f" ({silent} more not compared: too few rows, or metric undefined)" if silent else ""
    number = f"{len(judged)} slice{'s' if len(judged) > 1 else ''}{of}"
    lost = judged[judged["high"] < 0].sort_values("gain", kind="stable")
    if lost.empty:
        return f"{chosen} scores significantly below {reference} in 0 of {number}{rest}."
    named = ", ".join(
        f"'{name}' {show_gain(Gain(*row[list(GAIN)]))} on {row['rows']:.0f} rows"
        for name, row in lost.iterrows()
    )
    return (
        f"{chosen} scores significantly below {reference} in {len(lost)} of {number}: "
        f"{named}{rest}; by chance alone, this is expected in one slice of 40."
    )


def _cells(values: Iterable[Any]) -> pd.Series:
    """The values as strings, with one blank between words; "" for a missing one."""
    given = pd.Series(list(values), dtype=object)
    return given.where(given.notna(), "").map(lambda value: " ".join(str(value).split()))


def _bins(number_N: np.ndarray, levels: int) -> tuple[np.ndarray, list[str]]:
    """Each row's bin, and the bins' labels: single values where these are few, else equal sizes.

    Bins use the values' middle ranks: with quantiles, a frequent value would absorb others.
    """
    value_V, code_N = np.unique(number_N, return_inverse=True)
    if len(value_V) > levels:
        middle_N = rankdata(number_N) - 0.5
        _, code_N = np.unique((middle_N * levels / len(number_N)).astype(int), return_inverse=True)
    bins = [number_N[code_N == code] for code in range(code_N.max() + 1)]
    edges = [(part.min(), part.max()) for part in bins]
    shown = _shown(np.unique(edges))
    to = " to " if value_V[0] < 0 else "–"
    return code_N, [
        shown[low] if low == high else f"{shown[low]}{to}{shown[high]}" for low, high in edges
    ]


def _shown(edges: np.ndarray) -> dict[float, str]:
    """Each number as a string, with just enough digits to distinguish them."""
    largest = np.abs(edges[np.isfinite(edges)]).max(initial=0)
    shown: dict[float, str] = {}
    for digits in range(min(max(3, len(f"{largest:.0f}")), 15), 18):
        shown = {edge: f"{edge + 0.0:.{digits}g}" for edge in edges}
        if len(set(shown.values())) == len(edges):
            break
    return shown


def _levels(cells: pd.Series, levels: int) -> tuple[np.ndarray, list[str]]:
    """The most frequent values, of equals the first by name; and their labels."""
    rows = Counter(cells)
    ranked = sorted(rows, key=lambda name: (-rows[name], name))
    kept = ranked if len(ranked) <= levels else ranked[: levels - 1]
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…" for name in kept]
    if len(kept) < len(ranked):
        names.append(f"other ({len(ranked) - len(kept)} levels)")
    code = {name: n for n, name in enumerate(kept)}
    return np.array([code.get(cell, len(kept)) for cell in cells], dtype=np.int64), names


def _distinct(names: Sequence[str]) -> list[str]:
    """Equal names, such as long ones cut short, are numbered from the second on."""
    distinct: dict[str, None] = {}
    for name in names:
        candidates = (name, *(f"{name} ({n})" for n in range(2, len(names) + 1)))
        distinct[next(each for each in candidates if each not in distinct)] = None
    return list(distinct)


def _score(scorer: Scorer, y: np.ndarray, inputs: np.ndarray, fold: np.ndarray | None) -> float:
    try:
        return scorer.score_inputs(y, inputs, fold)
    except UndefinedScoreError:
        return np.nan
