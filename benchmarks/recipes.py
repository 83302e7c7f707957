"""What each recipe is worth: the same members with it and without it, in the same folds.

  python benchmarks/recipes.py --config configs/trec.yaml --set data.dir=~/data/trec \
      --set store=/tmp/recipes --set data.sample_rows=1000 --set folds.n=2 --set train.epochs=3

Trains every recipe under each seed, seed by seed, into the config's store; run again, it goes on
where it stopped. Prints, as means over the seeds that are finished: the OOF score; its gain over
the plain member; and the gain of an equal blend of both over that of two plain members of different
seeds. Intervals are 95 %, over resampled rows.

Shape legend: N rows, K outputs, R resamples.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from poolblend import config, pipeline
from poolblend.competition.metrics import Scorer
from poolblend.config import Config
from poolblend.ensembling.resampling import bootstrap, gain
from poolblend.loading.competition import load_competition, open_store
from poolblend.store.predictions import from_table

PLAIN, PSEUDO = "plain", "pseudo"
# What sets each member apart from the plain one, as an entry of the config's `members` says it.
RECIPES = {
    PLAIN: "",
    "layer-decay": "train: {layer_decay: 0.9}",
    "reinit": "train: {reinit_layers: 1}",
    "freeze": "train: {freeze_layers: 2}",
    "lora": "train: {lora: {r: 8, alpha: 16.0}, lr: 3e-3}",
    "dropout-samples": "train: {dropout_samples: 5}",
    "label-smoothing": "train: {label_smoothing: 0.1}",
    "class-weights": "train: {class_weights: balanced}",
    "rdrop": "train: {rdrop: 1.0}",
    "fgm": "train: {fgm: 0.2}",
    "awp": "train: {awp: 0.0005}",
    "ema": "train: {ema: 0.99}",
    "swa": "train: {swa_epochs: 2}",
    "early-stopping": "train: {early_stopping: 1}",
    "mlm": "backbone: {mlm: {epochs: 1}}",
    PSEUDO: "pseudo: {labels: plain-%(seed)s}",  # of the plain member of the same seed
    "frozen": "head: logistic",
}
SEEDLESS = "frozen"  # nothing in it is random: trained once, it stands for every seed
RESAMPLES = 2000


class Trained(NamedTuple):
    """One member's OOF predictions (N, K), and the seconds that its folds took."""

    pred_NK: np.ndarray
    seconds: float


