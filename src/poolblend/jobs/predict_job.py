"""A unit of inference as a value: one fold model over the rows of one table.

Shape legend: N rows, K outputs, H width of the pooler.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from poolblend.cards.blend import FoldHashes, MemberOrigin
from poolblend.cards.card import CardPart
from poolblend.cards.predictions import Origin, TableName, What
from poolblend.config import Config
from poolblend.jobs.foldmodels import FoldModels
from poolblend.loading.texts import Texts
from poolblend.store import Store
from poolblend.store.kept import KeptFile


class PredictJob(CardPart):
    """All that one unit of inference needs, except the run's store and the table.

    `origin` decides the numbers. The other fields say how they are computed; with `remote_code`,
    code in the model's folder may run.
    """

    run: str
    origin: Origin
    batch_tokens: int
    remote_code: bool = False

    def fingerprint(self) -> str:
        """Hex sha256: equal for jobs with the same result."""
        return self.origin.fingerprint()

    def file(self, store: Store) -> KeptFile | None:
        """Where the result is stored; None where it is not.

        Predictions of other rows than test's are not, and nothing is in a store that is only read.
        """
        return None if store.read_only else self._kept_file(store)

    def _kept_file(self, store: Store) -> KeptFile | None:
        origin = self.origin
        if origin.what == "vectors":
            return store.vectors(origin.member, origin.fold, origin.table)
        return store.test_predictions(*origin.place) if origin.table == "test" else None

    def kept(self, store: Store) -> pd.DataFrame | None:
        """The stored result of this job, or None."""
        file = self._kept_file(store)
        return None if file is None else file.load(self.origin.hashes)


class Result(NamedTuple):
    """Predictions (N, K) or vectors (N, H); whether they were kept earlier."""

    job: PredictJob
    values: np.ndarray
    kept: bool


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of a table: their texts and ids, and for the train table their folds."""

    texts: Texts
    ids_N: np.ndarray
    fold_N: np.ndarray | None = None

    def positions(self, job: PredictJob) -> np.ndarray:
        """The rows of a job: all rows, or the fold's own rows to predict the train table."""
        if self.fold_N is None or job.origin.what == "vectors":
            return np.arange(len(self.ids_N))
        return np.flatnonzero(self.fold_N == job.origin.fold)


Tables = dict[TableName, Rows]


def run(job: PredictJob, models: FoldModels, rows: Rows) -> np.ndarray:
    """Predictions (N, K) or vectors (N, H) of the job's rows, computed by its model."""
    compute = models.vectors if job.origin.what == "vectors" else models.predict
    return compute(*job.origin.place, rows.positions(job), str(job.origin))


def _models(origin: MemberOrigin, table: TableName) -> Mapping[int, FoldHashes]:
    """The models that predict the table, by fold: each row of train by that of its fold alone."""
    return dict(enumerate(origin.folds)) if table == "train" else origin.models


def plan_predictions(
    config: Config,
    origins: Mapping[str, MemberOrigin],
    table: TableName,
    what: What,
    hashes: Mapping[str, str],
) -> list[PredictJob]:
    """A job for each model of the members; `hashes` are those of the table's files."""
    return [
        PredictJob(
            run=config.run,
            origin=Origin(
                member=name,
                fold=fold,
                table=table,
                what=what,
                hashes={**hashes, "weights_sha256": model.weights_sha256},
            ),
            batch_tokens=config.batch_tokens,
            remote_code=config.remote_code,
        )
        for name, origin in origins.items()
        for fold, model in _models(origin, table).items()
    ]
