"""What each recipe is worth: the same members with it and without it, in the same folds.

  python benchmarks/recipes.py --config configs/trec.yaml --set data.dir=~/data/trec \
      --set store=/tmp/recipes --set data.sample_rows=1200 --set folds.n=2 --set train.epochs=3

Trains every recipe under each seed, seed by seed, into the config's store; run again, it goes on
where it stopped. Prints OOF scores as means over the seeds that are finished for all, and the gain
over the plain member with a 95 % interval over resampled rows.
"""

import argparse
import logging
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from poolblend import config, pipeline
from poolblend.pipeline.competition import load_competition, open_store
from poolblend.store.predictions import from_table

RECIPES = {
    "plain": {},
    "layer-decay": {"layer_decay": 0.9},
    "reinit": {"reinit_layers": 1},
    "freeze": {"freeze_layers": 2},
    "lora": {"lora": {"r": 8, "alpha": 16.0}, "lr": 3e-3},
    "dropout-samples": {"dropout_samples": 5},
    "label-smoothing": {"label_smoothing": 0.1},
    "class-weights": {"class_weights": "balanced"},
    "rdrop": {"rdrop": 1.0},
    "fgm": {"fgm": 0.2},
    "awp": {"awp": 0.0005},
    "ema": {"ema": 0.99},
    "swa": {"swa_epochs": 2},
    "early-stopping": {"early_stopping": 1},
}
RESAMPLES = 2000


def members(names, seeds, pooler):
    """The members as a YAML flow list, seed by seed."""
    entries = [
        f"{{pooler: {pooler}, tag: {name}, seed: {seed}, train: {_flow(RECIPES[name])}}}"
        for seed in seeds
        for name in names
    ]
    return f"members=[{', '.join(entries)}]"


def _flow(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    return str(value)


def oof_predictions(store, competition, member, ids):
    """(N, K) of a member whose folds are all finished; None of any other."""
    folds = range(competition.n_folds)
    if any(store.fold_card(member, fold) is None for fold in folds):
        return None
    tables = [store.read_oof(member, fold) for fold in folds]
    import pandas as pd

    return from_table(pd.concat(tables), ids, competition.task.outputs)


def seconds(store, competition, member):
    cards = [store.fold_card(member, fold) for fold in range(competition.n_folds)]
    return sum(card["seconds"] for card in cards)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--recipes", default=",".join(RECIPES))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--pooler", default="mean")
    parser.add_argument("--table", action="store_true", help="train nothing")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    names, seeds = args.recipes.split(","), args.seeds.split(",")
    settings = config.load(args.config, [*args.set, members(names, seeds, args.pooler)])
    if not args.table:
        pipeline.train(settings)
    print(table(settings, names, seeds))


def table(settings, names, seeds):
    """Markdown: a line per recipe."""
    store = open_store(settings)
    competition = load_competition(settings, store)
    ids, y, scorer = competition.tables.train[settings.data.id], competition.y, competition.scorer
    found = {}
    for member in settings.resolve_members():
        pred_NK = oof_predictions(store, competition, member.name, ids)
        if pred_NK is not None:
            name = next(n for n in names if member.name.endswith(f"-{n}-s{member.seed}"))
            found[name, str(member.seed)] = pred_NK, seconds(store, competition, member.name)
    seeds = [seed for seed in seeds if all((name, seed) in found for name in names)]
    lines = [
        f"{scorer.name}, {len(y)} rows, {competition.n_folds} folds, seeds {', '.join(seeds)}",
        "",
        "| recipe | OOF | gain (95 % interval) | by seed | time |",
        "| --- | --- | --- | --- | --- |",
    ]
    sign = 1 if scorer.better == "max" else -1
    plain_time = sum(found["plain", seed][1] for seed in seeds)
    generator = np.random.default_rng(0)
    draws = [generator.integers(0, len(y), len(y)) for _ in range(RESAMPLES)]
    for name in names:
        scores = [scorer.score(y, found[name, seed][0]) for seed in seeds]
        gains = [
            sign * (score - scorer.score(y, found["plain", seed][0]))
            for score, seed in zip(scores, seeds, strict=True)
        ]
        resampled = [
            np.mean(
                [
                    sign
                    * (
                        scorer.score(y[rows], found[name, seed][0][rows])
                        - scorer.score(y[rows], found["plain", seed][0][rows])
                    )
                    for seed in seeds
                ]
            )
            for rows in draws
        ]
        low, high = np.quantile(resampled, [0.025, 0.975])
        took = sum(found[name, seed][1] for seed in seeds) / plain_time
        each = " ".join(f"{gain:+.4f}" for gain in gains)
        told = "" if name == "plain" else f"{np.mean(gains):+.4f} ({low:+.4f} to {high:+.4f})"
        lines.append(f"| {name} | {np.mean(scores):.4f} | {told} | {each} | {took:.2f}x |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