class Ablation:
    """The members of a config, one per recipe and seed."""

    def __init__(self, path: str, settings: Sequence[str], names: Sequence[str], pooler: str):
        self.path, self.settings, self.pooler = path, settings, pooler
        self.names = list(dict.fromkeys([PLAIN, *names]))

    def config(self, seed: str, names: Sequence[str]) -> Config:
        """The run with these recipes under one seed, in this order."""
        entries = []
        for name in names:
            parts = [f"pooler: {self.pooler}", f"tag: {name}", RECIPES[name] % {"seed": seed}]
            if name != SEEDLESS:
                parts.append(f"seed: {seed}")
            entries.append(f"{{{', '.join(filter(None, parts))}}}")
        return config.load(self.path, [*self.settings, f"members=[{', '.join(entries)}]"])

    def train(self, seed: str) -> None:
        """Train what is missing; pseudo-labels are made by the plain member."""
        pipeline.train(self.config(seed, [name for name in self.names if name != PSEUDO]))
        if PSEUDO in self.names:
            plain = self.config(seed, [PLAIN])
            (member,) = plain.resolve_members()
            pipeline.blend(plain, members=[member.name])
            pipeline.write_pseudo_labels(plain, f"plain-{seed}")
            pipeline.train(self.config(seed, [PSEUDO]))

    def trained(self, seed: str) -> dict[str, Trained]:
        """Each recipe whose folds are all finished under this seed."""
        settings = self.config(seed, self.names)
        store = open_store(settings)
        competition = load_competition(settings, store)
        ids = competition.tables.train[competition.tables.id]
        folds, found = range(competition.n_folds), {}
        for name, member in zip(self.names, settings.resolve_members(), strict=True):
            cards = [store.fold(member.name, fold).card() for fold in folds]
            if all(cards):
                oof = pd.concat([store.fold(member.name, fold).oof() for fold in folds])
                pred_NK = from_table(oof, ids, competition.task.outputs)
                found[name] = Trained(pred_NK, sum(card.seconds for card in cards if card))
        return found

    def table(self, seeds: Sequence[str]) -> str:
        """Markdown: a line per recipe that is finished under every seed with a plain member."""
        found = {seed: self.trained(seed) for seed in seeds}
        seeds = [seed for seed in seeds if PLAIN in found[seed]]
        names = [name for name in self.names if all(name in found[seed] for seed in seeds)]
        if not seeds:
            return "nothing is trained yet"
        settings = self.config(seeds[0], [PLAIN])
        competition = load_competition(settings, open_store(settings))
        y, scorer, fold_N = competition.y, competition.scorer, competition.fold_N
        plains = [found[seed][PLAIN] for seed in seeds]
        pairs = [_mean(a, b) for a, b in zip(plains, [*plains[1:], plains[0]], strict=True)]
        lines = [
            f"{scorer.name}, {len(y)} rows, {competition.n_folds} folds, seeds {', '.join(seeds)}",
            "",
            "| recipe | OOF | gain | by seed | blended with plain: gain over two plain | time |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for name in names:
            own = [found[seed][name] for seed in seeds]
            score = _mean_score(y, fold_N, scorer, [each.pred_NK for each in own])
            took = sum(each.seconds for each in own) / sum(each.seconds for each in plains)
            alone = each_gain = blended = ""
            if name != PLAIN:
                alone, each_gain = _gains(y, fold_N, scorer, [p.pred_NK for p in plains], own)
            if len(seeds) > 1 and name != PLAIN:
                both = [Trained(_mean(a, b), 0) for a, b in zip(plains, own, strict=True)]
                blended, _ = _gains(y, fold_N, scorer, pairs, both)
            lines.append(
                f"| {name} | {score:.4f} | {alone} | {each_gain} | {blended} | {took:.2f}x |"
            )
        two = _mean_score(y, fold_N, scorer, pairs)
        return "\n".join([*lines, "", f"two plain members of different seeds: {two:.4f}"])


def _mean(a: Trained, b: Trained) -> np.ndarray:
    return (a.pred_NK + b.pred_NK) / 2


def _mean_score(
    y: np.ndarray, fold_N: np.ndarray, scorer: Scorer, preds: Sequence[np.ndarray]
) -> float:
    inputs = [scorer.metric_inputs(pred_NK) for pred_NK in preds]
    return float(np.mean([scorer.score_inputs(y, each, fold_N) for each in inputs]))


def _gains(
    y: np.ndarray,
    fold_N: np.ndarray,
    scorer: Scorer,
    before: Sequence[np.ndarray],
    after: Sequence[Trained],
) -> tuple[str, str]:
    """The mean gain over the pairs with its interval, and each pair's gain."""
    inputs = [
        scorer.metric_inputs(pred_NK) for pred_NK in [*before, *(each.pred_NK for each in after)]
    ]
    losses = np.array([scorer.loss_inputs(y, each, fold_N) for each in inputs]).reshape(2, -1)
    losses_2R = bootstrap(y, inputs, scorer, fold_N=fold_N, resamples=RESAMPLES)
    losses_2R = losses_2R.reshape(2, len(before), -1).mean(axis=1)
    each = losses[0] - losses[1]
    told = gain(losses_2R[0], losses_2R[1], each.mean())
    by_seed = " ".join(f"{value:+.4f}" for value in each)
    return f"{told.value:+.4f} ({told.low:+.4f} to {told.high:+.4f})", by_seed


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--recipes", default=",".join(RECIPES), help="a comma list (default: all)")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--pooler", default="mean")
    parser.add_argument("--table", action="store_true", help="train nothing")
    args = parser.parse_args()
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    ablation = Ablation(args.config, args.set, args.recipes.split(","), args.pooler)
    seeds = args.seeds.split(",")
    if not args.table:
        for seed in seeds:
            ablation.train(seed)
    print(ablation.table(seeds))


if __name__ == "__main__":
    main()
