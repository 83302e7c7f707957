"""Do the intervals of honest gains hold what they promise, also where folds differ?

  python benchmarks/noise.py                       every metric, every blender (about 40 minutes)
  python benchmarks/noise.py --metric roc_auc --draws 40

Members are pure noise around what a model of the other folds' rows would learn of them: their base
rates, or their mean. Folds differ in their share of positives, in mean and in spread, as folds of
whole prompts or authors do. The true gain of a blend is that of its fold mixtures on many fresh
rows of the same folds; for AUC, correlations and kappas it is zero. Printed are, per metric, kind
of folds and blender, the share of draws whose 95 % interval lies above zero and above the true
gain (false gains), and below both (false losses): 2.5 % each is nominal.

Legend: M members, N rows, K outputs, F folds.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

import numpy as np
from threadpoolctl import threadpool_limits

from poolblend.competition.metrics import METRICS, Scorer, make_scorer
from poolblend.ensembling.choice import choose
from poolblend.ensembling.honesty import compare
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import Mixture
from poolblend.ensembling.options import Blend
from poolblend.errors import UserError
from rig.noise import TASKS, draw, kinds_of_folds

FRESH = 40
Misses = dict[tuple[str, str], list[tuple[bool, bool, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--metric", help="one metric (default: all)")
    parser.add_argument("--kind", help="one kind of task (default: all)")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--trials", type=int, default=10)
    args = parser.parse_args()
    options = Blend(trials=args.trials)
    total: Misses = defaultdict(list)
    for metric in [args.metric] if args.metric else list(METRICS):
        for kind in METRICS[metric].tasks:
            if args.kind in (None, kind):
                for folds in kinds_of_folds(kind):
                    found = measure(metric, kind, folds, options, args.draws, args.resamples)
                    for key, each in found.items():
                        total[key] += each
    print(f"all of them: {len(total['auto', 'equal'])} draws")
    show(total)


def measure(
    metric: str, kind: str, folds: str, options: Blend, draws: int, resamples: int
) -> Misses:
    """Of each blender and what it is compared with, a row per draw: above, below, true gain."""
    scorer = make_scorer(metric, TASKS[kind])
    fresh = [draw(kind, folds, 10**6 + n) for n in range(FRESH)]
    misses: Misses = defaultdict(list)
    refused = ""
    for seed in range(draws):
        try:
            with threadpool_limits(1, "blas"):
                compared = compare(draw(kind, folds, seed), scorer, options)
                chosen = choose(compared, resamples=resamples)
                losses = {
                    name: true_loss(report.fold_mixtures, fresh, scorer)
                    for name, report in compared.reports.items()
                }
        except UserError as error:
            refused = str(error)
            continue
        for other, gains in (("best", chosen.over_member), ("equal", chosen.over_equal)):
            for name, gain in {**gains, "auto": gains[chosen.blender]}.items():
                blender = chosen.blender if name == "auto" else name
                true = losses[other] - losses[blender]
                # Two blends that decide alike gain 0, without an interval: no claim.
                misses[name, other].append(
                    (gain.low > max(true, 0.0), gain.high < min(true, 0.0), true)
                )
    also = f"; refused: {refused}" if refused else ""
    print(f"{metric} ({kind}), folds {folds}: {len(misses['auto', 'equal'])} draws{also}")
    show(misses)
    return misses


def show(misses: Misses) -> None:
    for name in dict.fromkeys(name for name, _ in misses):
        row = f"  {name:8s}"
        for other in ("best", "equal"):
            above, below, true = np.mean(misses[name, other], axis=0)
            row += f"  over {other}: above {above:5.1%} below {below:5.1%} true gain {true:+.4f}"
        print(row, flush=True)


def true_loss(mixtures: Sequence[Mixture], fresh: Sequence[OofMatrix], scorer: Scorer) -> float:
    """The loss of each fold's own mixture on fresh rows of that fold, over all fresh draws."""
    losses = []
    for each in fresh:
        inputs = None
        for fold, mixture in enumerate(mixtures):
            rows_N = each.fold_N == fold
            part = scorer.metric_inputs(mixture.apply(each.oof_MNK[:, rows_N]), mixture.cuts)
            inputs = (
                np.empty((len(each.y), *part.shape[1:]), part.dtype) if inputs is None else inputs
            )
            inputs[rows_N] = part
        losses.append(scorer.loss_inputs(each.y, inputs, each.fold_N))
    return float(np.mean(losses))


if __name__ == "__main__":
    main()
