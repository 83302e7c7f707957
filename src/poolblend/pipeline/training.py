"""`train.py`: one fold model per member and fold, its card and its OOF predictions.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from poolblend.competition.metrics import UndefinedScoreError
from poolblend.config import Config, Member, derive_seed
from poolblend.errors import UserError, unknown
from poolblend.modeling import backbone
from poolblend.modeling.model import TextModel, build_model
from poolblend.modeling.poolers import build_pooler
from poolblend.pipeline.competition import (
    Competition,
    describe_task,
    load_competition,
    open_store,
)
from poolblend.pipeline.foldmodels import release_memory
from poolblend.pipeline.provenance import provenance
from poolblend.pipeline.texts import Texts
from poolblend.registry import declared
from poolblend.store import Store
from poolblend.store.predictions import from_table, to_table
from poolblend.training.batches import Encoded
from poolblend.training.fit import choose_device, fit, predict, resolve_precision
from poolblend.training.objectives import choose_objective

log = logging.getLogger(__name__)


def train(config: Config, *, poolers: str, folds: str, overwrite: bool) -> None:
    """Train, in the members' order, every fold that is not finished; refuse stale ones first.

    `poolers` and `folds` are comma lists or "all". A fold whose inputs changed is trained again
    only with `overwrite`. Raises UserError before the first training step for whatever can be known
    by then.
    """
    members = config.resolve_members(_named_poolers(poolers))
    numbers = _fold_numbers(folds, config.folds.n)
    store = open_store(config)
    competition = load_competition(config, store, make_folds=True)
    trainer = Trainer(config, competition, store)
    trainer.check(members)
    jobs = [(member, fold) for member in members for fold in numbers]
    todo = trainer.unfinished(jobs, overwrite)
    if len(todo) < len(jobs):
        log.info("%d of %d folds are finished already", len(jobs) - len(todo), len(jobs))
    for number, (member, fold) in enumerate(todo, start=1):
        trainer.train(member, fold, f"[{number}/{len(todo)}]")
    for member in members:
        trainer.summarise(member)


def _named_poolers(poolers: str) -> list[str] | None:
    if poolers == "all":
        return None
    names = [name.strip() for name in poolers.split(",")]
    known = declared("pooler")
    for name in names:
        if name not in known:
            raise unknown("pooler", name, known)
    return list(dict.fromkeys(names))


def _fold_numbers(folds: str, n: int) -> list[int]:
    if folds == "all":
        return list(range(n))
    try:
        numbers = [int(part) for part in folds.split(",")]
    except ValueError:
        raise UserError(f"--fold {folds}: expected a number, a comma list, or all") from None
    for number in numbers:
        if not 0 <= number < n:
            raise UserError(f"--fold {number}: out of range; the folds are 0 to {n - 1}")
    return list(dict.fromkeys(numbers))


class Trainer:
    """Trains folds of one competition; tokenises and hashes once what several folds share."""

    def __init__(self, config: Config, competition: Competition, store: Store) -> None:
        self.config, self.competition, self.store = config, competition, store
        self.ids = competition.tables.train[config.data.id]
        self.texts = Texts(competition.tables.train, config.data.text, "train")
        self._located: dict[str, tuple[Path, str]] = {}

    def check(self, members: list[Member]) -> None:
        """Raise UserError for a backbone, pooler argument or loss that cannot work."""
        for member in members:
            shape = backbone.read_shape(self._locate(member)[0])
            try:
                build_pooler(member.pooler, shape, member.pooler_args)
                choose_objective(self.competition.task.kind, member.train.loss)
            except UserError as error:
                raise UserError(f"member {member.name}: {error}") from None

    def unfinished(
        self, jobs: list[tuple[Member, int]], overwrite: bool
    ) -> list[tuple[Member, int]]:
        """The jobs still to do: never finished, or finished from other inputs and replaced now."""
        todo = []
        for member, fold in jobs:
            card = self.store.fold_card(member.name, fold)
            changes = changed(card["inputs"], self.inputs(member)) if card else []
            if changes and not overwrite:
                raise UserError(
                    f"{member.name} fold {fold} is stale: {'; '.join(changes)}. "
                    "Train it again with --overwrite, or give the member a `tag` to keep both"
                )
            if changes:
                log.info("%s fold %d is trained again: %s", member.name, fold, "; ".join(changes))
            if card is None or changes:
                todo.append((member, fold))
        return todo

    def inputs(self, member: Member) -> dict[str, Any]:
        """All that a fold model's weights depend on, besides library versions and the machine."""
        data = {key: self.competition.data[key] for key in ("train_sha256", "folds_sha256")}
        task = self.competition.task
        return {
            **data,
            "task": describe_task(task),
            "text": self.config.data.text,
            "backbone_sha256": self._locate(member)[1],
            "settings": member.model_dump(exclude={"name": True, "backbone": {"sha256"}}),
        }

    def train(self, member: Member, fold: int, place: str) -> None:
        """Train one fold model, predict its own rows, and put both into the store."""
        started = time.perf_counter()
        competition, settings = self.competition, member.train
        held_out = competition.fold_N == fold
        rows, valid = np.flatnonzero(~held_out), np.flatnonzero(held_out)
        encoded = self._encode(member)
        objective = choose_objective(competition.task.kind, settings.loss)
        seed = derive_seed(member.seed, "fold", fold)
        torch.manual_seed(seed)
        base, model = self._build(member, [encoded.ids[row] for row in rows])
        epochs = []
        options = settings.model_dump(exclude={"loss"})
        label = f"{place} {member.name} fold {fold}"
        for epoch in fit(
            model, encoded, rows, competition.y, objective, seed=seed, progress=label, **options
        ):
            pred_NK = predict(
                model,
                encoded,
                valid,
                objective,
                batch_tokens=self.config.batch_tokens,
                precision=settings.precision,
            )
            score = self._score(valid, pred_NK)
            epochs.append(asdict(epoch) | {"score": score})
        seconds = time.perf_counter() - started
        card = {
            "member": member.name,
            "fold": fold,
            "inputs": self.inputs(member),
            "seed": seed,
            "metric": competition.scorer.name,
            "score": score,
            "epochs": epochs,
            "rows": {"train": len(rows), "valid": len(valid)},
            "device": choose_device().type,
            "precision": resolve_precision(settings.precision, choose_device()),
            "seconds": round(seconds, 1),
            "config": self.config.model_dump(),
            **provenance(),
        }
        self.store.save_fold(
            member.name,
            fold,
            tensors=model.state_dict(),
            parts=(base.encoder.config, base.tokenizer),
            oof=to_table(self.ids.iloc[valid], pred_NK, competition.task.outputs, fold),
            card=card,
        )
        shown = "undefined" if score is None else f"{score:.4f}"
        log.info("%s: %s %s (%.0f s)", label, competition.scorer.name, shown, seconds)
        del model, base
        release_memory()

    def summarise(self, member: Member) -> None:
        """Log the member's OOF score once all its folds are finished."""
        competition, folds = self.competition, range(self.competition.n_folds)
        if any(self.store.fold_card(member.name, fold) is None for fold in folds):
            return
        oof = pd.concat([self.store.read_oof(member.name, fold) for fold in folds])
        pred_NK = from_table(oof, self.ids, competition.task.outputs)
        score = competition.scorer.score(competition.y, pred_NK)
        log.info("%s: OOF %s %.4f", member.name, competition.scorer.name, score)

    def _locate(self, member: Member) -> tuple[Path, str]:
        source = member.backbone.source
        if source not in self._located:
            path = self.config.path(source)
            self._located[source] = backbone.locate(
                str(path) if path.is_dir() else source, member.backbone.sha256
            )
        return self._located[source]

    def _encode(self, member: Member) -> Encoded:
        return self.texts.encode(self._locate(member)[0], member.backbone.source, member.max_length)

    def _build(self, member: Member, ids: list[np.ndarray]) -> tuple[backbone.Backbone, TextModel]:
        base = backbone.load(self._locate(member)[0], max_length=member.max_length)
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
        """The fold's score; None where the metric is undefined on it, which costs no fold model."""
        try:
            return self.competition.scorer.score(self.competition.y[valid], pred_NK)
        except UndefinedScoreError as error:
            log.warning("%s is undefined on this fold: %s", self.competition.scorer.name, error)
            return None


def changed(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two nested mappings, as `key was a, is b`."""
    changes = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            changes += changed(a, b, f"{prefix}{key}.")
        elif a != b:
            name = f"{prefix}{key}".removeprefix("settings.")
            if key.endswith("_sha256"):
                changes.append(f"{key.removesuffix('_sha256')} has changed")
            else:
                changes.append(f"{name} was {a}, is {b}")
    return changes
