"""Tables of a competition for tests: read from train.csv, test.csv, sample.csv, or made here."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from poolblend import config
from poolblend.competition.options import Data, Folds, Submission
from poolblend.competition.tables import Tables, Unlabelled, load_tables, load_test
from poolblend.errors import UserError
from poolblend.loading.competition import Competition, load_competition, open_store
from rig import toys


def refused(message: str):
    """A UserError that says just this."""
    return pytest.raises(UserError, match=re.escape(message))


def load(folder: Path, kind: str = "multiclass", **keys: object) -> Tables:
    """`keys` are those of the config's sections `data`, `folds` and `submission`."""
    return load_tables(folder, *options(keys, kind))


def load_without_train(folder: Path, **keys: object) -> Unlabelled:
    data, _, _, submission = options(keys)
    return load_test(folder, data, submission)


def options(keys: dict, kind: str = "multiclass") -> tuple[Data, str, Folds, Submission]:
    folds = {key: keys[key] for key in ("groups", "seed") if key in keys}
    submission = {"ids": keys["ids"]} if "ids" in keys else {}
    data = {key: value for key, value in keys.items() if key not in folds | submission}
    data = {"sample_submission": "sample.csv"} | data
    return Data(**data), kind, Folds(**folds), Submission(**submission)


def unlabelled(
    sample: pd.DataFrame, id: str = "id", test: pd.DataFrame | None = None, own_rows: bool = True
) -> Unlabelled:
    """Tables with this sample submission."""
    test = sample[[id]].assign(text="a") if test is None else test
    return Unlabelled(id, test, sample, own_rows)


class Toy:
    """A toy competition's folder, whose tables a test changes, and its config; no backbone."""

    def __init__(self, place: Path, task: str = "binary", **keys: object) -> None:
        self.path = toys.write_toy(place, "no-backbone", task, **keys)
        self.folder = place / "data"

    def change(self, name: str, **columns: object) -> None:
        table = pd.read_csv(self.folder / f"{name}.csv", dtype=str).assign(**columns)
        table.to_csv(self.folder / f"{name}.csv", index=False)

    def settings(self, *sets: str) -> config.Config:
        return config.load(self.path, list(sets))

    def load(self, *sets: str, make_folds: bool = True) -> Competition:
        settings = self.settings(*sets)
        return load_competition(settings, open_store(settings), make_folds=make_folds)
