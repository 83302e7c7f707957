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
    from poolblend.pipeline.blending import Blend

__all__ = [
    "blend",
    "check",
    "doctor",
    "infer",
    "parse",
    "parser",
    "run",
    "train",
    "verify_oof",
    "write_report",
]


def train(
    config: Config,
    *,
    poolers: str = "all",
    folds: str = "all",
    overwrite: bool = False,
    time_limit: float | None = None,
) -> None:
    """Train what is missing among the fold models of these poolers and folds.

    `time_limit` is in seconds from now, by which it will have stopped.
    """
    end = None if time_limit is None else time.monotonic() + time_limit  # imports count, too
    from poolblend.pipeline import training

    training.train(config, poolers=poolers, folds=folds, overwrite=overwrite, end=end)


def check(config: Config) -> None:
    """Read every artefact of the run, and say which are damaged, stale or unfinished."""
    from poolblend.pipeline import checking

    checking.check(config)


def doctor(config: Config) -> None:
    """Try what a run of this config will need on this machine, and say what would fail."""
    from poolblend.pipeline import diagnosis

    diagnosis.doctor(config)


def blend(
    config: Config, *, members: Sequence[str] | None = None, members_from: str | None = None
) -> Blend:
    """Fit and honestly score blend weights over the members' OOF predictions; write the card.

    `members_from` is a folder of OOF files that other tools wrote, one per member.
    """
    from pathlib import Path

    from poolblend.pipeline import blending

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
    from poolblend.pipeline import notebook

    return notebook.write_report(config_path, sets, members=members, members_from=members_from)


def infer(config: Config) -> Path:
    """Run the fold models that the blend gives weight to, and write the submission."""
    from poolblend.pipeline import inference

    return inference.infer(config)


def verify_oof(config: Config) -> None:
    """Run the blend's fold models on their own validation rows, and compare with the stored OOF."""
    from poolblend.pipeline import inference

    inference.verify_oof(config)
