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
from poolblend.config.training import Train
from poolblend.errors import Stopped, UserError
from poolblend.modeling import backbone
from poolblend.modeling.masked_lm import load_masked_lm, trained_parts
from poolblend.modeling.model import TextModel
from poolblend.modeling.sources import Located
from poolblend.pipeline.competition import describe_task
from poolblend.pipeline.inference.foldmodels import FoldModels
from poolblend.pipeline.making import fit_options, new_model, new_objective
from poolblend.pipeline.memory import enough_memory
from poolblend.pipeline.texts import Texts
from poolblend.pipeline.training.material import encode_for
from poolblend.store import Store, UnwritableError
from poolblend.store.foldfiles import FoldFiles
from poolblend.store.predictions import to_table
from poolblend.training.batches import Encoded
from poolblend.training.fit import DivergedError, Fit
from poolblend.training.masked import OWN_LOSS
from poolblend.training.objectives import Objective
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


def try_training(config: Config, task: Task, member: Member, located: Located, save: bool) -> None:
    """A forward pass, a step, saving and loading; TrialError names what fails, and how."""
    objective = new_objective(task, member.train.loss)
    encoded = encode_for(_texts(config), config, member, located)
    with _own_chance(), enough_memory(OUT_OF_MEMORY):
        base, model, _ = new_model(
            member,
            located,
            n_logits=objective.n_logits,
            n_columns=0,
            remote_code=config.remote_code,
        )
        model.pooler.fit(encoded.ids)
        targets = objective.targets(_two_labels(task))
        fit = Fit(model, encoded, ROWS, targets, objective, _options(member.train))
        with _named(f"a forward pass of {member.name} fails"):
            pred_NK = _predictions(fit.model, encoded, fit.objective, config, member)
        if not np.isfinite(pred_NK).all():
            bad = pred_NK[~np.isfinite(pred_NK)][0]
            raise DivergedError(f"a forward pass of {member.name} gives {bad}, not a number")
        with _named(f"a training step of {member.name} fails"):
            fit.try_step()
        model = fit.finish()
        if not save:
            return
        pred_NK = _predictions(model, encoded, fit.objective, config, member)
        with TemporaryDirectory(prefix="poolblend-") as folder:
            kept = Store(Path(folder), "rehearsal")
            if _save(kept, config, task, member, located, model, base.parts, pred_NK, fit):
                _compare(kept, config, member, located, encoded, pred_NK)


@contextmanager
def _own_chance() -> Iterator[None]:
    """Random numbers as from a seed, and after that as they would have been."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        yield


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Whatever a library raises, as one line of ours; our own errors as they are."""
    try:
        yield
    except (UserError, Stopped, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise TrialError(f"{what} ({reason})") from error


def _two_labels(task: Task) -> np.ndarray:
    """Encoded labels of two rows that differ in each."""
    if task.kind in ("regression", "multilabel"):
        kind = np.float64 if task.kind == "regression" else np.int64
        return np.repeat(np.array([[0], [1]], dtype=kind), len(task.outputs), axis=1)
    return np.array([0, 1])


def _options(train: Train) -> Any:
    """The recipes of `train`, such that one step of two rows meets all of them."""
    update = {"epochs": 1, "batch_size": 2, "accumulation": 1, "adversarial_start": 0.0}
    swa_epochs = min(train.swa_epochs, 1)
    return fit_options(train.model_copy(update=update | {"swa_epochs": swa_epochs}), seed=0)


def _predictions(
    model: TextModel, encoded: Encoded, objective: Objective, config: Config, member: Member
) -> np.ndarray:
    return predict(
        model,
        encoded,
        ROWS,
        objective,
        batch_tokens=config.batch_tokens,
        precision=member.train.precision,
    )


def _save(
    kept: Store,
    config: Config,
    task: Task,
    member: Member,
    located: Located,
    model: TextModel,
    parts: Sequence[Any],
    pred_NK: np.ndarray,
    fit: Fit,
) -> bool:
    """Save the model as a fold's; False where the temporary folder has no room for it."""
    data = config.data
    inputs = {
        "settings": member.model_dump(exclude={"name": True, "backbone": True}),
        "task": describe_task(task),
        "backbone_files_sha256": located.files_sha256,
        "text": data.text,
        "special_tokens": data.special_tokens,
        "join": data.join,
    }
    name = member.name
    files = FoldFiles(name, 0, kept.fold_folder(name, 0), kept.oof_path(name, 0))
    try:
        with _named(f"the model of {name} cannot be saved"):
            files.save(
                tensors=model.state_dict(),
                parts=parts,
                oof=to_table(map(str, ROWS), np.nan_to_num(pred_NK), task.outputs, 0),
                card={"inputs": inputs, "columns": None, "unit": fit.objective.told_unit},
            )
    except UnwritableError as error:
        log.warning("saving %s was not tried: %s", name, error)
        return False
    return True


def _compare(
    kept: Store,
    config: Config,
    member: Member,
    located: Located,
    encoded: Encoded,
    pred_NK: np.ndarray,
) -> None:
    """Raise TrialError unless the saved model reads and predicts what the trained one did."""
    texts, name = _texts(config), member.name
    models = FoldModels(kept, texts, config.batch_tokens, remote_code=config.remote_code)
    with _named(f"the saved model of {name} cannot be loaded"):
        again_NK = models.predict(name, 0, ROWS)
        saved = located._replace(folder=kept.fold_folder(name, 0))
        ids = encode_for(texts, config, member, saved).ids
    for text, own, read in zip(TEXTS, encoded.ids, ids, strict=True):
        if not np.array_equal(own, read):
            raise TrialError(
                f"the saved tokenizer of {name} reads {text!r} as {len(read)} other tokens than "
                f"the backbone's own, which gives {len(own)}"
            )
    if not np.allclose(again_NK, pred_NK, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
        apart = np.abs(again_NK - pred_NK).max()
        raise TrialError(
            f"the saved model of {name} predicts otherwise once loaded: by {apart:.2g}"
        )


def try_pretraining(config: Config, settings: Backbone, source: Located, options: Any) -> None:
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
        fit = Fit(trained, encoded, ROWS, OWN_LOSS.targets(ROWS), OWN_LOSS, options)
        with _named(f"a training step of {what} fails"):
            fit.try_step()
        fit.finish()
        with TemporaryDirectory(prefix="poolblend-") as folder:
            with _named(f"{what} cannot be saved and loaded again"):
                for part in trained_parts(base, model):
                    part.save_pretrained(folder)
            backbone.load(Path(folder), remote_code=config.remote_code)
