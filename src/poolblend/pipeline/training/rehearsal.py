"""Try all that a training will do, on two rows, before the first epoch.

A forward pass, a training step, saving, loading again: the same tokens and the same predictions.
All in the precision that the training will compute in; where an encoder's own code does not survive
a half precision that nobody asked for, it is trained in fp32. Nothing is left in the store, and no
random number of a training depends on it.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from poolblend.competition.tasks import Task
from poolblend.competition.templates import text_columns
from poolblend.config import Config, Member
from poolblend.config.training import Head, Train
from poolblend.errors import Stopped, UserError
from poolblend.modeling.model import TextModel
from poolblend.modeling.sources import Located
from poolblend.pipeline.competition import describe_task
from poolblend.pipeline.inference.foldmodels import FoldModels
from poolblend.pipeline.making import fit_options, new_model, new_objective, recipes
from poolblend.pipeline.memory import enough_memory, release_memory
from poolblend.pipeline.texts import Texts
from poolblend.pipeline.training.material import encode_for
from poolblend.store import Store, UnwritableError
from poolblend.store.foldfiles import FoldFiles
from poolblend.store.predictions import to_table
from poolblend.training.batches import Encoded
from poolblend.training.devices import Precision, choose_device, resolve_precision
from poolblend.training.fit import DivergedError, Fit
from poolblend.training.objectives import Objective
from poolblend.training.prediction import predict

log = logging.getLogger(__name__)

TEXTS = ("", "A text, to see whether the encoder reads it.")
ROWS = np.arange(len(TEXTS))
# Of predictions by the loaded model, from those of the model that was saved: as a share of their
# size, or of 1. The same model differs by nothing, or by the rounding of another kernel.
TOLERANCE = 0.01
OUT_OF_MEMORY = "two short rows are too many: take a smaller backbone, or free memory"

_passed: dict[str, Precision] = {}  # in this process


class Rehearsed(NamedTuple):
    """By their names: the precision that members compute in, and why others cannot be trained."""

    precisions: dict[str, Precision]
    unable: dict[str, str]


class TrialError(UserError):
    """A part of a training that fails on two rows, in a library's own words."""


def rehearse_all(
    config: Config,
    task: Task,
    members: Sequence[Member],
    located: dict[str, Located],
    check: Callable[[], None] = lambda: None,
) -> Rehearsed:
    """Rehearse each distinct kind of member once; `check` is called between two of them."""
    rehearsed = Rehearsed({}, {})
    for member in members:
        check()
        try:
            precision = rehearse(config, task, member, located[member.name])
        except UserError as error:
            rehearsed.unable[member.name] = str(error)
        else:
            rehearsed.precisions[member.name] = precision
    return rehearsed


def rehearse(config: Config, task: Task, member: Member, located: Located) -> Precision:
    """The precision that the member is to compute in: its own, or fp32 for `auto`.

    Raises UserError where it cannot be trained, saved or loaded.
    """
    key = _kind(config, task, member, located)
    if key in _passed:
        return _passed[key]

    def attempt(precision: Precision) -> None:
        train = recipes(member).model_copy(update={"precision": precision})
        head = Head() if member.head.frozen else member.head
        _try(config, task, member.model_copy(update={"train": train, "head": head}), located)

    try:
        _passed[key] = survived(member.name, member.train.precision, attempt)
    finally:
        release_memory()
    return _passed[key]


def survived(what: str, wanted: Precision, attempt: Callable[[Precision], None]) -> Precision:
    """The precision in which the attempt succeeds: the one that is wanted, or fp32 for `auto`.

    Raises what the attempt does in fp32; UserError where it fails in the one that was asked for.
    """
    resolved = resolve_precision(wanted, choose_device())
    try:
        attempt(wanted)
    except (TrialError, DivergedError) as error:
        if resolved == "fp32":
            raise
        reason = str(error)
    else:
        return wanted
    attempt("fp32")
    if wanted != "auto":
        raise UserError(
            f"train.precision is {wanted}, in which {reason}; in fp32 it works: set "
            "train.precision to fp32, or to auto"
        )
    log.warning("%s computes in fp32: in %s %s", what, resolved, reason)
    return "fp32"


def _kind(config: Config, task: Task, member: Member, located: Located) -> str:
    """All that a rehearsal depends on; members of one kind are rehearsed once in a process."""
    settings = member.model_dump(exclude={"name": True, "backbone": True, "seed": True})
    data = config.data
    reading = [data.text, data.join, data.special_tokens, config.remote_code, config.batch_tokens]
    hashes = [located.weights_sha256, located.files_sha256, str(located.folder)]
    device = [choose_device().type, torch.get_num_threads()]
    kind = [settings, reading, hashes, task.kind, len(task.outputs), device]
    return json.dumps(kind, sort_keys=True, default=str)


class _Rows(Texts):
    """Two rows, of which the log says nothing."""

    def _log(self, encoded: Encoded) -> None:
        pass


def _texts(config: Config) -> _Rows:
    columns = dict.fromkeys(text_columns(config.data.text), TEXTS)
    return _Rows(pd.DataFrame(columns), "rehearsal", config.remote_code)


def _try(config: Config, task: Task, member: Member, located: Located) -> None:
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
        raise TrialError(f"the saved model of {name} predicts otherwise once loaded: by {apart:.2g}")
