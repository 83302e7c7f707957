"""One training on two rows: a forward pass, a step, saving, loading again.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from poolblend.cards.fold import BackboneHashes, FoldCard, FoldFileHashes, RowCounts, TokenCount
from poolblend.cards.provenance import Provenance
from poolblend.competition.tasks import Task
from poolblend.competition.templates import text_columns
from poolblend.config import Config
from poolblend.errors import Stopped, UserError
from poolblend.jobs.foldmodels import FoldModels
from poolblend.jobs.job import BackboneJob, FoldJob
from poolblend.jobs.pretrain import mlm_options
from poolblend.loading.models import new_model, new_objective
from poolblend.loading.texts import Texts, text_spec
from poolblend.modeling import backbone
from poolblend.modeling.masked_lm import load_masked_lm, trained_parts
from poolblend.modeling.model import TextModel
from poolblend.modeling.options import Head
from poolblend.modeling.sources import Located
from poolblend.store import Store, UnwritableError
from poolblend.store.predictions import to_table
from poolblend.training.batches import Encoded
from poolblend.training.devices import (
    Precision,
    choose_device,
    enough_memory,
    resolve_precision,
)
from poolblend.training.fit import DivergedError, Fit
from poolblend.training.masked import OWN_LOSS
from poolblend.training.objectives import Objective
from poolblend.training.options import Train
from poolblend.training.prediction import predict

log = logging.getLogger(__name__)

TEXTS = ("", "A text, to see whether the encoder reads it.")
ROWS = np.arange(len(TEXTS))
# Between predictions before saving and after loading: as a share of their size, or of 1. The same
# model differs by nothing, or by the rounding of another kernel.
TOLERANCE = 0.01
OUT_OF_MEMORY = "two short rows are too many: take a smaller backbone, or free memory"


class TrialError(UserError):
    """A part of a training that fails on two rows, in a library's own words."""


def try_fold(job: FoldJob, task: Task, located: Located, precision: Precision, save: bool) -> None:
    """A forward pass and a step of the job's model; with `save`, also saving and loading again.

    Raises TrialError, which says what fails and how, or DivergedError.
    """
    member = job.encoder_member
    train = member.applied_train.model_copy(update={"precision": precision})
    frozen = member.head.frozen
    head = Head() if frozen else member.head
    member = member.model_copy(update={"train": train, "head": head})
    with own_random_numbers(), enough_memory(OUT_OF_MEMORY):
        trial = _FoldTrial(job.model_copy(update={"member": member}), task, located)
        trial.run(frozen=frozen, save=save)


