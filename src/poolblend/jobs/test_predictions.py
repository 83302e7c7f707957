"""Fold models' predictions of the test table, kept in the store so that none is computed twice.

Shape legend: N rows, M members, K outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.cards.blend import BlendMember
from poolblend.competition.tables import Unlabelled
from poolblend.competition.tasks import Task
from poolblend.config import Config
from poolblend.ensembling.matrix import build_test
from poolblend.errors import UserError
from poolblend.jobs.blend_plan import fold_models
from poolblend.loading.competition import table_hashes
from poolblend.loading.outside import Predictions, find_moved, read_predictions
from poolblend.store import Store
from poolblend.store.predictions import from_table, to_table

log = logging.getLogger(__name__)


class KeptPredictions:
    """What the store's fold models predict of the test rows: as kept, or computed and kept."""

    def __init__(self, config: Config, store: Store, tables: Unlabelled, task: Task) -> None:
        self.store, self.task = store, task
        self.ids = tables.test[tables.id]
        self._hashes = table_hashes(config, "test")
        self._models = fold_models(config, store, tables.test, "test")
        self._told = False

    def predict(self, member: str, fold: int, weights_sha256: str) -> np.ndarray:
        """Predictions (N, K) of the fold model with weights of this hash."""
        made_from = {**self._hashes, "weights_sha256": weights_sha256}
        kept = self.store.load_test(member, fold, made_from)
        if kept is None:
            rows = np.arange(len(self.ids))
            pred_NK = self._models.predict(member, fold, rows, f"{member} fold {fold}")
            kept = to_table(self.ids, pred_NK, self.task.outputs)
            self._keep(member, fold, kept, made_from)
        return from_table(kept, self.ids, self.task.outputs)

    def _keep(
        self, member: str, fold: int, predictions: pd.DataFrame, made_from: Mapping[str, Any]
    ) -> None:
        try:
            self.store.save_test(member, fold, predictions, made_from)
        except UserError as error:  # a store mounted read-only: they are only kept for later
            if not self._told:
                log.warning("test predictions are not kept: %s", error)
            self._told = True


def predict_members(
    config: Config,
    store: Store,
    tables: Unlabelled,
    task: Task,
    members: Mapping[str, BlendMember],
    members_from: Path | None = None,
) -> np.ndarray:
    """Test predictions (M, N, K): of our members the mean of their folds, of others as given.

    The files of others are where they were blended, or have moved into the folder `members_from`
    or the store's.
    """
    folders = [store.root] if members_from is None else [members_from, store.root]
    predictions = KeptPredictions(config, store, tables, task)
    given = {
        name: _read_given(name, member, tables.id, task, folders)
        for name, member in members.items()
        if member.origin.oof_file
    }
    pred_MNK = np.zeros((len(members), len(tables.test), len(task.outputs)))
    rows = [m for m, name in enumerate(members) if name in given]
    if given:
        pred_MNK[rows] = build_test(
            {name: each.table for name, each in given.items()},
            predictions.ids,
            task.outputs,
            probabilities=task.probabilistic,
            simplex=task.kind == "multiclass",
            files={name: each.path for name, each in given.items()},
        )
    for m, (name, member) in enumerate(members.items()):
        if name in given:
            continue
        for fold, hashes in enumerate(member.origin.folds):
            pred_NK = predictions.predict(name, fold, hashes.weights_sha256)
            pred_MNK[m] += pred_NK / len(member.origin.folds)
    return pred_MNK


def _read_given(
    name: str, member: BlendMember, id: str, task: Task, folders: Sequence[Path]
) -> Predictions:
    """A member's predictions of test that were found beside its OOF file when it was blended."""
    oof_file, test_file = member.origin.oof_file, member.origin.test_file
    assert oof_file
    if test_file is None:
        folder = Path(oof_file.path).parent / "test"
        raise UserError(
            f"member {name} has a weight of {member.weight:.3f} but no test predictions; put "
            f"them into {folder} as {name}.csv or .parquet and run blend.py again, or blend "
            "without it (--members a,b)"
        )
    path = Path(test_file.path)
    found = find_moved(path, test_file.sha256, folders)
    if found is None:
        raise UserError(
            f"{path}, the test predictions of member {name}, is "
            f"{'not what it was' if path.is_file() else 'gone'} since the blend, and not in "
            f"{' or '.join(map(str, folders))}; restore it, name the folder of the members' files "
            "with --members-from, or run blend.py again"
        )
    return read_predictions(found, id=id, task=task)
