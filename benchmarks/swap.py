"""Pairs read in both orders (data.swap) or in one: which of two texts has the higher value?

  python benchmarks/swap.py --csv asap-essays/train.csv --text essay --target score --rows 600

Pairs are drawn from a table of texts with a number each; each text is in one pair alone. The same
member is trained in the same folds with and without data.swap; differences of the out-of-fold log
loss and accuracy have 95 % bootstrap intervals over pairs. A third run learns in one order for
twice the epochs, which takes as long as both orders.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml

import bench  # also lets poolblend be imported
from grids import mean
from poolblend import config, pipeline
from poolblend.competition.files import read_table

EPOCHS = 2
OUTCOMES = ["first", "second", "tie"]
SWAP = {"columns": {"a": "b"}, "labels": {"first": "second"}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--csv", type=Path, required=True, help="texts with a number each")
    parser.add_argument("--text", default="text")
    parser.add_argument("--target", default="target")
    parser.add_argument("--rows", type=int, default=600, help="pairs; default: 600")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    pairs = draw_pairs(read_table(args.csv), args.text, args.target, args.rows)
    print(f"{len(pairs)} pairs; {bench.machine()}", flush=True)
    ways: dict[str, tuple[Any, int]] = {
        "one order": (None, EPOCHS),
        "one order, twice the epochs": (None, 2 * EPOCHS),
        "both orders": (SWAP, EPOCHS),
    }
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: score(Path(folder), pairs, swap, n, args.set) for name, (swap, n) in ways.items()
        }
    both = found.pop("both orders")
    for name, one in found.items():
        for what, difference_N in (
            ("log loss", both.loss_N - one.loss_N),
            ("accuracy", both.hit_N * 1.0 - one.hit_N),
        ):
            value, low, high = mean(difference_N)
            print(f"{what} of both orders, minus {name}: {value:+.4f} ({low:+.4f} to {high:+.4f})")


class Scored(NamedTuple):
    """Of each pair: its out-of-fold log loss, and whether its outcome is the likeliest."""

    loss_N: np.ndarray
    hit_N: np.ndarray


def draw_pairs(table: pd.DataFrame, text: str, target: str, n: int) -> pd.DataFrame:
    """Pairs of texts, and in a column for each outcome 1 or 0."""
    drawn = table.sample(2 * n, random_state=0).reset_index(drop=True)
    one, other = drawn[:n].reset_index(drop=True), drawn[n:].reset_index(drop=True)
    values = [pd.to_numeric(each[target]) for each in (one, other)]
    pairs = pd.DataFrame({"id": range(n), "a": one[text], "b": other[text]})
    outcomes = (values[0] > values[1], values[0] < values[1], values[0] == values[1])
    return pairs.assign(**{k: each.astype(int) for k, each in zip(OUTCOMES, outcomes, strict=True)})


def score(folder: Path, pairs: pd.DataFrame, swap: Any, epochs: int, sets: list[str]) -> Scored:
    """Train the member, and score its out-of-fold predictions."""
    place = folder / f"{'both' if swap else 'one'}{epochs}"
    place.mkdir()
    pairs.to_csv(place / "train.csv", index=False)
    test = pairs[:2]
    test[["id", "a", "b"]].to_csv(place / "test.csv", index=False)
    test[["id", *OUTCOMES]].assign(**dict.fromkeys(OUTCOMES, 1 / 3)).to_csv(
        place / "sample_submission.csv", index=False
    )
    given = {
        "task": "multiclass",
        "metric": "log_loss",
        "data": {
            "dir": str(place),
            "text": ["a", "b"],
            "join": "pair",
            "target": OUTCOMES,
            "swap": swap,
        },
        "folds": {"n": 3},
        "members": ["mean"],
        "train": {"epochs": epochs},
        "store": str(place),
    }
    (place / "swap.yaml").write_text(yaml.safe_dump(given))
    settings = config.load(place / "swap.yaml", sets)
    started = time.perf_counter()
    pipeline.train(settings)
    seconds = time.perf_counter() - started
    oof = pipeline.oof(settings).set_index("id").loc[pairs["id"]]
    columns = [next(c for c in oof.columns if c.endswith(f":{name}")) for name in OUTCOMES]
    pred_NK, truth_NK = oof[columns].to_numpy().clip(1e-7, 1), pairs[OUTCOMES].to_numpy()
    loss_N = -np.log((pred_NK * truth_NK).sum(axis=1))
    hit_N = pred_NK.argmax(axis=1) == truth_NK.argmax(axis=1)
    name = f"{'both orders' if swap else 'one order'}, {epochs} epochs"
    print(
        f"{name:24} log loss {loss_N.mean():.4f}, accuracy {hit_N.mean():.4f}, {seconds:.0f} s",
        flush=True,
    )
    return Scored(loss_N, hit_N)


if __name__ == "__main__":
    main()
