"""Predictions of the test rows by a blend's members, trained here or by other tools.

Shape legend: N rows, M members, K outputs.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.cards.blend import BlendMember, MemberOrigin
from poolblend.competition.options import Data
from poolblend.competition.possible import only_possible, possible_labels
from poolblend.competition.tables import Unlabelled, load_test, read_new
from poolblend.competition.tasks import Task
from poolblend.competition.templates import text_columns
from poolblend.config import Config, Workers
from poolblend.ensembling.matrix import build_test
from poolblend.errors import Stopped, UserError
from poolblend.jobs.blend_plan import check_unchanged
from poolblend.jobs.predict_job import PredictJob, Rows, plan_predictions
from poolblend.jobs.runners import PredictWork, predict_all
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import Competition, table_hashes
from poolblend.loading.outside import Predictions, find_moved, read_predictions
from poolblend.loading.texts import Texts
from poolblend.printing import duration
from poolblend.store import Store

log = logging.getLogger(__name__)


def load_unlabelled(
    config: Config, store: Store, origins: Mapping[str, MemberOrigin]
) -> Unlabelled:
    """The sample submission, and the test table with the columns that the members read.

    Raises UserError for members that were trained again after the blend.
    """
    return load_test(config.data_dir, _data_read(config, store, origins), config.submission)


def load_new(
    config: Config, store: Store, origins: Mapping[str, MemberOrigin], frame: pd.DataFrame
) -> pd.DataFrame:
    """The frame's rows with the columns that the members read, as `load_unlabelled` reads test."""
    return read_new(frame, config.data_dir, _data_read(config, store, origins))


def _data_read(config: Config, store: Store, origins: Mapping[str, MemberOrigin]) -> Data:
    """The config's `data` with the text columns that the members read."""
    texts = (text_columns(check_unchanged(store, name, each)) for name, each in origins.items())
    columns = sorted({column for columns in texts for column in columns})
    return config.data.model_copy(update={"text": columns})


def test_rows(config: Config, tables: Unlabelled) -> Rows:
    texts = Texts(tables.test, "test", config.remote_code, config.batch_tokens)
    return Rows(texts, tables.test[tables.id].to_numpy(dtype=object))


def train_rows(config: Config, competition: Competition) -> Rows:
    train = competition.tables.train
    texts = Texts(train, "train", config.remote_code, config.batch_tokens)
    return Rows(texts, train[competition.tables.id].to_numpy(dtype=object), competition.fold_N)


def possible_of(config: Config, task: Task, table: pd.DataFrame) -> np.ndarray | None:
    """The labels that `data.possible` names in the table's rows, bool (N, K); None for all."""
    id = config.data.id
    named = table if id is None or id not in table else table.set_index(id, drop=False)
    return possible_labels(task, named, config.data.possible, strict=False)


def predict_members(
    config: Config,
    store: Store,
    tables: Unlabelled,
    task: Task,
    members: Mapping[str, BlendMember],
    members_from: Path | None = None,
    workers: Workers = 1,
    end: float | None = None,
) -> np.ndarray:
    """Test predictions (M, N, K): the mean over a member's folds, or an outside member's file.

    If these files have moved, they are found in the folder `members_from` or in the store. Before
    `end`, a time on the monotonic clock, Stopped is raised. With a store that is only read, the
    means are then over the fold models that are done; UserError where a member has none.
    """
    folders = [store.root] if members_from is None else [members_from, store.root]
    rows, names = test_rows(config, tables), list(members)
    possible_NK = possible_of(config, task, tables.test)
    given = {
        name: _read_given(name, member, tables.id, task, folders)
        for name, member in members.items()
        if member.origin.oof_file
    }
    pred_MNK = np.zeros((len(members), len(rows.ids_N), len(task.outputs)))
    if given:
        pred_MNK[[names.index(name) for name in given]] = build_test(
            {name: each.table for name, each in given.items()},
            rows.ids_N,
            task.outputs,
            probabilities=task.probabilistic,
            simplex=task.kind == "multiclass",
            files={name: each.path for name, each in given.items()},
            possible_NK=possible_NK,
        )
    origins = {name: member.origin for name, member in members.items()}
    jobs = plan_predictions(config, origins, "test", "predictions", table_hashes(config, "test"))
    work = PredictWork(store, {"test": rows}, task.outputs, config.cluster)
    if end is not None:  # a complete blend as early as possible
        jobs.sort(key=lambda job: job.origin.fold)
    _add_up(pred_MNK, jobs, work, origins, workers, possible_NK, end)
    return pred_MNK


