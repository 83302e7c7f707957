"""What the study of poolers trains: competitions, rows, and members; see docs/pooler-study.md.

Nothing here may change after the first member of a competition is trained: the stored matrix would
mix two designs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

POOLERS = (
    "cls",
    "pooler_output",
    "mean",
    "max",
    "min",
    "mean_kmax",
    "weighted",
    "weighted_layer",
    "attention",
    "cls_mean",
)
# Seeds 1 to 4 for all; more for those whose blends of one pooler are drawn further.
SEEDS = dict.fromkeys(POOLERS, 4) | {"cls": 6, "attention": 6, "mean_kmax": 6, "mean": 8, "max": 8}
# Settings that differ from the plain member's in one thing, of `mean` and `max` or of `mean` alone.
VARIANTS: dict[str, dict[str, Any]] = {
    "content": {"mask": "content"},
    "nomask": {"mask": "none"},
    "layernorm": {"head": {"norm": "layer"}},
    "batchnorm": {"head": {"norm": "batch"}},
}
CHEAPER = ("short", "slow")
FOLDS, TEST_ROWS = 3, 500


@dataclass(frozen=True)
class Studied:
    """A competition: where its columns are, and how many of its rows are used for what."""

    name: str
    text: str
    target: str
    task: str
    metric: str
    max_length: int
    short: int  # the other max_length, which cuts about a third of the texts
    rows: int
    tuning_rows: int
    lr: float  # found on the tuning rows (`poolers.py tune`)
    variants: bool  # whether masks and normalisations are varied, too
    epochs: int = 2


STUDIED = {
    "trec": Studied(
        "trec", "question", "label", "multiclass", "accuracy", 64, 14, 1000, 600, 4e-4, True
    ),
    "disaster-tweets": Studied(
        "disaster-tweets", "text", "target", "binary", "f1", 96, 37, 700, 600, 2e-4, False
    ),
}


def members(studied: Studied) -> Iterator[dict[str, Any]]:
    """All members of the competition, those of seed 1 first."""
    for seed in range(1, max(SEEDS.values()) + 1):
        for pooler, n in SEEDS.items():
            if seed <= n:
                yield {"pooler": pooler, "seed": seed}
        if seed > min(SEEDS.values()):
            continue
        for tag, keys in VARIANTS.items() if studied.variants else ():
            for pooler in ("mean", "max"):
                yield {"pooler": pooler, "tag": tag, "seed": seed, **keys}
        yield {"pooler": "mean", "tag": "short", "seed": seed, "max_length": studied.short}
        yield {"pooler": "mean", "tag": "slow", "seed": seed, "train": {"lr": studied.lr / 2}}
    yield {"model": "tfidf"}


def settings(studied: Studied) -> dict[str, Any]:
    """Keys of the run's config, by their full names."""
    return {
        "task": studied.task,
        "metric": studied.metric,
        "max_length": studied.max_length,
        "folds.n": FOLDS,
        "train.epochs": studied.epochs,
        "train.lr": studied.lr,
        "train.head_lr": 1e-3,
        # The same arithmetic on every machine that a part of the study runs on.
        "train.precision": "fp32",
        "blend.fitters": ["equal"],
        "blend.fitter": "equal",
        "blend.resamples": 50,
    }


def rows_of(studied: Studied, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The competition's rows for the study, for tuning, and of its test table.

    Texts that stand twice in the train table are left out: their labels may contradict each other.
    """
    columns = ["id", studied.text]
    train = pd.read_csv(folder / "train.csv", keep_default_na=False)
    test = pd.read_csv(folder / "test.csv", keep_default_na=False)
    train = train[~train[studied.text].duplicated(keep=False)]
    order = np.random.default_rng(0).permutation(len(train))
    chosen = train.iloc[order][[*columns, studied.target]].reset_index(drop=True)
    end = studied.rows + studied.tuning_rows
    some = test.iloc[np.random.default_rng(0).permutation(len(test))[:TEST_ROWS]]
    return (
        chosen[: studied.rows],
        chosen[studied.rows : end].reset_index(drop=True),
        some[columns].reset_index(drop=True),
    )