class _FoldTrial:
    def __init__(self, job: FoldJob, task: Task, located: Located) -> None:
        self.job, self.task, self.located = job, task, located
        self.config, self.member = job.config, job.encoder_member
        self.objective = new_objective(task, self.member.train.loss)

    def run(self, *, frozen: bool, save: bool) -> None:
        name = self.member.name
        base, model, _ = new_model(
            self.member,
            self.located,
            n_logits=self.objective.n_logits,
            n_columns=0,
            remote_code=self.config.remote_code,
        )
        if frozen:
            model.freeze([model.encoder, model.pooler])
        self.encoded = self._encode(base.tokenizer)
        model.pooler.fit(self.encoded.ids)
        targets = self.objective.targets(_labels(self.task))
        fit = Fit(model, self.encoded, ROWS, targets, self.objective, self._options(), seed=0)
        with _named(f"a forward pass of {name} fails"):
            pred_NK = self._predict(fit.model, fit.objective)
        if not np.isfinite(pred_NK).all():
            bad = pred_NK[~np.isfinite(pred_NK)][0]
            raise DivergedError(f"a forward pass of {name} gives {bad}, not a number")
        with _named(f"a training step of {name} fails"):
            fit.try_step()
        model = fit.finish()
        if save:
            with _if_there_is_room(name), TemporaryDirectory(prefix="poolblend-") as folder:
                self._save_and_load(
                    Store(Path(folder), "trial", cache_gb=0), base, model, fit.objective
                )

    def _options(self) -> Train:
        """The member's options, such that two rows are one step."""
        update = {"epochs": 1, "batch_size": 2, "accumulation": 1}
        return self.member.train.model_copy(update=update)

    def _encode(self, tokenizer: Any) -> Encoded:
        spec = text_spec(self.config, self.member)
        return _two_texts(self.config).encode_with(tokenizer, spec)

    def _predict(self, model: TextModel, objective: Objective) -> np.ndarray:
        return predict(
            model,
            self.encoded,
            ROWS,
            objective,
            batch_tokens=self.config.batch_tokens,
            precision=self.member.train.precision,
        )

    def _save_and_load(
        self, store: Store, base: backbone.Backbone, model: TextModel, objective: Objective
    ) -> None:
        """Raise TrialError unless the saved model reads and predicts what the trained one does."""
        name, config = self.member.name, self.config
        pred_NK = self._predict(model, objective)
        files = store.fold(name, 0)
        with _named(f"the model of {name} cannot be saved"):
            files.save(
                tensors=model.stored(on_base=False),
                parts=base.parts,
                oof=to_table(map(str, ROWS), pred_NK, self.task.outputs, 0),
                make_card=lambda hashes: self._card(base, objective, hashes),
            )
        texts = _two_texts(config)
        models = FoldModels(store, texts, config.batch_tokens, remote_code=config.remote_code)
        with _named(f"the saved model of {name} cannot be loaded"):
            again_NK = models.predict(name, 0, ROWS)
            saved = backbone.load_tokenizer(files.folder, remote_code=config.remote_code)
            ids = self._encode(saved).ids
        for text, own, read in zip(TEXTS, self.encoded.ids, ids, strict=True):
            if not np.array_equal(own, read):
                raise TrialError(
                    f"the saved tokenizer of {name} reads {text!r} otherwise than the backbone's: "
                    f"{len(read)} tokens, not the same {len(own)}"
                )
        if not np.allclose(again_NK, pred_NK, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            apart = np.abs(again_NK - pred_NK).max()
            raise TrialError(
                f"the saved model of {name} predicts otherwise once loaded: by {apart:.2g}"
            )

    def _card(
        self, base: backbone.Backbone, objective: Objective, hashes: FoldFileHashes
    ) -> FoldCard:
        train = self.member.train
        return FoldCard(
            member=self.member,
            fold=0,
            inputs=self.job.inputs.model_copy(update={"swap": None}),
            backbone=BackboneHashes(weights_sha256="", files_sha256=""),
            seed=0,
            tokens=TokenCount(count=0, sha256=""),
            rows=RowCounts(train=len(ROWS), valid=len(ROWS)),
            metric="",
            score=None,
            device="",
            precision=resolve_precision(train.precision, choose_device()),
            fp32_only=train.precision == "fp32",
            target_scaler=objective.scaler_json,
            reads_padding=base.reads_padding,
            seconds=0,
            config={},
            provenance=Provenance.here(),
            files=hashes,
        )


def try_backbone(job: BackboneJob, source: Located, precision: Precision) -> None:
    """A step of learning to guess hidden tokens, saving, and loading again; TrialError likewise."""
    assert job.backbone.mlm is not None
    config, mlm, name = job.config, job.backbone.mlm, job.name
    spec = job.inputs.reading.model_copy(update={"windows": None})
    encoded = _two_texts(config).encode(source.folder, source.files_sha256, spec)
    options = mlm_options(mlm, config, precision)
    # A rate that is too high is the training's to find.
    options = options.model_copy(update={"epochs": 1, "lr": min(options.lr, 1e-5)})
    with own_random_numbers(), enough_memory(OUT_OF_MEMORY):
        base, model = load_masked_lm(source.folder, share=mlm.mask, remote_code=config.remote_code)
        trained: Any = model
        fit = Fit(
            trained, encoded, ROWS, OWN_LOSS.targets(ROWS), OWN_LOSS, options, job.inputs.seed
        )
        with _named(f"a training step of {name} fails"):
            fit.try_step()
        fit.finish()
        with _if_there_is_room(name), TemporaryDirectory(prefix="poolblend-") as folder:
            with _named(f"{name} cannot be saved"):
                for part in trained_parts(base, model):
                    part.save_pretrained(folder)
            backbone.load(Path(folder), remote_code=config.remote_code)


def _two_texts(config: Config) -> Texts:
    columns = dict.fromkeys(text_columns(config.data.text), TEXTS)
    return Texts(pd.DataFrame(columns), None, config.remote_code)


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Random numbers as from a seed, and after that as they would have been."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        yield


@contextmanager
def _if_there_is_room(what: str) -> Iterator[None]:
    """Where there is no temporary folder, or no room in it, saving is not tried."""
    try:
        yield
    except (OSError, UnwritableError) as error:
        log.warning("saving and loading %s was not tried: %s", what, error)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Whatever a library raises, as one line of ours; our own errors as they are."""
    try:
        yield
    except (UserError, Stopped, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise TrialError(f"{what} ({reason})") from error


def _labels(task: Task) -> np.ndarray:
    """Encoded labels of two rows that differ in each."""
    if task.kind in ("regression", "multilabel"):
        kind = np.float64 if task.kind == "regression" else np.int64
        return np.repeat(np.array([[0], [1]], dtype=kind), len(task.outputs), axis=1)
    return np.array([0, 1])
