"""How fast blends are scored and fitted, against the recipe that notebooks copy.

  python benchmarks/blending.py               all of it (about 8 minutes, 5 GB)
  python benchmarks/blending.py objective     scores per second, 100,000 rows x 50 members
  python benchmarks/blending.py large         fits on 1,000,000 rows x 100 members: seconds, memory
  python benchmarks/blending.py command       blend.py, 8,000 rows x 10 members; blend.py --help
  python benchmarks/blending.py classes       the default blend of 5,000 rows x 10 members x 2,500
                                              classes, all that blend.py does once files are read

The recipe: a matrix of Python lists, or a DataFrame with a column per member, weighted and summed
inside an Optuna objective, then scikit-learn's metric.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

import numpy as np
import pandas as pd
from scipy.special import expit, softmax

from poolblend.competition.metrics import make_scorer
from poolblend.competition.tasks import Task
from poolblend.ensembling.blenders import BLENDERS
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import Space
from poolblend.ensembling.problem import BlendProblem, starting_blenders

BINARY = Task("binary", ("target",), (0, 1))
ORDINAL = Task("ordinal", ("score",), (0, 1, 2, 3, 4, 5))
CASES = {"roc_auc": BINARY, "f1_macro": BINARY, "qwk": ORDINAL}
TURNS, IN_A_ROW = 5, 5


def problem(metric: str, n_rows: int, n_members: int, seed: int = 0) -> BlendProblem:
    """Members that see one signal through noise of their own, and the problem of blending them."""
    rng = np.random.default_rng(seed)
    task = CASES[metric]
    signal_N = rng.normal(size=n_rows)
    seen_MN = signal_N + rng.normal(size=(n_members, n_rows))
    if task.kind == "binary":
        y = (signal_N + rng.normal(size=n_rows) > 0).astype(np.int64)
        z_MN = expit(seen_MN, out=seen_MN)
    else:
        y = np.clip(np.round(1.2 * signal_N + 2.5), 0, 5).astype(np.int64)
        z_MN = 2.5 + seen_MN
    fold_N = np.arange(n_rows) % 5
    scorer = make_scorer(metric, task)
    return BlendProblem(z_MN[:, :, None], y, fold_N, scorer, Space("plain", task.kind))


def recipe(given: BlendProblem, table: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """The objective as notebooks write it, over whatever `table` makes of weights."""
    from sklearn.metrics import cohen_kappa_score, f1_score, roc_auc_score

    y, name = given.y, given.scorer.name

    def objective(weights_M: np.ndarray) -> float:
        pred_N = table(weights_M)
        if name == "roc_auc":
            return -roc_auc_score(y, pred_N)
        if name == "f1_macro":
            return -f1_score(y, (pred_N >= 0.5).astype(int), average="macro")
        labels_N = np.clip(np.round(pred_N), 0, 5).astype(int)
        return -cohen_kappa_score(y, labels_N, weights="quadratic")

    return objective


def objectives() -> None:
    """Evaluations per second, each runner in turn, medians; and what a trial costs besides."""
    rng = np.random.default_rng(1)
    print("100,000 rows x 50 members, evaluations per second (times the recipe's)")
    for metric in CASES:
        given = problem(metric, 100_000, 50)
        z_MN = given.z_MNK[:, :, 0]
        frame = pd.DataFrame(z_MN.T, columns=[f"member{m}" for m in range(50)])
        lists = z_MN.tolist()

        def of_frame(weights_M: np.ndarray, frame: pd.DataFrame = frame) -> np.ndarray:
            columns = zip(weights_M, frame, strict=True)
            return sum(weight * frame[column] for weight, column in columns)

        def of_lists(weights_M: np.ndarray, lists: list[list[float]] = lists) -> np.ndarray:
            return np.average(lists, axis=0, weights=weights_M)

        runners = {
            "poolblend": given.loss,
            "DataFrame": recipe(given, of_frame),
            "lists": recipe(given, of_lists),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runners}
        for _ in range(TURNS):
            # A few in a row, as in a search: none finds its rows driven out of the cache.
            weights = rng.dirichlet(np.ones(50), size=IN_A_ROW)
            losses = {}
            for name, runner in runners.items():
                losses[name] = []
                for weights_M in weights:
                    started = time.perf_counter()
                    losses[name].append(runner(weights_M))
                    seconds[name].append(time.perf_counter() - started)
            if np.ptp(list(losses.values()), axis=0).max() > 1e-12:
                raise SystemExit(f"{metric}: the objectives disagree: {losses}")
        median = {name: statistics.median(values) for name, values in seconds.items()}
        told = [
            f"{name} {1 / each:,.0f}/s ({each / median['poolblend']:.1f}x the time)"
            for name, each in median.items()
        ]
        print(f"  {metric}: {', '.join(told)}")
        overhead(given, median["poolblend"])


def overhead(given: BlendProblem, evaluation: float, trials: int = 100) -> None:
    """What a trial of `optuna` takes beside its one evaluation of the metric."""
    from dataclasses import replace

    starts = dict.fromkeys(starting_blenders(), BLENDERS["equal"](given))
    searched = replace(given, trials=trials, starts=starts)
    started = time.perf_counter()
    BLENDERS["optuna"](searched)
    each = (time.perf_counter() - started) / trials - evaluation
    print(f"    a trial of the optuna blender takes {1e3 * each:.2f} ms besides the evaluation")


def large() -> None:
    given = problem("roc_auc", 1_000_000, 100)
    print(f"1,000,000 rows x 100 members x 1 output ({given.z_MNK.nbytes / 1e9:.1f} GB), roc_auc")
    for name in ("equal", "greedy", "convex"):
        started = time.perf_counter()
        BLENDERS[name](given)
        print(f"  {name}: {time.perf_counter() - started:.1f} s", flush=True)
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


def command() -> None:
    waits = []
    for _ in range(7):
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, ROOT / "blend.py", "--help"], stdout=subprocess.DEVNULL, check=True
        )
        waits.append(time.perf_counter() - started)
    print(f"blend.py --help: {statistics.median(waits):.2f} s (median of 7)")
    with tempfile.TemporaryDirectory() as folder:
        config = competition(Path(folder))
        started = time.perf_counter()
        members = Path(folder) / "members"
        subprocess.run(
            [sys.executable, ROOT / "blend.py", "--config", config, "--members-from", members],
            check=True,
            capture_output=True,
        )
        seconds = time.perf_counter() - started
        print(f"blend.py, 8,000 rows x 10 members, f1, all blenders and intervals: {seconds:.1f} s")


def competition(folder: Path) -> Path:
    """A binary competition with the OOF files of ten members; its config."""
    given = problem("f1_macro", 8_000, 10)
    ids = [f"r{n:05d}" for n in range(8_000)]
    train = pd.DataFrame({"id": ids, "text": "some words", "target": given.y})
    train.to_csv(folder / "train.csv", index=False)
    train[:10].drop(columns="target").to_csv(folder / "test.csv", index=False)
    train[:10].drop(columns="text").to_csv(folder / "sample_submission.csv", index=False)
    (folder / "members").mkdir()
    for m, pred_N in enumerate(given.z_MNK[:, :, 0]):
        table = pd.DataFrame({"id": ids, "pred_target": pred_N})
        table.to_csv(folder / "members" / f"member{m}.csv", index=False)
    config = folder / "ten.yaml"
    config.write_text(
        f"task: binary\nmetric: f1\ndata: {{dir: '{folder}'}}\nstore: '{folder}'\n",
        encoding="utf-8",
    )
    return config


def classes(n_rows: int = 5_000, n_members: int = 10, n_classes: int = 2_500) -> None:
    """Seconds of each stage of a blend of very many classes, for a metric of scores and of labels.

    Members see one signal through noise of their own; folds are five.
    """
    from threadpoolctl import threadpool_limits

    from poolblend.ensembling import choice, compact, contributions, diversity, honesty
    from poolblend.ensembling.options import Blend

    matrix, task = many_classes(n_rows, n_members, n_classes)
    size = f"{n_rows:,} rows x {n_members} members x {n_classes:,} classes"
    for metric in ("log_loss", "f1_macro"):
        scorer = make_scorer(metric, task)
        fitters = [name for name in BLENDERS if name != "stack"]
        watch = Watch()
        with threadpool_limits(1, "blas"):
            small = matrix, scorer
            if compact.is_compactable(*small):
                small = compact.compact_matrix(*small)
            watch("each row's own columns")
            compared = honesty.compare(*small, Blend(fitters=fitters))
            watch("fits and cross-fits")
            chosen = choice.choose(compared)
            contributions.member_table(*small, compared.member_inputs)
            watch("intervals")
            form = {"space": compared.form.space, "thresholds": "default"}
            options = compared.options.model_copy(update=form)
            inputs = honesty.cross_fit("convex", *small, options).honest_inputs
            contributions.leave_one_out(*small, options, "convex", inputs)
            watch("each member left out")
            contributions.weight_stability(*small, options, "convex")
            watch("refits on resamples")
            if small[0] is not matrix:
                compared, chosen = compact.expand_comparison(compared, chosen, matrix, scorer)
            watch("scores on all classes")
            diversity.error_correlation(matrix.oof_MNK, matrix.y, task)
            diversity.prediction_correlation(matrix.oof_MNK)
            watch("diversity")
        print(f"{size}, {metric}, {sum(watch.seconds.values()):.0f} s: {watch}", flush=True)
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")


class Watch:
    """Processor seconds between one call and the next, by what the call names."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = time.process_time()

    def __call__(self, what: str) -> None:
        now = time.process_time()
        self.seconds[what], self.last = now - self.last, now

    def __str__(self) -> str:
        return ", ".join(f"{what} {seconds:.1f}" for what, seconds in self.seconds.items())


