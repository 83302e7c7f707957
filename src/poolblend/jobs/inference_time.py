"""How long inference takes for a table that is many times the visible one.

Shape legend: N rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch

from poolblend.cards.blend import MemberOrigin
from poolblend.cards.fold import FoldCard
from poolblend.config import Config
from poolblend.jobs.foldmodels import FoldModels
from poolblend.jobs.predict_job import PredictJob, Rows
from poolblend.store import Store

TIMED_TOKENS = 4  # times the tokens of a batch, in the longer of two timed passes
WITHOUT_TOKENS = 1000  # rows of that pass, for a model without an encoder


class Speed(NamedTuple):
    """Seconds of one fold model before its first row (loading, starting a GPU), and per row."""

    before: float
    per_row: float

    def of(self, n_rows: int) -> float:
        return self.before + self.per_row * n_rows


def time_members(
    config: Config, store: Store, rows: Rows, origins: Mapping[str, MemberOrigin]
) -> dict[str, Speed]:
    """The speed of each member's fold models, measured with its first over the visible rows.

    These are repeated until they fill several batches. Members of one backbone and length are as
    fast as the first of them. Hidden states of frozen layers are not stored, so that the time of
    members that share them is estimated too long.
    """
    store.hidden_states.limit = 0
    speeds: dict[str, Speed] = {}
    by_kind: dict[str, Speed] = {}
    for name, origin in origins.items():
        if origin.models:
            fold = next(iter(origin.models))
            card = store.fold(name, fold).check(model=False, base=False, oof=False)
            of_speed = {"model", "backbone", "max_length", "windows"}
            kind = card.member.model_dump_json(include=of_speed)
            if kind not in by_kind:
                by_kind[kind] = _time(config, store, rows, card)
            speeds[name] = by_kind[kind]
    return speeds


def _time(config: Config, store: Store, rows: Rows, card: FoldCard) -> Speed:
    member, n_rows, remote_code = card.member.name, len(rows.ids_N), config.remote_code
    models = FoldModels(store, rows.texts, config.batch_tokens, remote_code=remote_code)
    several = WITHOUT_TOKENS
    if card.tokens is not None:
        tokens = max(1, models.tokens(member, card.fold, np.arange(n_rows)).count)
        several = max(2, TIMED_TOKENS * config.batch_tokens * n_rows // tokens)
    few = max(1, several // 4)
    first = _seconds(models, card, n_rows, few)  # with all that happens once: reading the disk
    again = _seconds(models, card, n_rows, few)
    more = _seconds(models, card, n_rows, several)
    per_row = max(0.0, more - again) / (several - few)
    return Speed(max(0.0, first - per_row * few), per_row)


def _seconds(models: FoldModels, card: FoldCard, n_rows: int, n: int) -> float:
    begun = time.monotonic()
    models.predict(card.member.name, card.fold, np.resize(np.arange(n_rows), n))
    return time.monotonic() - begun


def total(
    jobs: Sequence[PredictJob], speeds: Mapping[str, Speed], n_rows: int, workers: object
) -> float:
    """Seconds for all jobs over so many rows; several processes are faster only on several GPUs."""
    seconds = sum(speeds[job.origin.member].of(n_rows) for job in jobs)
    gpus = 1 if workers == 1 else torch.cuda.device_count()
    return seconds / max(1, min(gpus, len(jobs)))
