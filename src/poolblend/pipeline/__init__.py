"""What each command does, in order: the functions that the commands and the notebook call.

A function's module is imported when the function is used, so that `--help` and the error for a
wrong flag appear at once.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from poolblend.config import Config, Workers
    from poolblend.doctor import doctor
    from poolblend.doctor.artefacts import check
    from poolblend.pipeline.blending import blend
    from poolblend.pipeline.bundling import bundle
    from poolblend.pipeline.drafting import new
    from poolblend.pipeline.dryrun import dry_run
    from poolblend.pipeline.fold_models import verify_oof, write_vectors
    from poolblend.pipeline.frames import leaderboard, oof
    from poolblend.pipeline.inference import estimate, predict, write_submission
    from poolblend.pipeline.overview import board
    from poolblend.pipeline.pseudo import write_pseudo_labels
    from poolblend.pipeline.submitting import submit
    from poolblend.report.listing import list_all
    from poolblend.report.notebook import write_report

__all__ = [
    "blend",
    "board",
    "bundle",
    "check",
    "doctor",
    "dry_run",
    "estimate",
    "infer",
    "leaderboard",
    "list_all",
    "new",
    "oof",
    "predict",
    "screen",
    "submit",
    "train",
    "verify_oof",
    "write_pseudo_labels",
    "write_report",
    "write_submission",
    "write_vectors",
]

_MODULES = {
    "blend": "pipeline.blending",
    "board": "pipeline.overview",
    "bundle": "pipeline.bundling",
    "check": "doctor.artefacts",
    "doctor": "doctor",
    "dry_run": "pipeline.dryrun",
    "estimate": "pipeline.inference",
    "leaderboard": "pipeline.frames",
    "list_all": "report.listing",
    "new": "pipeline.drafting",
    "oof": "pipeline.frames",
    "predict": "pipeline.inference",
    "submit": "pipeline.submitting",
    "verify_oof": "pipeline.fold_models",
    "write_pseudo_labels": "pipeline.pseudo",
    "write_report": "report.notebook",
    "write_submission": "pipeline.inference",
    "write_vectors": "pipeline.fold_models",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"poolblend.{_MODULES[name]}"), name)


def train(
    config: Config,
    *,
    poolers: str = "all",
    folds: str = "all",
    overwrite: bool = False,
    skip_failed: bool = False,
    standalone: bool = False,
    time_limit: float | None = None,
    workers: Workers = 1,
) -> None:
    """Train the missing fold models of these poolers and folds, as `training.train` says.

    It stops within `time_limit` seconds from now.
    """
    end = None if time_limit is None else time.monotonic() + time_limit  # imports count, too
    from poolblend.pipeline import training

    training.train(
        config,
        poolers=poolers,
        folds=folds,
        overwrite=overwrite,
        skip_failed=skip_failed,
        standalone=standalone,
        end=end,
        workers=workers,
    )


def screen(
    config: Config,
    *,
    fold: str = "all",
    time_limit: float | None = None,
    workers: Workers = 1,
) -> None:
    """Compare all poolers on one fold, as `screening.screen` says; "all" means fold 0."""
    end = None if time_limit is None else time.monotonic() + time_limit
    from poolblend.pipeline import screening

    fold = "0" if fold == "all" else fold
    screening.screen(config, fold=fold, end=end, workers=workers)


def infer(
    config: Config,
    *,
    members_from: str | None = None,
    workers: Workers = 1,
    out: str | Path | None = None,
    time_limit: float | None = None,
    refit: bool = False,
) -> Path:
    """Predict the test rows and write the submission, as `inference.infer` says.

    It stops within `time_limit` seconds from now.
    """
    end = None if time_limit is None else time.monotonic() + time_limit
    from poolblend.pipeline import inference

    return inference.infer(
        config, members_from=members_from, workers=workers, out=out, end=end, refit=refit
    )
