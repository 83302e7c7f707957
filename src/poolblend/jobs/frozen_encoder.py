"""Train a fold of a frozen member: vectors of all rows, computed once, and a head fitted to them.

Shape legend: N rows, H width of the pooler, F features, K outputs.
"""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np
import torch

from poolblend.config import Config, Member
from poolblend.jobs.fitted import FittedFold
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import Competition
from poolblend.loading.dataset import Materials
from poolblend.loading.models import new_model, new_objective
from poolblend.modeling.frozen_heads import KernelHead
from poolblend.modeling.model import TextModel
from poolblend.modeling.poolers import Pooler
from poolblend.modeling.sources import Located
from poolblend.training.batches import Encoded
from poolblend.training.devices import choose_device
from poolblend.training.head_fitting import fit_head
from poolblend.training.memory import enough_memory
from poolblend.training.prediction import pooled_vectors


class FrozenMembers:
    """Fits heads; the vectors that several folds or members share are kept in memory."""

    def __init__(
        self, config: Config, competition: Competition, materials: Materials, watch: Watch
    ) -> None:
        self.config, self.competition = config, competition
        self.materials, self.watch = materials, watch
        self._kept: dict[tuple[str, int], np.ndarray] = {}

    def fit(self, member: Member, fold: int, located: Located, label: str) -> FittedFold:
        """The member's model of `fold`; raises Stopped, with nothing kept, when the watch says so.

        `label` names the fold at a progress bar.
        """
        task, fold_N = self.competition.task, self.competition.fold_N
        objective = new_objective(task)
        material = self.materials.of_fold(member, fold, located, objective)
        columns, rows, valid = material.columns, material.rows, np.flatnonzero(fold_N == fold)
        base, model, _ = new_model(
            member,
            located,
            n_logits=objective.n_logits,
            n_columns=0 if columns is None else columns.width,
            remote_code=self.config.remote_code,
        )
        model.pooler.fit([material.encoded.ids[row] for row in rows[rows < len(fold_N)]])
        x_NF = self._features(member, located, model, material.encoded, label)
        self.watch.check()
        started, kind = time.perf_counter(), member.head.kind
        assert kind != "linear"
        targets, weights = material.targets[rows], material.weights[rows]
        objective = objective.fitted(targets, weights)
        model.head = fit_head(
            kind,
            x_NF[rows],
            objective.scale(targets),
            weights,
            objective,
            task_kind=task.kind,
            C=member.head.C,
        )
        seconds = time.perf_counter() - started
        self.watch.took("fitting a head", seconds)
        with torch.inference_mode():
            activated_NK = objective.activation(model.head(torch.from_numpy(x_NF[valid])))
        told: dict[str, Any] = {
            "epochs": [],
            "rows": {"train": len(rows), "valid": len(valid)},
            "head": _told(model.head) | {"seconds": round(seconds, 1)},
            "columns": None if columns is None else columns.to_json(),
            "target_scaler": objective.scaler_json,
            "reads_padding": base.reads_padding,
        }
        pred_NK = objective.unscale(activated_NK.double().numpy())
        return FittedFold(model, base.parts, pred_NK, told)

    def _features(
        self, member: Member, located: Located, model: TextModel, encoded: Encoded, label: str
    ) -> np.ndarray:
        """What the head is to see of all rows of `encoded`, (N, F) float32.

        Folds are pooled one by one, test rows last: just the batches in which the stored model
        will read them again.
        """
        fold_N, how = self.competition.fold_N, _how_pooled(member, located)
        # What a pooler counts, it counts on the fold's own training rows.
        kept = self._kept if type(model.pooler).fit is Pooler.fit else {}
        part_N = np.concatenate([fold_N, np.full(len(encoded.ids) - len(fold_N), -1)])
        x_NH = np.empty((len(part_N), model.pooler.width), dtype=np.float32)
        for part in np.unique(part_N):
            rows = np.flatnonzero(part_N == part)
            if (how, part) not in kept:
                kept[how, part] = self._pooled(member, model, encoded, rows, label)
            x_NH[rows] = kept[how, part]
        return x_NH if encoded.columns_NF is None else np.hstack([x_NH, encoded.columns_NF])

    def _pooled(
        self, member: Member, model: TextModel, encoded: Encoded, rows: np.ndarray, label: str
    ) -> np.ndarray:
        with enough_memory("lower batch_tokens"):
            return pooled_vectors(
                model.to(choose_device()),
                encoded,
                rows,
                batch_tokens=self.config.batch_tokens,
                precision=member.train.precision,
                progress=label,
                after_batch=self.watch.check,
            )


def _how_pooled(member: Member, located: Located) -> str:
    """All that a row's vector depends on, besides the run."""
    settings = member.model_dump(
        include={
            "pooler": True,
            "pooler_args": True,
            "mask": True,
            "max_length": True,
            "truncation": True,
            "windows": True,
            "train": {"precision", "attention"},
        }
    )
    hashes = [located.weights_sha256, located.files_sha256]
    return json.dumps([settings, hashes], sort_keys=True, default=str)


def _told(head: torch.nn.Module) -> dict[str, Any]:
    return {"support_vectors": len(head.support_SF)} if isinstance(head, KernelHead) else {}
