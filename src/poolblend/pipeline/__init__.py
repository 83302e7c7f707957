"""Which jobs a command stands for, in which order, and where they run.

The functions below are what the scripts and the notebook call. They import what they need when they
are called, so that `--help` and a wrong flag answer at once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from poolblend.pipeline.command import parse, parser, run

if TYPE_CHECKING:
    from pathlib import Path

    from poolblend.config import Config
    from poolblend.report.result import BlendResult

__all__ = [
    "blend",
    "check",
    "doctor",
    "dry_run",
    "infer",
    "list_all",
    "parse",
    "parser",
    "run",
    "train",
    "verify_oof",
    "write_pseudo_labels",
    "write_report",
    "write_vectors",
]


def train(
    config: Config,
    *,
    poolers: str = "all",
    folds: str = "all",
    overwrite: bool = False,
    skip_failed: bool = False,
    time_limit: float | None = None,
) -> None:
    """Train what is missing among the fold models of these poolers and folds.

    `skip_failed` leaves out folds that failed before; `time_limit` is in seconds from now, by which
    it will have stopped.
    """
    end = None if time_limit is None else time.monotonic() + time_limit  # imports count, too
    from poolblend.pipeline import training as queue

    queue.train(
        config,
        poolers=poolers,
        folds=folds,
        overwrite=overwrite,
        skip_failed=skip_failed,
        end=end,
    )


def dry_run(
    config: Config,
    *,
    poolers: str = "all",
    folds: str = "all",
    overwrite: bool = False,
    skip_failed: bool = False,
) -> None:
    """Print what `train` would do with these arguments, and in about what time; write nothing."""
    from poolblend.pipeline import dryrun

    dryrun.dry_run(
        config, poolers=poolers, folds=folds, overwrite=overwrite, skip_failed=skip_failed
    )


def list_all(config: Config) -> None:
    """Print what a config can name, and how far the members of this one are."""
    from poolblend.report import listing

    listing.list_all(config)


def check(config: Config) -> None:
    """Read every artefact of the run, and say which are damaged, stale or unfinished."""
    from poolblend.doctor import artefacts as checking

    checking.check(config)


def doctor(config: Config) -> None:
    """Try what a run of this config will need on this machine, and say what would fail."""
    from poolblend import doctor as diagnosis

    diagnosis.doctor(config)


def blend(
    config: Config, *, members: Sequence[str] | None = None, members_from: str | None = None
) -> BlendResult:
    """Fit and honestly score blend weights over the members' OOF predictions; write the card.

    `members_from` is a folder of OOF files that other tools wrote, one per member.
    """
    from pathlib import Path

    from poolblend.pipeline import blending as blending

    folder = Path(members_from).expanduser() if members_from else None
    return blending.blend(config, members=members, members_from=folder)


def write_report(
    config_path: str | None = None,
    sets: Sequence[str] = (),
    *,
    members: Sequence[str] | None = None,
    members_from: str | None = None,
) -> str:
    """Blend as `blend` does, in the notebook, and keep that as one HTML file beside the card.

    Takes what a config is loaded from, as a notebook does; returns what blend.py prints.
    """
    from poolblend.report import notebook

    return notebook.write_report(config_path, sets, members=members, members_from=members_from)


def infer(config: Config, *, members_from: str | None = None) -> Path:
    """Run the fold models that the blend gives weight to, and write the submission.

    `members_from` is where the folder given to `blend` lies now, if it has moved since.
    """
    from pathlib import Path

    from poolblend.pipeline import inference as submission

    return submission.infer(config, Path(members_from).expanduser() if members_from else None)


def verify_oof(config: Config) -> None:
    """Run the blend's fold models on their own validation rows, and compare with the stored OOF."""
    from poolblend.pipeline import fold_models

    fold_models.verify_oof(config)


def write_vectors(config: Config) -> None:
    """Keep the vectors that each fold model pools of the test rows, and of the train rows."""
    from poolblend.pipeline import fold_models

    fold_models.write_vectors(config)


def write_pseudo_labels(config: Config, name: str) -> None:
    """Keep the blend's test predictions as labels to train on, for each fold by its own models."""
    from poolblend.pipeline import pseudo

    pseudo.write_pseudo_labels(config, name)
