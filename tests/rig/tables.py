"""Tables of a competition for tests: read from train.csv, test.csv, sample.csv, or made here."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from poolblend.competition.options import Data, Folds, Submission
from poolblend.competition.tables import Tables, Unlabelled, load_tables, load_test
from poolblend.errors import UserError


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
    sample: pd.DataFrame,
    id: str = "id",
    test: pd.DataFrame | None = None,
    own_rows: bool = True,
) -> Unlabelled:
    """Tables with this sample submission."""
    test = sample[[id]].assign(text="a") if test is None else test
    return Unlabelled(id, test, sample, own_rows)
