"""A run's submission: predictions of the test rows in the form of the sample submission."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from poolblend.competition.filling import Filling, Sample, find_filling
from poolblend.competition.metrics import METRICS
from poolblend.competition.submission import build_submission, check_submission
from poolblend.competition.tables import Unlabelled
from poolblend.competition.tasks import Task
from poolblend.config import Config

log = logging.getLogger(__name__)


def choose_filling(config: Config, tables: Unlabelled, task: Task, metric: str) -> Filling:
    """What fills each column of the sample submission, by the config's `submission` section."""
    keys = config.submission
    sample = Sample(task, tables.sample, tables.id, tables.own_rows, tables.test, keys.columns)
    takes = METRICS[metric].takes
    filling = find_filling(sample, keys.values, takes=takes, top=keys.top)
    if filling.how:
        log.info("sample submission: %s", filling.how)
    return filling


def fill_submission(
    config: Config,
    filling: Filling,
    tables: Unlabelled,
    task: Task,
    pred_NK: np.ndarray,
    cuts: np.ndarray | None = None,
) -> pd.DataFrame:
    """The submission from predictions of the rows of `test`, checked against its template."""
    id, test = tables.id, tables.test
    # With submission.ids: sample, test may hold further rows.
    asked_N = test[id].isin(filling.template[id]).to_numpy() | (config.submission.ids != "sample")
    made = build_submission(
        task, filling, list(test[id][asked_N]), pred_NK[asked_N], id=id, cuts=cuts
    )
    check_submission(made, filling.template, id=id, copied=filling.copied)
    return made


def try_submission(config: Config, tables: Unlabelled, task: Task, metric: str) -> Filling:
    """Refuse a sample submission that cannot be filled, before anything is computed for it."""
    filling = choose_filling(config, tables, task, metric)
    even_NK = np.full((len(tables.test), len(task.outputs)), 1 / len(task.classes or (0,)))
    fill_submission(config, filling, tables, task, even_NK)
    return filling
