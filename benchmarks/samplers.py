"""Which sampler finds better blend weights, and what of that is left on other rows.

  python benchmarks/samplers.py                     the quick ones, 4 seeds (15 minutes)
  python benchmarks/samplers.py --samplers tpe-log,gp-offset --problems f1-5,f1-10 --seeds 1
  python benchmarks/samplers.py --members-from DIR --targets train.csv --metric mcrmse

All start from the same simpler blends. Reported after 100, 200 and 500 trials: how much of the
metric is gained over the best start on the rows of the fit, the same on rows of other folds (five
folds, fitted without the fold; mean and standard error over problems and seeds), and the sampler's
own milliseconds per trial. The metric's units are ten-thousandths; a positive gain is better.

Those named cma need the package cmaes, gp needs torch. DIR holds one CSV per member: an id column,
then one per target.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np
import optuna
import pandas as pd

from contenders import SAMPLERS, Scored, best_of
from poolblend.competition.metrics import make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling.blenders import BLENDERS
from poolblend.ensembling.mixture import Space, mix
from poolblend.ensembling.problem import BlendProblem

QUICK = ("ours", "walk", "cma-offset-.1", "cma-log", "random-log")
BUDGETS = (100, 200, 500)
STARTS = ("equal", "best", "greedy", "convex")
PROBLEMS = tuple(
    f"{metric}-{n_members}"
    for metric, sizes in {
        "f1": (5, 10, 25),
        "roc_auc": (5, 10, 25),
        "log_loss": (10,),
        "mcrmse": (10, 25),
        "qwk": (5, 10, 25),
    }.items()
    for n_members in sizes
)
TASKS = {
    "mcrmse": Task("regression", tuple("abcdef")),
    "qwk": Task("ordinal", ("grade",), (0, 1, 2, 3, 4, 5)),
}


def synthetic(name: str, seed: int) -> BlendProblem:
    """Near-equal members: one signal, errors common to all, to groups of three, and their own."""
    metric, _, size = name.rpartition("-")
    n_members, rng = int(size), np.random.default_rng(1000 + seed)
    task = TASKS.get(metric, Task("binary", ("t",), (0, 1)))
    n_rows, n_outputs = (8000 if n_members == 5 else 4000), len(task.targets)
    signal_NK = rng.normal(size=(n_rows, n_outputs))
    group_GNK = 0.25 * rng.normal(size=(max(1, n_members // 3), n_rows, n_outputs))
    own_M = rng.permutation(np.linspace(0.3, 0.6, n_members))[:, None, None]
    seen_MNK = signal_NK + 0.5 * rng.normal(size=signal_NK.shape)
    seen_MNK = seen_MNK + group_GNK[np.arange(n_members) % len(group_GNK)]
    seen_MNK += own_M * rng.normal(size=seen_MNK.shape)
    if task.kind == "binary":
        y = (rng.random(n_rows) < 1 / (1 + np.exp(-2 * signal_NK[:, 0]))).astype(np.int64)
        z_MNK = 1 / (1 + np.exp(-1.2 * rng.uniform(0.8, 1.25, (n_members, 1, 1)) * seen_MNK))
    elif task.kind == "ordinal":
        y = np.clip(np.round(1.1 * signal_NK[:, 0] + 2.5), 0, 5).astype(np.int64)
        z_MNK = 2.5 + 0.9 * seen_MNK
    else:
        y, z_MNK = signal_NK + 0.5 * rng.normal(size=signal_NK.shape), 0.7 * seen_MNK
    fold_N, scorer = rng.permutation(n_rows) % 5, make_scorer(metric, task)
    return BlendProblem(z_MNK, y, fold_N, scorer, Space("plain", task.kind), seed=seed)


def from_files(folder: Path, targets: Path, metric: str, seed: int) -> BlendProblem:
    tables = [pd.read_csv(path, index_col=0) for path in sorted(folder.glob("*.csv"))]
    ids, outputs = tables[0].index, list(tables[0])
    truth = pd.read_csv(targets, index_col=ids.name).loc[ids, outputs]
    z_MNK = np.stack([table.loc[ids, outputs].to_numpy(float) for table in tables])
    fold_N = np.random.default_rng(seed).permutation(len(ids)) % 5
    scorer = make_scorer(metric, Task("regression", tuple(outputs)))
    space = Space("plain", "regression")
    return BlendProblem(z_MNK, truth.to_numpy(float), fold_N, scorer, space, seed=seed)


class Run:
    """One contender on one set of rows: the losses it saw, and the weights."""

    def __init__(self, name: str, problem: BlendProblem, starts: list[Scored]) -> None:
        make, self.trials = SAMPLERS[name]
        started, scoring = time.perf_counter(), 0.0
        sampler = make(starts, problem.seed)
        self.tried = []
        for _ in range(self.trials):
            weights_M = sampler.ask()
            before = time.perf_counter()
            loss = problem.loss(weights_M)
            scoring += time.perf_counter() - before
            sampler.tell(weights_M, loss)
            self.tried.append(Scored(weights_M, loss))
        self.start = best_of(starts)
        self.overhead = (time.perf_counter() - started - scoring) / self.trials

    def best(self, trials: int) -> Scored:
        return best_of([self.start, *self.tried[:trials]])


def measure(name: str, label: str, problem: BlendProblem) -> Iterator[dict[str, object]]:
    """One row per budget: gains over the best start, on the rows of the fit and on others."""
    folds = [problem.fold_N == fold for fold in np.unique(problem.fold_N)]
    runs = []
    for rows in [np.ones(len(problem.y), dtype=bool), *(~held_N for held_N in folds)]:
        part = problem.rows(rows)
        fits = [BLENDERS[start](part).weights_M for start in STARTS]
        starts = [Scored(weights_M, part.loss(weights_M)) for weights_M in fits]
        runs.append(Run(name, part, starts))

    def honest(weights: Callable[[Run], np.ndarray]) -> float:
        pred_NK = np.empty(problem.z_MNK.shape[1:])
        for held_N, run in zip(folds, runs[1:], strict=True):
            pred_NK[held_N] = mix(weights(run), problem.z_MNK[:, held_N])
        return problem.loss_of(pred_NK)

    for trials in (budget for budget in BUDGETS if budget <= runs[0].trials):
        yield {
            "sampler": name,
            "problem": label,
            "trials": trials,
            "gained": 1e4 * (runs[0].start.loss - runs[0].best(trials).loss),
            "honest": 1e4
            * (
                honest(lambda run: run.start.weights_M)
                - honest(lambda run, n=trials: run.best(n).weights_M)
            ),
            "ms": 1e3 * np.mean([run.overhead for run in runs]),
        }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samplers", default=",".join(QUICK), help=", ".join(SAMPLERS))
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--members-from", type=Path)
    parser.add_argument("--targets", type=Path)
    parser.add_argument("--metric", default="mcrmse")
    args = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    rows = []
    for label in args.problems.split(",") if args.members_from is None else [args.metric]:
        for seed in range(args.seeds):
            if args.members_from is None:
                problem = synthetic(label, seed)
            else:
                problem = from_files(args.members_from, args.targets, args.metric, seed)
            for name in args.samplers.split(","):
                rows += measure(name, label, problem)
        print(label, file=sys.stderr)
    report(pd.DataFrame(rows))


def report(table: pd.DataFrame) -> None:
    for trials, part in table.groupby("trials"):
        print(f"\nafter {trials} trials")
        gained = part.pivot_table("gained", "sampler", "problem", sort=False)
        honest = part.groupby("sampler", sort=False)["honest"]
        gained["honest"], gained["± se"] = honest.mean(), honest.sem()
        gained["ms"] = part.groupby("sampler", sort=False)["ms"].mean()
        print(gained.to_string(float_format="%.2f"))


if __name__ == "__main__":
    main()
