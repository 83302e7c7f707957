"""What folds that part groups hide: TF-IDF with a linear model, scored with and without groups.

  python benchmarks/folds.py --config configs/commonlit-ess.yaml --set data.dir=~/data/commonlit
  python benchmarks/folds.py --config configs/mine.yaml --set folds.groups=author

The config's folds are made twice, as they are and with `folds.groups` left out; nothing is stored.
Where scores differ, those of folds that part the groups promise what a test of other groups breaks.
"""

from __future__ import annotations

import numpy as np

import floor
from poolblend import config
from poolblend.competition.assignment import resolve_strategy
from poolblend.config import Config
from poolblend.loading.competition import CompetitionTables, new_folds, read_tables


def main() -> None:
    path, settings = floor.arguments(__doc__)
    grouped = config.load(path, settings)
    if grouped.folds.groups is None:
        raise SystemExit("folds.groups names no column; add --set folds.groups=COLUMN")
    parted = config.load(path, [*settings, "folds.groups=null", "folds.strategy=auto"])
    read = read_tables(grouped)
    for each in (parted, grouped):
        print(told(read, each))


def told(read: CompetitionTables, settings: Config) -> str:
    """One line: the strategy, the score over all rows, and each fold's."""
    fold_N = new_folds(read, settings)
    pred_NK = floor.out_of_fold(read, settings.data.text, fold_N)
    scorer, y = read.scorer, read.y
    inputs = scorer.metric_inputs(pred_NK)
    each = [
        scorer.score_inputs(y[fold_N == k], inputs[fold_N == k])
        for k in range(int(fold_N.max()) + 1)
    ]
    strategy = resolve_strategy(settings.folds, read.task)
    sizes = np.bincount(fold_N).tolist()
    return (
        f"{strategy}: {scorer.name} {scorer.score_inputs(y, inputs, fold_N):.4f}; folds "
        f"{', '.join(f'{value:.4f}' for value in each)} of {', '.join(map(str, sizes))} rows"
    )


if __name__ == "__main__":
    main()
