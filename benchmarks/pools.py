"""Does a small table learn better when its rows meet other neighbours in every epoch?

  python benchmarks/pools.py --config configs/trec.yaml --set data.dir=~/data/trec \
      --set store=/tmp/pools --set data.sample_rows=1500 --set folds.n=3

Batches hold rows of similar length, sorted within pools of rows. A table of fewer than 50 batches
is one pool, so that nearly the same rows share a batch in every epoch. Trains the config's first
member under each seed with one pool and with three, in stores of their own below the config's; run
again, it goes on where it stopped. Prints each score, the share of padding, and the gain of three
pools with its 95 % interval over resampled rows.

Legend: N rows, K outputs, R resamples.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from poolblend import config, pipeline
from poolblend.config import Config
from poolblend.ensembling.resampling import bootstrap, gain
from poolblend.loading.competition import load_competition, open_store, read_tables
from poolblend.store.predictions import from_table
from poolblend.training import batches

POOLS = (1, 3)
RESAMPLES = 2000


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--seeds", default="0,1,2")
    args = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    seeds = [int(seed) for seed in args.seeds.split(",")]
    base = config.load(args.config, args.set)
    inputs: dict[int, list[np.ndarray]] = {pools: [] for pools in POOLS}
    for seed in seeds:
        for pools in POOLS:
            settings = [*args.set, f"store={base.store}/pools-{pools}", f"seeds=[{seed}]"]
            inputs[pools].append(trained(config.load(args.config, settings), pools))
    competition = load_competition(base, open_store(base), make_folds=True)
    y, fold_N, scorer = competition.y, competition.fold_N, competition.scorer
    print(f"{scorer.name}, {len(y)} rows, {competition.n_folds} folds, seeds {args.seeds}")
    losses = {}
    for pools in POOLS:
        each = [scorer.metric_inputs(pred_NK) for pred_NK in inputs[pools]]
        scores = [scorer.score_inputs(y, one, fold_N) for one in each]
        shown = " ".join(f"{score:.4f}" for score in scores)
        print(f"pools {pools}: {np.mean(scores):.4f} ({shown})")
        drawn_PR = bootstrap(y, each, scorer, fold_N=fold_N, resamples=RESAMPLES)
        losses[pools] = np.mean([scorer.loss_inputs(y, one, fold_N) for one in each]), drawn_PR
    (one, one_PR), (three, three_PR) = (losses[pools] for pools in POOLS)
    told = gain(one_PR.mean(axis=0), three_PR.mean(axis=0), float(one - three))
    print(f"gain of three pools: {told.value:+.4f} ({told.low:+.4f} to {told.high:+.4f})")


def trained(settings: Config, pools: int) -> np.ndarray:
    """Out-of-fold predictions (N, K) of the config's first member, trained where they lack."""
    first, folds = settings.resolve_members()[0], settings.folds.n
    rows = len(read_tables(settings).y) * (folds - 1) // folds
    batches.BATCHES_PER_POOL = math.ceil(math.ceil(rows / first.train.batch_size) / pools)
    pipeline.train(settings, poolers=first.pooler)
    store = open_store(settings)
    competition = load_competition(settings, store)
    oof = pd.concat([store.fold(first.name, fold).oof() for fold in range(folds)])
    ids = competition.tables.train[settings.data.id]
    return from_table(oof, ids, competition.task.outputs)


if __name__ == "__main__":
    main()
