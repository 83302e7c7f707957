"""Memory: the peak of training one fold, and what many fold models predicted in a row leave behind.

  python benchmarks/memory.py                 peak of training, and how long `--help` takes
  python benchmarks/memory.py --folds 200     200 fold models predicted in one process
  python benchmarks/memory.py --config configs/disaster-tweets.yaml --set data.dir=~/data/tweets

Everything is written into a temporary folder.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "train.py"
sys.path.insert(0, str(ROOT / "src"))
FEW = ("train.epochs=1", "data.sample_rows=120")  # what is predicted with need not be good
ROWS = 16


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--folds", type=int, metavar="MODELS")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.folds:
            predict_many(args.config, [*args.set, *FEW, f"store={folder}"], args.folds)
            return
        print_help_time(args.runs)
        train_fold(args.config, [*args.set, f"store={folder}"])
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"training one fold of {args.config}: peak memory {peak:.2f} GB")


def print_help_time(runs: int) -> None:
    waits = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, TRAIN, "--help"], stdout=subprocess.DEVNULL, check=True)
        waits.append(time.perf_counter() - started)
    print(f"train.py --help: {statistics.median(waits):.2f} s (median of {runs})")


def train_fold(config_path: str, sets: list[str], poolers: str = "mean") -> None:
    """Train fold 0 of these poolers, in a process of its own."""
    command = [sys.executable, TRAIN, "--config", config_path, "--pooler", poolers, "--fold", "0"]
    for item in sets:
        command += ["--set", item]
    subprocess.run(command, check=True)


def predict_many(config_path: str, sets: list[str], models: int) -> None:
    """Predict with two fold models in turn, and print how the process grows."""
    train_fold(config_path, sets, "mean,max")
    from poolblend import config
    from poolblend.jobs.foldmodels import FoldModels
    from poolblend.loading.competition import open_store, read_tables
    from poolblend.loading.texts import Texts

    settings = config.load(config_path, sets)
    store = open_store(settings)
    test = read_tables(settings).tables.test[:ROWS]
    fold_models = FoldModels(store, Texts(test, "test"), settings.batch_tokens)
    members, megabytes = store.members(), []
    for number in range(models):
        fold_models.predict(members[number % len(members)], 0, np.arange(len(test)))
        megabytes.append(resident())
        if number % 20 == 19:
            print(f"{number + 1:4} fold models: {megabytes[-1]:.0f} MB", flush=True)
    slope = np.polyfit(range(models // 2), megabytes[-(models // 2) :], 1)[0]
    half = np.mean(megabytes[len(megabytes) // 10 : models // 2]), np.mean(megabytes[models // 2 :])
    print(
        f"resident memory after one model {megabytes[0]:.0f} MB, mean of the first half (without "
        f"its first fifth) {half[0]:.0f} MB, of the second {half[1]:.0f} MB; it grows by "
        f"{1000 * slope:.0f} kB a model over the second half"
    )


def resident() -> float:
    """Megabytes of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    main()
