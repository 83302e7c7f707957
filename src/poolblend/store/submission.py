"""The submission: submission.csv beside its card, and a dated copy of both."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolblend.store.cards import write_raw
from poolblend.store.files import described, no_half_files, write_csv
from poolblend.store.locks import ProcessLock

if TYPE_CHECKING:
    import pandas as pd


def write_submission(
    path: Path, submission: pd.DataFrame, card: Mapping[str, Any], now: datetime
) -> None:
    """Write the submission with its card to `path`, and a dated copy of both beside it."""
    dated = path.with_name(f"submission-{now:%Y%m%d-%H%M%S}.csv")
    with ProcessLock(path.with_name(".submission.lock")):
        for left in path.parent.glob("submission*.json"):
            if not left.with_suffix(".csv").exists():
                left.unlink(missing_ok=True)  # of a process that was killed between the two
        for file in (dated, path):
            with no_half_files(file) as new:
                write_csv(new, submission)
                with no_half_files(file.with_suffix(".json")) as new_card:
                    write_raw(new_card, {**card, "submission": described(new)})
                    # Both are on the disk; what follows are renames. At no moment does a
                    # submission lie beside a card that is not its own.
                    file.unlink(missing_ok=True)
