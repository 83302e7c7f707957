"""Which rows a submission has: the sample submission's, or test's where it holds more."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.competition.ids import alike
from poolblend.competition.options import RowIds
from poolblend.errors import UserError, quoted

log = logging.getLogger(__name__)


def rows_to_submit(
    path: Path, sample: pd.DataFrame, test: Path, test_ids: pd.Series, ids: RowIds
) -> tuple[pd.DataFrame, bool]:
    """The sample submission over the rows to submit, and whether each row of it is its own.

    With `ids` "sample" these are its rows, with "test" one for each test id, in test's order, with
    the cells of some row of the sample where it lacks the id. "auto" takes test's where test holds
    ids that the sample lacks: a code competition's hidden test is larger than the sample that is
    visible. Raises UserError where the sample's ids are wanted and test lacks some.
    """
    id = str(test_ids.name)
    if ids != "test":
        _check_predictable(path, sample[id], test, test_ids)
    lacking = test_ids[~test_ids.isin(sample[id])]
    if ids == "sample" or (ids == "auto" and lacking.empty):
        return sample, True
    if len(lacking):
        log.info(
            "%s holds %d ids that %s lacks, the first %s: the submission gets a row for each of "
            "the %d test ids (submission.ids: sample keeps to the sample's)",
            test,
            len(lacking),
            path,
            quoted(lacking.iloc[0]),
            len(test_ids),
        )
    known_N = pd.Index(sample[id]).get_indexer(pd.Index(test_ids))
    row_N = np.where(known_N >= 0, known_N, np.arange(len(test_ids)) % len(sample))
    rows = sample.iloc[row_N].reset_index(drop=True)
    rows[id] = test_ids.to_numpy()
    return rows, lacking.empty


def _check_predictable(path: Path, sample_ids: pd.Series, test: Path, test_ids: pd.Series) -> None:
    if sample_ids.isin(test_ids).all():
        return
    for here, found, other, wanted in (
        (path, sample_ids, test, test_ids),
        (test, test_ids, path, sample_ids),
    ):
        lacking = wanted[~wanted.isin(found)]
        if len(lacking):
            raise UserError(
                f"{here} lacks {len(lacking)} of the {len(wanted)} ids in {other}, the first "
                f"{quoted(lacking.iloc[0])}{alike(lacking.iloc[0], found[~found.isin(wanted)])}; "
                "expected the same ids in both, in any order, or submission.ids: test where the "
                "sample's do not count"
            )
