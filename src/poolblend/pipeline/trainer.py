"""Train one fold model: tokens, model, epochs, out-of-fold predictions, card.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd
from accelerate.utils import set_seed

from poolblend.competition.metrics import UndefinedScoreError
from poolblend.config import Config, Member, derive_seed
from poolblend.errors import UserError
from poolblend.modeling import backbone
from poolblend.modeling.model import TextModel, build_model
from poolblend.modeling.poolers import build_pooler
from poolblend.modeling.sources import Located, locate
from poolblend.pipeline.competition import (
    Competition,
    describe_task,
)
from poolblend.pipeline.foldmodels import enough_memory, release_memory
from poolblend.pipeline.keeping import Intervals, Keeper
from poolblend.pipeline.provenance import provenance
from poolblend.pipeline.texts import Texts
from poolblend.pipeline.watch import Watch
from poolblend.store import DamagedError, Store
from poolblend.store.predictions import from_table, to_table
from poolblend.training.devices import choose_device, resolve_precision
from poolblend.training.fit import Fit, FitOptions
from poolblend.training.objectives import choose_objective
from poolblend.training.prediction import predict

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "batches of one row are too large: set train.gradient_checkpointing=true, or lower max_length; "
    "finished folds are kept"
)


def check_members(config: Config, members: Sequence[Member]) -> dict[str, Located]:
    """Each member's backbone on this machine, by the member's name.

    Raises UserError for a backbone, length, pooler argument or loss that cannot work, so that no
    member fails for one of these after hours of training others.
    """
    located: dict[tuple[str, str | None], Located] = {}
    for member in members:
        source, expected = member.backbone.source, member.backbone.sha256
        try:
            if (source, expected) not in located:
                path = config.path(source)
                folder = str(path) if path.is_dir() else source
                located[source, expected] = locate(folder, expected, remote_code=config.remote_code)
            shape = backbone.check(
                located[source, expected].folder,
                member.max_length,
                remote_code=config.remote_code,
            )
            build_pooler(member.pooler, shape, member.pooler_args)
            choose_objective(config.task, member.train.loss)
        except UserError as error:
            raise UserError(f"member {member.name}: {error}") from None
    return {m.name: located[m.backbone.source, m.backbone.sha256] for m in members}


class Trainer:
    """Trains folds of one competition; tokenises and hashes once what several folds share."""

    def __init__(
        self,
        config: Config,
        competition: Competition,
        store: Store,
        located: Mapping[str, Located],
        watch: Watch,
    ) -> None:
        self.config, self.competition, self.store = config, competition, store
        self.located, self.watch = located, watch
        self.ids = competition.tables.train[config.data.id]
        self.texts = Texts(competition.tables.train, "train", config.remote_code)

    def inputs(self, member: Member) -> dict[str, Any]:
        """All that a fold model's weights depend on, besides library versions and the machine."""
        data = {key: self.competition.data[key] for key in ("train_sha256", "folds_sha256")}
        task = self.competition.task
        return {
            **data,
            "task": describe_task(task),
            "text": self.config.data.text,
            "special_tokens": self.config.data.special_tokens,
            # Where the backbone lies may change from machine to machine; its hashes say what it is.
            "backbone_sha256": self.located[member.name].weights_sha256,
            "backbone_files_sha256": self.located[member.name].files_sha256,
            "settings": member.model_dump(
                exclude={"name": True, "backbone": True, "train": {"gradient_checkpointing"}}
            ),
        }

    def train(self, member: Member, fold: int, place: str) -> None:
        """Train one fold model, predict its own rows, and put both into the store.

        Goes on from the fold's newest checkpoint, if there is one; raises Stopped when the watch
        says so, with a checkpoint written.
        """
        started, label = time.perf_counter(), f"{place} {member.name} fold {fold}"
        held_out = self.competition.fold_N == fold
        rows, valid = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        seed = derive_seed(member.seed, "fold", fold)
        base, fit = self._begin(member, rows, seed)
        checkpoints = self.store.checkpoints(member.name, fold)
        keeper = Keeper(fit, checkpoints, self.inputs(member), self._intervals(), self.watch, label)
        keeper.resume(checkpoints.newest())
        self.watch.took("the beginning of a fold", time.perf_counter() - started)
        self.watch.check()
        pred_NK, score = self._run(fit, keeper, valid)
        seconds = time.perf_counter() - started
        told = {
            "epochs": keeper.epochs,
            "score": score,
            "rows": {"train": len(rows), "valid": len(valid)},
            "seconds": round(seconds, 1),
            "resumed_at_steps": keeper.resumed,
            "batches_cut_into": fit.pieces,
        }
        saving = time.perf_counter()
        self.store.save_fold(
            member.name,
            fold,
            tensors=fit.model.state_dict(),
            parts=base.parts,
            oof=to_table(self.ids.iloc[valid], pred_NK, self.competition.task.outputs, fold),
            card=self._card(member, seed) | told,
        )
        checkpoints.drop()
        self.watch.took("saving a fold", time.perf_counter() - saving)
        log.info("%s: %s %s (%.0f s)", label, self.competition.scorer.name, _shown(score), seconds)
        del fit, base, keeper
        release_memory()

    def _run(self, fit: Fit, keeper: Keeper, valid: np.ndarray) -> tuple[np.ndarray, float | None]:
        """Train what is left; the predictions (N, K) of the rows `valid` at the end, their score.

        An epoch is kept before its rows are predicted, so that no kill repeats its training.
        """
        with enough_memory(OUT_OF_MEMORY):
            for epoch in fit.run(progress=keeper.label, after_step=keeper.after_step):
                keeper.write()
                pred_NK = predict(
                    fit.model,
                    fit.encoded,
                    valid,
                    fit.objective,
                    batch_tokens=self.config.batch_tokens,
                    precision=fit.options.precision,
                    after_batch=keeper.after_batch,
                )
                score = self._score(valid, pred_NK)
                keeper.epochs.append(asdict(epoch) | {"score": score})
        return pred_NK, score

    def _begin(self, member: Member, rows: np.ndarray, seed: int) -> tuple[backbone.Backbone, Fit]:
        """A model whose training has not begun; all its chance comes from `seed`."""
        located = self.located[member.name]
        encoded = self.texts.encode(
            located.folder,
            located.files_sha256,
            member.max_length,
            self.config.data.text,
            self.config.data.special_tokens,
        )
        set_seed(seed)
        base, model = self._build(member, [encoded.ids[row] for row in rows])
        options = FitOptions(**member.train.model_dump(exclude={"loss"}), seed=seed)
        objective = choose_objective(self.competition.task.kind, member.train.loss)
        learnable = self.competition.task.learnable(self.competition.y)
        return base, Fit(model, encoded, rows, learnable, objective, options)

    def _intervals(self) -> Intervals:
        return Intervals(self.config.checkpoints.minutes, self.config.checkpoints.steps)

    def _card(self, member: Member, seed: int) -> dict[str, Any]:
        return {
            "inputs": self.inputs(member),
            "seed": seed,
            "metric": self.competition.scorer.name,
            "device": choose_device().type,
            "precision": resolve_precision(member.train.precision, choose_device()),
            "config": self.config.model_dump(),
            **provenance(),
        }

    def summarise(self, member: Member) -> None:
        """Log the member's OOF score once all its folds are finished."""
        competition, folds = self.competition, range(self.competition.n_folds)
        try:
            if any(self.store.fold_card(member.name, fold) is None for fold in folds):
                return
        except DamagedError:  # not of these folds, or the command would have refused them
            return
        oof = pd.concat([self.store.read_oof(member.name, fold) for fold in folds])
        pred_NK = from_table(oof, self.ids, competition.task.outputs)
        score = self._score(np.arange(len(pred_NK)), pred_NK)
        log.info("%s: OOF %s %s", member.name, competition.scorer.name, _shown(score))

    def _build(self, member: Member, ids: list[np.ndarray]) -> tuple[backbone.Backbone, TextModel]:
        folder, remote_code = self.located[member.name].folder, self.config.remote_code
        base = backbone.load(folder, remote_code=remote_code)
        model, adopted = build_model(
            base,
            pooler=member.pooler,
            pooler_args=member.pooler_args,
            mask=member.mask,
            n_outputs=len(self.competition.task.outputs),
            dropout=member.head.dropout,
            norm=member.head.norm,
        )
        if not adopted:
            log.info("%s: the encoder has no trained pooler; a fresh one is trained", member.name)
        model.pooler.fit(ids)
        return base, model

    def _score(self, valid: np.ndarray, pred_NK: np.ndarray) -> float | None:
        """The score of these rows; None where the metric is undefined: that costs no fold model."""
        try:
            return self.competition.scorer.score(self.competition.y[valid], pred_NK)
        except UndefinedScoreError as error:
            log.warning("%s is undefined on these rows: %s", self.competition.scorer.name, error)
            return None


def _shown(score: float | None) -> str:
    return "undefined" if score is None else f"{score:.4f}"
