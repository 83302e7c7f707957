"""Train one fold model: tokens, model, epochs, out-of-fold predictions, card.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from poolblend.cards.provenance import provenance
from poolblend.config import Config, Member
from poolblend.jobs.finetuning import FineTuner, fold_seed
from poolblend.jobs.frozen_encoder import FrozenMembers
from poolblend.jobs.scoring import score, shown, why_undefined
from poolblend.jobs.watch import Watch
from poolblend.loading.competition import Competition, describe_task
from poolblend.loading.dataset import Materials
from poolblend.modeling.sources import Located
from poolblend.modeling.tokenizers import tokenizer_source
from poolblend.store import DamagedError, Store
from poolblend.store.predictions import from_table, to_table
from poolblend.training.devices import FP32_ONLY, Precision, choose_device, resolve_precision
from poolblend.training.encoding import digest
from poolblend.training.fit import Fit
from poolblend.training.memory import release_memory

log = logging.getLogger(__name__)


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
        # As a rehearsal found; of those that it did not try, their own.
        self.precisions: Mapping[str, Precision] = {}
        self.ids = competition.tables.train[competition.tables.id]
        self._sources: dict[str, str | None] = {}
        self.materials = Materials(config, competition, store)
        self._frozen = FrozenMembers(config, competition, self.materials, watch)
        self._fine_tuned = FineTuner(config, competition, store, self.materials, watch)

    def inputs(self, member: Member) -> dict[str, Any]:
        """All that a fold model's weights depend on, besides library versions and the machine."""
        located = self.located[member.name]
        return {
            **self.materials.inputs(member),
            "task": describe_task(self.competition.task),
            # Where the backbone lies may change from machine to machine; its hashes say what it is.
            "backbone_sha256": located.weights_sha256,
            "backbone_files_sha256": located.files_sha256,
            **self._tokenizer(located),
            "settings": _settings(member),
        }

    def _tokenizer(self, located: Located) -> dict[str, str]:
        """The file that the tokenizer is read from, where transformers would read texts otherwise.

        Folds that were trained before this was seen to are thereby known as stale.
        """
        known = self._sources
        if located.files_sha256 not in known:
            known[located.files_sha256] = tokenizer_source(located.folder, self.config.remote_code)
        source = known[located.files_sha256]
        return {} if source is None else {"tokenizer": source}

    def train(self, member: Member, fold: int, place: str) -> None:
        """Train one fold model, predict its own rows, and put both into the store.

        Goes on from the fold's newest checkpoint, if there is one; raises Stopped when the watch
        says so, with a checkpoint written.
        """
        started, label = time.perf_counter(), f"{place} {member.name} fold {fold}"
        valid = np.flatnonzero(self.competition.fold_N == fold)
        located, tried = self.located[member.name], self._as_tried(member)
        if member.head.frozen:
            done = self._frozen.fit(tried, fold, located, label)
        else:
            done = self._fine_tuned.fit(tried, fold, located, self.inputs(member), label)
        scored = score(self.competition, valid, done.pred_NK)
        saving = time.perf_counter()
        seconds = saving - started
        outputs = self.competition.task.outputs
        self.store.save_fold(
            member.name,
            fold,
            tensors=done.model.state_dict(),
            parts=done.parts,
            oof=to_table(self.ids.iloc[valid], done.pred_NK, outputs, fold),
            card={
                **self._card(member, fold),
                **done.told,
                "score": scored,
                "seconds": round(seconds, 1),
            },
        )
        self.store.checkpoints(member.name, fold).drop()
        self.watch.took("saving a fold", time.perf_counter() - saving)
        told = shown(scored)
        if scored is None:
            told += f", {why_undefined(self.competition, valid, done.pred_NK)}"
        log.info("%s: %s %s (%.0f s)", label, self.competition.scorer.name, told, seconds)
        del done
        release_memory()

    def _as_tried(self, member: Member) -> Member:
        """The member in the precision that its encoder's code survives; its inputs stay its own."""
        precision = self.precisions.get(member.name, member.train.precision)
        train = member.train.model_copy(update={"precision": precision})
        return member.model_copy(update={"train": train})

    def _card(self, member: Member, fold: int) -> dict[str, Any]:
        precision = self._as_tried(member).train.precision
        fell_back = precision != member.train.precision
        return {
            "inputs": self.inputs(member),
            "tokens": self._tokens(member, fold),
            "seed": fold_seed(member, fold),
            "metric": self.competition.scorer.name,
            "positive": self.competition.positive and self.competition.positive._asdict(),
            "device": choose_device().type,
            "precision": resolve_precision(precision, choose_device()),
            **({FP32_ONLY: True} if fell_back else {}),
            "config": self.config.model_dump(),
            **provenance(),
        }

    def _tokens(self, member: Member, fold: int) -> dict[str, Any]:
        """What the fold's own rows were as tokens, for `infer.py --verify-oof` to compare."""
        encoded = self.materials.encode(member, self.located[member.name])
        return digest(encoded, np.flatnonzero(self.competition.fold_N == fold))

    def fresh(self, member: Member, fold: int) -> Fit:
        """A training as it begins, to try what it takes; nothing is kept of it."""
        return self._fine_tuned.begin(self._as_tried(member), fold, self.located[member.name])[1]

    def oof_score(self, member: Member) -> str:
        """The score over all rows, as it is shown; "" until all folds are finished."""
        competition, folds = self.competition, range(self.competition.n_folds)
        try:
            if any(self.store.fold_card(member.name, fold) is None for fold in folds):
                return ""
        except DamagedError:  # not of these folds, or the command would have refused them
            return ""
        oof = pd.concat([self.store.read_oof(member.name, fold) for fold in folds])
        pred_NK = from_table(oof, self.ids, competition.task.outputs)
        return shown(score(competition, np.arange(len(pred_NK)), pred_NK))


def _settings(member: Member) -> dict[str, Any]:
    """The member's settings that its weights depend on."""
    if not member.head.frozen:
        recompute = {"gradient_checkpointing", "attention"}
        return member.model_dump(exclude={"name": True, "backbone": True, "train": recompute})
    settings = member.model_dump(exclude={"name", "backbone", "seed"})
    settings["head"] = member.head.model_dump(include={"kind", "C"})
    settings["train"] = member.train.model_dump(include={"precision", "class_weights"})
    return settings