def many_classes(n_rows: int, n_members: int, n_classes: int) -> tuple[OofMatrix, Task]:
    """The matrix of members of a task of several classes, and the task."""
    rng = np.random.default_rng(0)
    y = rng.integers(n_classes, size=n_rows)
    signal_NK = rng.normal(size=(n_rows, n_classes))
    signal_NK[np.arange(n_rows), y] += 4
    oof_MNK = np.empty((n_members, n_rows, n_classes))
    for pred_NK in oof_MNK:
        pred_NK[:] = softmax(2 * (signal_NK + rng.normal(size=signal_NK.shape)), axis=1)
    task = Task("multiclass", ("label",), tuple(f"c{k:05d}" for k in range(n_classes)))
    names = tuple(f"member{m}" for m in range(n_members))
    ids = np.arange(n_rows).astype(str)
    return OofMatrix(ids, np.arange(n_rows) % 5, y, oof_MNK, names, task.outputs), task


PARTS = {"objective": objectives, "large": large, "command": command, "classes": classes}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=PARTS, help="default: all, one after another")
    chosen = parser.parse_args().part
    if chosen:
        PARTS[chosen]()
        return
    for part in PARTS:  # each in a process of its own, so that memory is the part's alone
        subprocess.run([sys.executable, __file__, part], check=True)


if __name__ == "__main__":
    main()