def predict_new(
    config: Config,
    store: Store,
    table: pd.DataFrame,
    task: Task,
    members: Mapping[str, BlendMember],
    workers: Workers = 1,
) -> np.ndarray:
    """Predictions (M, N, K) of rows that `load_new` has read; nothing is stored.

    Raises UserError for members of other tools, which have no models here.
    """
    outside = [name for name, member in members.items() if member.origin.oof_file]
    if outside:
        raise UserError(
            f"the blend gives weight to members from elsewhere ({', '.join(outside)}), which have "
            "no models here to predict other rows than test's; blend members that were trained here"
        )
    texts = Texts(table, None, config.remote_code, config.batch_tokens)
    rows = Rows(texts, np.arange(len(table)))
    origins = {name: member.origin for name, member in members.items()}
    jobs = plan_predictions(config, origins, "new", "predictions", {})
    work = PredictWork(store, {"new": rows}, task.outputs, config.cluster)
    pred_MNK = np.zeros((len(members), len(table), len(task.outputs)))
    _add_up(pred_MNK, jobs, work, origins, workers, possible_of(config, task, table))
    return pred_MNK


def _add_up(
    pred_MNK: np.ndarray,
    jobs: Sequence[PredictJob],
    work: PredictWork,
    origins: Mapping[str, MemberOrigin],
    workers: Workers,
    possible_NK: np.ndarray | None,
    end: float | None = None,
) -> None:
    """Add each member's mean over its fold models, in place; `end` as `predict_members` says."""
    names, done, began = list(origins), Counter[str](), time.monotonic()
    try:
        for job, raw_NK, kept in predict_all(jobs, work, workers, Watch(end)):
            name = job.origin.member
            pred_NK = only_possible(raw_NK, possible_NK)
            pred_MNK[names.index(name)] += pred_NK / len(origins[name].models)
            done[name] += 1
            if not kept and len(jobs) > 1:
                passed = duration(time.monotonic() - began)
                log.info("[%d/%d] %s: predicted (%s)", done.total(), len(jobs), job.origin, passed)
    except Stopped as stop:
        if not work.store.read_only or stop.status:
            raise
        for name, share in _shares_done(origins, done).items():
            pred_MNK[names.index(name)] /= share


def _shares_done(origins: Mapping[str, MemberOrigin], done: Mapping[str, int]) -> dict[str, float]:
    """The share of each member's fold models that is done, by name; UserError for none."""
    folds = {name: len(origin.models) for name, origin in origins.items() if origin.models}
    lacking = [name for name in folds if not done[name]]
    if lacking:
        raise UserError(
            f"stopped before the time limit, before any fold model of {', '.join(lacking)} was "
            "done: there is no submission; allow more time, or blend fewer members"
        )
    log.warning(
        "stopped before the time limit: the submission averages fewer fold models (%s)",
        ", ".join(f"{name}: {done[name]} of {n}" for name, n in folds.items() if done[name] < n),
    )
    return {name: done[name] / n for name, n in folds.items()}


def _read_given(
    name: str, member: BlendMember, id: str, task: Task, folders: Sequence[Path]
) -> Predictions:
    """The test predictions of an outside member, from the file named in the blend card."""
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
