"""The artefacts of a run: the only module that knows their names, and writes or reads them.

    input/<run>/folds.csv                          id, fold; made once, then only read
    models/<run>/<member>/fold0/                   model.safetensors, config, tokenizer, card.json
    oof/<run>/<member>/fold0.parquet               id, fold, pred_<output>… of the fold's own rows
    oof/<run>/<member>/test_fold0.parquet          id, pred_<output>… of the test table
    oof/<run>/blend.json                           the blend card
    oof/<run>/studies/<rows>.log                   Optuna's trials, to continue a search
    oof/<run>/figures/<name>.png, .svg             the blend's pictures
    oof/<run>/blend.html                           the notebook, executed, as one file
    submissions/<run>/submission.csv, .json        and a dated copy of both

Everything is written beside its place and renamed into it, so that a crash never leaves half a file
under a final name. A fold without a valid card is unfinished; its card, which holds the hashes of
the fold's files, comes into place last.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from poolblend.errors import UserError
from poolblend.store.files import (
    described,
    no_half_files,
    read_json,
    same_size,
    sha256,
    write_csv,
    write_json,
    write_parquet,
    write_text,
)

if TYPE_CHECKING:
    import pandas as pd
    import torch

WEIGHTS = "model.safetensors"
CARD = "card.json"
IN_A_CARD = ("inputs", "weights", "oof", "files")


class Pretrained(Protocol):
    """What writes itself into a model folder: a tokenizer, an encoder's configuration."""

    def save_pretrained(self, folder: str) -> Any: ...


