"""Fine-tune one fold model: epochs, kept as they go, and predictions of the fold's own rows.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any

import numpy as np
from accelerate.utils import set_seed

from poolblend.competition.columns import Columns
from poolblend.config import Config, Member, derive_seed
from poolblend.jobs.best_epoch import merit, optimism
from poolblend.jobs.fitted import FittedFold
from poolblend.jobs.keeping import Intervals, Keeper
from poolblend.jobs.scoring import score, shown
from poolblend.jobs.tracking import Follower, follow
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import Competition
from poolblend.loading.dataset import Materials
from poolblend.loading.models import new_model, new_objective
from poolblend.modeling import backbone
from poolblend.modeling.model import TextModel
from poolblend.modeling.sources import Located
from poolblend.store import Store
from poolblend.training.fit import DivergedError, Fit
from poolblend.training.memory import enough_memory
from poolblend.training.prediction import predict

log = logging.getLogger(__name__)

OUT_OF_MEMORY = (
    "batches of one row are too large: set train.gradient_checkpointing=true, or lower max_length; "
    "finished folds are kept"
)


def fold_seed(member: Member, fold: int) -> int:
    """The seed that all chance of this fold's training comes from."""
    return derive_seed(member.seed, "fold", fold)


class FineTuner:
    """Trains fold models of one competition on its `materials`."""

    def __init__(
        self,
        config: Config,
        competition: Competition,
        store: Store,
        materials: Materials,
        watch: Watch,
    ) -> None:
        self.config, self.competition, self.store = config, competition, store
        self.materials, self.watch = materials, watch

    def fit(
        self,
        member: Member,
        fold: int,
        located: Located,
        inputs: Mapping[str, Any],
        label: str,
    ) -> FittedFold:
        """Train the fold's model and predict the fold's rows.

        Goes on from the fold's newest checkpoint, if there is one; raises Stopped when the watch
        says so, with a checkpoint written. `inputs` is what the training depends on.
        """
        started = time.perf_counter()
        valid = np.flatnonzero(self.competition.fold_N == fold)
        base, fit, columns = self.begin(member, fold, located)
        checkpoints = self.store.checkpoints(member.name, fold)
        intervals = Intervals(self.config.checkpoints.minutes, self.config.checkpoints.steps)
        keeper = Keeper(fit, checkpoints, inputs, intervals, self.watch, label)
        keeper.resume(checkpoints.newest())
        follower = follow(
            self.config,
            self.store,
            member,
            fold,
            keeper.inputs,
            n_steps=fit.n_steps,
            steps_done=fit.steps_done,
        )
        with closing(follower):
            self.watch.took("the beginning of a fold", time.perf_counter() - started)
            self.watch.check()
            pred_NK, model, chosen = self._run(member, fit, keeper, valid, follower)
        told = {
            **chosen,
            "epochs": keeper.epochs,
            "rows": {"train": len(fit.rows), "valid": len(valid)},
            "resumed_at_steps": keeper.resumed,
            "batches_cut_into": fit.pieces,
            "columns": None if columns is None else columns.to_json(),
            "target_scaler": fit.objective.scaler_json,
            "reads_padding": base.reads_padding,
        }
        return FittedFold(model, base.parts, pred_NK, told)

    def _run(
        self, member: Member, fit: Fit, keeper: Keeper, valid: np.ndarray, follower: Follower
    ) -> tuple[np.ndarray, TextModel, dict[str, Any]]:
        """Train what is left; predictions (N, K) of the rows `valid`, the model, and its choice.

        An epoch is kept before its rows are predicted, so that no kill repeats its training.
        """
        scorer = self.competition.scorer

        def after_step() -> None:
            follower.step(fit.last_loss, fit.last_rate, fit.steps_done)
            keeper.after_step()

        with enough_memory(OUT_OF_MEMORY):
            for epoch in fit.run(progress=keeper.label, after_step=after_step):
                keeper.write()
                pred_NK = self._predict(fit, keeper, valid)
                keeper.epochs.append(
                    asdict(epoch) | {"score": score(self.competition, valid, pred_NK)}
                )
                self._tell(keeper)
                follower.epoch(keeper.epochs[-1], fit.steps_done)
                if fit.end_epoch(merit(scorer, keeper.epochs[-1]["score"]), pred_NK):
                    break
        if fit.kept_epoch is None:
            return pred_NK, fit.finish(), {}
        number, predictions = fit.kept_epoch
        flattery = optimism(scorer, self.competition.scored[valid], predictions, seed=0)
        _tell_best(keeper, number, flattery)
        chosen = {"kept_epoch": number, "optimism": flattery}
        return predictions[number - 1], fit.finish(), chosen

    def _predict(self, fit: Fit, keeper: Keeper, valid: np.ndarray) -> np.ndarray:
        with fit.evaluated() as model:
            pred_NK = predict(
                model,
                fit.encoded,
                valid,
                fit.objective,
                batch_tokens=self.config.batch_tokens,
                precision=fit.options.precision,
                after_batch=keeper.after_batch,
            )
        if not np.isfinite(pred_NK).all():
            raise DivergedError(
                f"predictions became NaN or infinite in epoch {fit.position.epoch + 1}; {fit.cure}"
            )
        return pred_NK

    def _tell(self, keeper: Keeper) -> None:
        """A line of the epoch just scored."""
        epoch, name = keeper.epochs[-1], self.competition.scorer.name
        rate = len(keeper.fit.rows) / max(epoch["seconds"], 1e-9)
        log.info(
            "%s: epoch %d of %d: loss %.4f, %s %s (%.0f s, %.0f rows a second)",
            keeper.label,
            epoch["number"],
            keeper.fit.options.epochs,
            epoch["loss"],
            name,
            shown(epoch["score"]),
            epoch["seconds"],
            rate,
        )

    def begin(
        self, member: Member, fold: int, located: Located
    ) -> tuple[backbone.Backbone, Fit, Columns | None]:
        """A training that has not begun; all its chance comes from the fold's seed."""
        seed = fold_seed(member, fold)
        objective = new_objective(self.competition.task, member.train.loss)
        material = self.materials.of_fold(member, fold, located, objective)
        set_seed(seed)
        n_columns = 0 if material.columns is None else material.columns.width
        base, model, adopted = new_model(
            member,
            located,
            n_logits=objective.n_logits,
            n_columns=n_columns,
            remote_code=self.config.remote_code,
        )
        if not adopted:
            log.info("%s: the encoder has no trained pooler; a fresh one is trained", member.name)
        own = material.rows[material.rows < len(self.competition.y)]
        model.pooler.fit([material.encoded.ids[row] for row in own])
        fit = Fit(
            model,
            material.encoded,
            material.rows,
            material.targets,
            objective,
            member.train,
            seed,
            material.weights,
            # With windows.most, the user has set the limit.
            self.config.batch_tokens if member.windows and member.windows.most is None else None,
        )
        return base, fit, material.columns


def _tell_best(keeper: Keeper, number: int, optimism: float | None) -> None:
    """Say which epoch is kept, and what choosing it on the fold's own rows flatters."""
    cost = "" if optimism is None else f", which flatters its score by about {optimism:.4f}"
    log.info(
        "%s: epoch %d of %d is kept, the best on the fold's own rows%s",
        keeper.label,
        number,
        len(keeper.epochs),
        cost,
    )
