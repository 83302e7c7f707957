"""Recompute two numbers of docs/pooler-study.md from the stored predictions, sharing no code.

  python benchmarks/pooler_check.py

The log loss of `attention`, and what blends of five poolers with five seeds gain over blends of
five seeds of one pooler. Exit status 1 where the page has other numbers.
"""

import math
import re
import sys
from itertools import combinations
from pathlib import Path

import pyarrow.parquet as pq

DOCS = Path(__file__).resolve().parents[1] / "docs"
FIVE = ["cls", "mean", "max", "mean_kmax", "attention"]


def log_loss(blend, labels):
    """Of the mean of the members' lists of probabilities of the true class."""
    total = 0.0
    for row in range(len(labels)):
        mean = sum(member[row] for member in blend) / len(blend)
        total -= math.log(min(max(mean, 1e-7), 1.0))
    return total / len(labels)


def main():
    page = (DOCS / "pooler-study.md").read_text(encoding="utf-8")
    wrong = 0
    for path in sorted((DOCS / "pooler-study").glob("*/oof.parquet")):
        if f"*{path.parent.name}*" not in page.splitlines():
            print(f"{path.parent.name} is not on the page")
            continue
        columns = pq.read_table(path).to_pydict()
        labels = columns[list(columns)[2]]

        def right(member, columns=columns, labels=labels):
            """The probability that the member gives to each row's true class."""
            if member in columns:
                return [
                    p if str(y) == "1" else 1 - p
                    for p, y in zip(columns[member], labels, strict=True)
                ]
            return [columns[f"{member}:{y}"][row] for row, y in enumerate(labels)]

        attention = [log_loss([right(f"attention-s{s}")], labels) for s in range(1, 5)]
        members = {(p, s): right(f"{p}-s{s}") for p in FIVE for s in range(1, 7)}
        alone = {key: log_loss([pred], labels) for key, pred in members.items()}

        def gain(keys, members=members, alone=alone, labels=labels):
            of_members = sum(alone[key] for key in keys) / len(keys)
            return of_members - log_loss([members[key] for key in keys], labels)

        same = [gain([(p, s) for s in some]) for p in FIVE for some in combinations(range(1, 7), 5)]
        # The study takes six of the ways to give five poolers different seeds, one after another.
        starts = [[(start + i) % 6 + 1 for i in range(5)] for start in range(6)]
        mixed = [gain(list(zip(FIVE, seeds, strict=True))) for seeds in starts]
        found = (
            f"{sum(attention) / 4:.4f}",
            f"{sum(mixed) / len(mixed) - sum(same) / len(same):+.5f}".replace("-", "−"),
        )
        competition = path.parent.name
        for what, number in zip(
            ("| attention | ", "| m poolers with m seeds over m seeds"), found, strict=True
        ):
            rows = [
                line
                for line in _part(page, competition)
                if line.startswith(what) and re.search(rf"\s{re.escape(number)} \(", line)
            ]
            print(f"{competition}: {number} {'agrees' if rows else 'is not on the page'}")
            wrong += not rows
    sys.exit(1 if wrong else 0)


def _part(page, competition):
    """The lines of the page's tables of one competition."""
    inside = False
    for line in page.splitlines():
        if line.startswith("*"):
            inside = line == f"*{competition}*"
        if inside:
            yield line


if __name__ == "__main__":
    main()
