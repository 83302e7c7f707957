"""One training on two rows: a forward pass, a step, saving, loading again.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from poolblend.competition.tasks import Task
from poolblend.competition.templates import text_columns
from poolblend.config import Config, Member
from poolblend.config.sections import Backbone
from poolblend.errors import Stopped, UserError
from poolblend.jobs.foldmodels import FoldModels
from poolblend.loading.competition import describe_task
from poolblend.loading.dataset import encode_for
from poolblend.loading.models import new_model, new_objective
from poolblend.loading.texts import Texts
from poolblend.modeling import backbone
from poolblend.modeling.masked_lm import load_masked_lm, trained_parts
from poolblend.modeling.model import TextModel
from poolblend.modeling.sources import Located
from poolblend.store import Store, UnwritableError
from poolblend.store.foldfiles import FoldFiles
from poolblend.store.predictions import to_table
from poolblend.training.batches import Encoded
from poolblend.training.fit import DivergedError, Fit
from poolblend.training.masked import OWN_LOSS
from poolblend.training.memory import enough_memory
from poolblend.training.objectives import Objective
from poolblend.training.options import Train
from poolblend.training.prediction import predict

log = logging.getLogger(__name__)

TEXTS = ("", "A text, to see whether the encoder reads it.")
ROWS = np.arange(len(TEXTS))
# Of predictions by the loaded model, from those of the model that was saved: as a share of their
# size, or of 1. The same model differs by nothing, or by the rounding of another kernel.
TOLERANCE = 0.01
OUT_OF_MEMORY = "two short rows are too many: take a smaller backbone, or free memory"


class TrialError(UserError):
    """A part of a training that fails on two rows, in a library's own words."""


class _Rows(Texts):
    """Two rows, of which the log says nothing."""

    def _log(self, encoded: Encoded) -> None:
        pass


def _texts(config: Config) -> _Rows:
    columns = dict.fromkeys(text_columns(config.data.text), TEXTS)
    return _Rows(pd.DataFrame(columns), "rehearsal", config.remote_code)


class Trial:
    """The training of a member on two rows; TrialError names what of it fails, and how."""

    def __init__(self, config: Config, task: Task, member: Member, located: Located) -> None:
        self.config, self.task, self.member, self.located = config, task, member, located
        self.objective = new_objective(task, member.train.loss)
        self.encoded = self._encode(_texts(config), located)

    def run(self, *, save: bool) -> None:
        """A forward pass and a step; with `save`, also saving and loading again."""
        name = self.member.name
        with _own_chance(), enough_memory(OUT_OF_MEMORY):
            base, model, _ = new_model(
                self.member,
                self.located,
                n_logits=self.objective.n_logits,
                n_columns=0,
                remote_code=self.config.remote_code,
            )
            model.pooler.fit(self.encoded.ids)
            targets, options = self.objective.targets(_labels(self.task)), _options(self.member)
            fit = Fit(model, self.encoded, ROWS, targets, self.objective, options, seed=0)
            with _named(f"a forward pass of {name} fails"):
                pred_NK = self._predict(fit.model, fit.objective)
            if not np.isfinite(pred_NK).all():
                bad = pred_NK[~np.isfinite(pred_NK)][0]
                raise DivergedError(f"a forward pass of {name} gives {bad}, not a number")
            with _named(f"a training step of {name} fails"):
                fit.try_step()
            model = fit.finish()
            if not save:
                return
            pred_NK = self._predict(model, fit.objective)
            with _if_there_is_room(name), TemporaryDirectory(prefix="poolblend-") as folder:
                store = Store(Path(folder), "rehearsal")
                self._save(store, model, base.parts, pred_NK, fit.objective)
                self._compare(store, pred_NK)

    def _encode(self, texts: Texts, located: Located) -> Encoded:
        return encode_for(texts, self.config, self.member, located)

    def _predict(self, model: TextModel, objective: Objective) -> np.ndarray:
        return predict(
            model,
            self.encoded,
            ROWS,
            objective,
            batch_tokens=self.config.batch_tokens,
            precision=self.member.train.precision,
        )

    def _save(
        self,
        store: Store,
        model: TextModel,
        parts: Sequence[Any],
        pred_NK: np.ndarray,
        objective: Objective,
    ) -> None:
        """Save the model as a fold's is."""
        data, name = self.config.data, self.member.name
        inputs = {
            "settings": self.member.model_dump(exclude={"name": True, "backbone": True}),
            "task": describe_task(self.task),
            "backbone_files_sha256": self.located.files_sha256,
            "text": data.text,
            "special_tokens": data.special_tokens,
            "join": data.join,
        }
        files = FoldFiles(name, 0, store.fold_folder(name, 0), store.oof_path(name, 0))
        with _named(f"the model of {name} cannot be saved"):
            files.save(
                tensors=model.state_dict(),
                parts=parts,
                oof=to_table(map(str, ROWS), pred_NK, self.task.outputs, 0),
                card={"inputs": inputs, "columns": None, "target_scaler": objective.scaler_json},
            )

    def _compare(self, store: Store, pred_NK: np.ndarray) -> None:
        """Raise TrialError unless the saved model reads and predicts what the trained one did."""
        config, name = self.config, self.member.name
        texts = _texts(config)
        models = FoldModels(store, texts, config.batch_tokens, remote_code=config.remote_code)
        with _named(f"the saved model of {name} cannot be loaded"):
            again_NK = models.predict(name, 0, ROWS)
            ids = self._encode(texts, self.located._replace(folder=store.fold_folder(name, 0))).ids
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


@contextmanager
def _own_chance() -> Iterator[None]:
    """Random numbers as from a seed, and after that as they would have been."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        yield


@contextmanager
def _if_there_is_room(what: str) -> Iterator[None]:
    """Where there is no temporary folder, or no room in it, saving is not tried, which is said."""
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


def _options(member: Member) -> Train:
    """The member's options, such that two rows are one step."""
    return member.train.model_copy(update={"epochs": 1, "batch_size": 2, "accumulation": 1})


def try_pretraining(
    config: Config, settings: Backbone, source: Located, options: Train, seed: int
) -> None:
    """A step of learning to guess hidden tokens, saving, and loading again; TrialError likewise."""
    assert settings.mlm is not None
    what, data = f"backbone {settings.name}", config.data
    encoded = _texts(config).encode(
        source.folder,
        source.files_sha256,
        settings.mlm.max_length,
        data.text,
        data.special_tokens,
        join=data.join,
    )
    with _own_chance(), enough_memory(OUT_OF_MEMORY):
        base, model = load_masked_lm(
            source.folder, share=settings.mlm.mask, remote_code=config.remote_code
        )
        trained: Any = model
        fit = Fit(trained, encoded, ROWS, OWN_LOSS.targets(ROWS), OWN_LOSS, options, seed)
        with _named(f"a training step of {what} fails"):
            fit.try_step()
        fit.finish()
        with _if_there_is_room(what), TemporaryDirectory(prefix="poolblend-") as folder:
            with _named(f"{what} cannot be saved"):
                for part in trained_parts(base, model):
                    part.save_pretrained(folder)
            backbone.load(Path(folder), remote_code=config.remote_code)