class Store:
    """The artefacts of run `run` under the folder `root`."""

    def __init__(self, root: Path, run: str) -> None:
        self.root, self.run = root, run
        self.folds_path = root / "input" / run / "folds.csv"
        self.blend_path = root / "oof" / run / "blend.json"
        self.studies_folder = self.blend_path.with_name("studies")
        self.report_path = self.blend_path.with_suffix(".html")
        self.submission_path = root / "submissions" / run / "submission.csv"

    def fold_folder(self, member: str, fold: int) -> Path:
        return self.root / "models" / self.run / member / f"fold{fold}"

    def oof_path(self, member: str, fold: int) -> Path:
        return self.root / "oof" / self.run / member / f"fold{fold}.parquet"

    def test_path(self, member: str, fold: int) -> Path:
        return self.root / "oof" / self.run / member / f"test_fold{fold}.parquet"

    # --- folds -------------------------------------------------------------------------------

    def read_folds(self) -> pd.DataFrame | None:
        """Columns id (str) and fold (int), or None where they have not been made yet."""
        import pandas as pd

        if not self.folds_path.is_file():
            return None
        try:
            folds = pd.read_csv(self.folds_path, dtype=str, keep_default_na=False)
            return folds[["id", "fold"]].astype({"fold": "int64"})
        except (ValueError, KeyError, OverflowError) as error:
            reason = " ".join(str(error).split())
            raise UserError(
                f"{self.folds_path} is not a table of id, fold ({reason}); restore it, or move it "
                "and the models trained on it away to make new folds"
            ) from None

    def write_folds(self, folds: pd.DataFrame) -> None:
        write_csv(self.folds_path, folds)

    # --- fold models -------------------------------------------------------------------------

    def fold_card(self, member: str, fold: int) -> dict[str, Any] | None:
        """The card of a finished fold; None where it, or a file it vouches for, is missing."""
        folder = self.fold_folder(member, fold)
        card = read_json(folder / CARD)
        if card is None or not all(isinstance(card.get(key), dict) for key in IN_A_CARD):
            return None
        whole = same_size(folder / WEIGHTS, card["weights"])
        return card if whole and same_size(self.oof_path(member, fold), card["oof"]) else None

    def save_fold(
        self,
        member: str,
        fold: int,
        *,
        tensors: Mapping[str, torch.Tensor],
        parts: Sequence[Pretrained],
        oof: pd.DataFrame,
        card: Mapping[str, Any],
    ) -> None:
        """Write a finished fold: its OOF rows first, then the model folder, in one rename."""
        from safetensors.torch import save_file

        folder, oof_path = self.fold_folder(member, fold), self.oof_path(member, fold)
        with no_half_files(folder) as new_folder:
            new_folder.mkdir(parents=True)
            save_file(dict(tensors), new_folder / WEIGHTS)
            for part in parts:
                part.save_pretrained(str(new_folder))
            with no_half_files(oof_path) as new_oof:
                oof.to_parquet(new_oof, index=False)
                hashes = {
                    "weights": described(new_folder / WEIGHTS),
                    "oof": described(new_oof),
                    # The tokenizer and the encoder's configuration decide as much as the weights.
                    "files": {
                        str(file.relative_to(new_folder)): described(file)
                        for file in sorted(new_folder.rglob("*"))
                        if file.is_file() and file.name != WEIGHTS
                    },
                }
                write_json(new_folder / CARD, dict(card) | hashes)
                # All is written; what follows are renames. The old card goes first, so that at no
                # moment a card vouches for files that are not its own.
                (folder / CARD).unlink(missing_ok=True)
                shutil.rmtree(folder, ignore_errors=True)

    def load_tensors(self, member: str, fold: int) -> dict[str, torch.Tensor]:
        """The fold model's weights on the CPU, once the hashes of all its files are checked."""
        from safetensors.torch import load_file

        folder = self.fold_folder(member, fold)
        card = self._finished(member, fold)
        for name, expected in {WEIGHTS: card["weights"], **card["files"]}.items():
            self._check(folder / name, expected, member, fold)
        return load_file(folder / WEIGHTS)

    def read_oof(self, member: str, fold: int) -> pd.DataFrame:
        """The fold's OOF rows (id, fold, pred_<output>…), after their hash has been checked."""
        import pandas as pd

        path = self.oof_path(member, fold)
        self._check(path, self._finished(member, fold)["oof"], member, fold)
        return pd.read_parquet(path)

    def _finished(self, member: str, fold: int) -> dict[str, Any]:
        card = self.fold_card(member, fold)
        if card is None:
            path = self.fold_folder(member, fold) / CARD
            raise UserError(f"{member} fold {fold} is not finished (no valid {path}); train it")
        return card

    def _check(self, path: Path, expected: Mapping[str, Any], member: str, fold: int) -> None:
        if not path.is_file() or sha256(path) != expected["sha256"]:
            raise UserError(
                f"{path} is damaged: its sha256 is not the one in its card; delete "
                f"{self.fold_folder(member, fold)} and train {member} fold {fold} again"
            )

    def members(self) -> list[str]:
        """Names of the members that have at least one finished fold, sorted."""
        folder = self.root / "models" / self.run
        return sorted({card.parent.parent.name for card in folder.glob(f"*/fold*/{CARD}")})

    # --- test predictions --------------------------------------------------------------------

    def save_test(
        self, member: str, fold: int, predictions: pd.DataFrame, made_from: Mapping[str, Any]
    ) -> None:
        """Keep a fold model's predictions of the test table, with what they were made from."""
        predictions = predictions.copy()
        predictions.attrs.update(made_from)
        write_parquet(self.test_path(member, fold), predictions)

    def load_test(
        self, member: str, fold: int, made_from: Mapping[str, Any]
    ) -> pd.DataFrame | None:
        """Predictions kept earlier, if they are whole and were made from just this; else None."""
        import pandas as pd
        from pyarrow import ArrowException

        path = self.test_path(member, fold)
        if not path.is_file():
            return None
        with suppress(OSError, ValueError, ArrowException):
            predictions = pd.read_parquet(path)
            if predictions.attrs == dict(made_from):
                return predictions
        return None

    # --- the blend and the submission --------------------------------------------------------

    def write_blend(self, card: Mapping[str, Any]) -> None:
        write_json(self.blend_path, card)

    def read_blend(self) -> dict[str, Any]:
        """The blend card; UserError where there is none, or none that can be read."""
        card = read_json(self.blend_path)
        if card is None and self.blend_path.exists():
            raise UserError(f"{self.blend_path} is damaged; run blend.py again (same --config)")
        if card is None:
            raise UserError(
                f"no blend card at {self.blend_path}; run blend.py first (same --config)"
            )
        return card

    def open_studies(self) -> Path:
        """The folder where Optuna keeps its trials, which is made."""
        try:
            self.studies_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"could not make {self.studies_folder}: {error}; nothing was overwritten"
            ) from None
        return self.studies_folder

    def figure_path(self, name: str) -> Path:
        """Where a picture goes, less its ending."""
        return self.blend_path.parent / "figures" / name

    def write_report(self, html: str) -> None:
        write_text(self.report_path, html)

    def write_submission(
        self, submission: pd.DataFrame, card: Mapping[str, Any], now: datetime
    ) -> Path:
        """Write submission.csv with its card, and a dated copy of both; the path of the first."""
        path = self.submission_path
        dated = path.with_name(f"submission-{now:%Y%m%d-%H%M%S}.csv")
        for file in (dated, path):
            write_csv(file, submission)
            write_json(file.with_suffix(".json"), dict(card) | {"submission": described(file)})
        return path
