"""Models of all rows against the mean of fold models, on labelled rows that neither has seen.

  python benchmarks/refit.py --csv trec/train.csv --text question --target label --rows 1000
  python benchmarks/refit.py --set "members=[mean, max]" --set folds.n=10

The first rows of a labelled table are trained on, the rest, at most as many again, are predicted
by both. Differences in log loss and accuracy have 95 % bootstrap intervals over these rows; seconds
are those of infer's work in this process. The blend's weights are the same for both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml

import bench
from grids import mean
from poolblend import config, pipeline


class Predicted(NamedTuple):
    """Of the held-out rows: the probability of the right class, whether it is the likeliest."""

    right_N: np.ndarray
    hit_N: np.ndarray
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, help="a labelled table (default: the demo's)")
    parser.add_argument("--text", default="text")
    parser.add_argument("--target", default="target")
    parser.add_argument("--rows", type=int, default=800, help="trained on; default: 800")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    texts, labels = bench.load_table(argparse.Namespace(**vars(args) | {"rows": 2 * args.rows}))
    table = pd.DataFrame({"id": range(len(texts)), "text": texts, "label": list(map(str, labels))})
    table = table.sample(frac=1, random_state=0).drop_duplicates("text").reset_index(drop=True)
    train, test = table[: args.rows], table[args.rows :]
    test = test[test["label"].isin(set(train["label"]))]
    print(f"{len(train)} rows trained on, {len(test)} held out; {bench.machine()}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        folds, refit = run(Path(folder), train, test, args.set)
    for name, one in (("fold models", folds), ("models of all rows", refit)):
        loss, accuracy = -np.log(one.right_N).mean(), one.hit_N.mean()
        print(f"{name:20} log loss {loss:.4f}, accuracy {accuracy:.4f}, {one.seconds:.1f} s")
    for what, difference_N in (
        ("log loss", np.log(folds.right_N) - np.log(refit.right_N)),
        ("accuracy", refit.hit_N * 1.0 - folds.hit_N),
    ):
        value, low, high = mean(difference_N)
        print(f"{what} of models of all rows, minus: {value:+.4f} ({low:+.4f} to {high:+.4f})")


def run(
    place: Path, train: pd.DataFrame, test: pd.DataFrame, sets: list[str]
) -> tuple[Predicted, Predicted]:
    """Train, blend, and predict the held-out rows by fold models and by models of all rows."""
    classes = sorted(train["label"].unique())
    train.to_csv(place / "train.csv", index=False)
    test[["id", "text"]].to_csv(place / "test.csv", index=False)
    sample = test[["id"]].assign(**dict.fromkeys(classes, 1 / len(classes)))
    sample.to_csv(place / "sample_submission.csv", index=False)
    given = {
        "task": "multiclass",
        "metric": "log_loss",
        "data": {"dir": str(place), "target": "label"},
        "store": str(place),
    }
    (place / "refit.yaml").write_text(yaml.safe_dump(given))
    settings = config.load(place / "refit.yaml", sets)
    pipeline.train(settings)
    pipeline.blend(settings)
    pipeline.train(settings, folds="refit")
    found = []
    for refit in (False, True):
        started = time.perf_counter()
        submission = pd.read_csv(pipeline.infer(settings, refit=refit))
        seconds = time.perf_counter() - started
        pred_NK = submission[classes].to_numpy().clip(1e-7, 1)
        place_N = test["label"].map(classes.index).to_numpy()
        right_N = pred_NK[np.arange(len(pred_NK)), place_N]
        found.append(Predicted(right_N, pred_NK.argmax(axis=1) == place_N, seconds))
    return found[0], found[1]


if __name__ == "__main__":
    main()
