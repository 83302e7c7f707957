"""The artefacts of a run: the only module that knows their names, and writes or reads them.

    input/<run>/folds.csv, .json                   id, fold; made once, then only read; its card
    models/<run>/<member>/fold0/                   model.safetensors, config, tokenizer, card.json
    models/<run>/<member>/checkpoints/fold0/       the last two of a fold in training
    models/<run>/<member>/.fold0.lock              while a process trains the fold
    oof/<run>/<member>/fold0.parquet               id, fold, pred_<output>… of the fold's own rows
    oof/<run>/<member>/test_fold0.parquet          id, pred_<output>… of the test table
    oof/<run>/blend.json                           the blend card
    oof/<run>/studies/<rows>.log                   Optuna's trials, to continue a search
    oof/<run>/figures/<name>.png, .svg             the blend's pictures
    oof/<run>/blend.html                           the notebook, executed, as one file
    submissions/<run>/submission.csv, .json        and a dated copy of both

Everything is written beside its place and renamed into it, so that a crash never leaves half a
file under a final name. A fold without a card is unfinished; its card, which holds the hashes of
the fold's files and of itself, comes into place last. A card that is not whole, or vouches for
files that are not there as it says, means damage: it is named, and nothing is made of such a fold.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolblend.errors import UserError
from poolblend.store.cards import DamagedError, read_card, write_card
from poolblend.store.checkpoints import Checkpoints
from poolblend.store.files import (
    described,
    no_half_files,
    write_csv,
    write_text,
)
from poolblend.store.foldfiles import CARD, FoldFiles, Pretrained
from poolblend.store.kept import read_kept, write_kept
from poolblend.store.locks import FileLock

if TYPE_CHECKING:
    import pandas as pd
    import torch

log = logging.getLogger(__name__)


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

    def checkpoints(self, member: str, fold: int) -> Checkpoints:
        folder = self.root / "models" / self.run / member / "checkpoints"
        return Checkpoints(folder / f"fold{fold}")

    def lock(self, member: str, fold: int) -> FileLock:
        """Who holds it trains this fold."""
        return FileLock(self.root / "models" / self.run / member / f".fold{fold}.lock")

    def making(self) -> FileLock:
        """Who holds it makes what all folds share: the folds, the demo's tables."""
        return FileLock(self.folds_path.with_name(".making.lock"))

    # --- fold models -------------------------------------------------------------------------

    def fold_card(self, member: str, fold: int) -> dict[str, Any] | None:
        """The card of a finished fold, None where there is none yet, else DamagedError."""
        return self._fold(member, fold).card()

    def check_fold(
        self, member: str, fold: int, *, model: bool = True, oof: bool = True
    ) -> dict[str, Any]:
        """The card of a finished fold, once the hashes of the model's and the OOF file agree."""
        return self._fold(member, fold).check(model=model, oof=oof)

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
        """Write a finished fold in place of what there may be; all of it, or nothing."""
        self._fold(member, fold).save(tensors=tensors, parts=parts, oof=oof, card=card)

    def load_tensors(self, member: str, fold: int) -> dict[str, torch.Tensor]:
        """The fold model's weights on the CPU, once the hashes of all its files are checked."""
        return self._fold(member, fold).tensors()

    def read_oof(self, member: str, fold: int) -> pd.DataFrame:
        """The fold's OOF rows (id, fold, pred_<output>…), after their hash has been checked."""
        return self._fold(member, fold).oof()

    def _fold(self, member: str, fold: int) -> FoldFiles:
        return FoldFiles(member, fold, self.fold_folder(member, fold), self.oof_path(member, fold))

    def folders(self) -> list[Path]:
        """Those that hold artefacts of the run, where they exist."""
        places = [self.folds_path.parent, self.blend_path.parent, self.submission_path.parent]
        for kind in ("models", "oof"):
            places += sorted((self.root / kind / self.run).glob("*/"))
        places += sorted((self.root / "models" / self.run).glob("*/checkpoints/"))
        places += sorted((self.root / "models" / self.run).glob("*/checkpoints/fold*/"))
        return [place for place in places if place.is_dir()]

    def members(self) -> list[str]:
        """Names of the members that have at least one finished fold, sorted."""
        folder = self.root / "models" / self.run
        return sorted({card.parent.parent.name for card in folder.glob(f"*/fold*/{CARD}")})

    # --- test predictions --------------------------------------------------------------------

    def save_test(
        self, member: str, fold: int, predictions: pd.DataFrame, made_from: Mapping[str, Any]
    ) -> None:
        """Keep a fold model's predictions of the test table, with what they were made from."""
        place = {"place": [member, fold]}
        write_kept(self.test_path(member, fold), predictions, {**made_from, **place})

    def load_test(
        self, member: str, fold: int, made_from: Mapping[str, Any]
    ) -> pd.DataFrame | None:
        """Predictions kept earlier, if they are whole and were made from just this; else None."""
        if not self.test_path(member, fold).is_file():
            return None
        try:
            predictions = self.check_test(member, fold)
        except DamagedError as error:
            log.warning("%s", error)
            return None
        return predictions if predictions.attrs == dict(made_from) else None

    def check_test(self, member: str, fold: int) -> pd.DataFrame:
        """The test predictions kept, with what they were made from in `attrs`; or DamagedError."""
        path = self.test_path(member, fold)
        predictions = read_kept(path)
        if predictions is None or predictions.attrs.pop("place", None) != [member, fold]:
            raise DamagedError(f"{path} is damaged; infer.py makes these predictions again")
        return predictions

    # --- the blend and the submission --------------------------------------------------------

    def write_blend(self, card: Mapping[str, Any]) -> None:
        write_card(self.blend_path, card)

    def read_blend(self) -> dict[str, Any]:
        """The blend card; UserError where there is none, or none that is whole."""
        try:
            card = read_card(self.blend_path)
        except DamagedError as error:
            raise DamagedError(f"{error}; run blend.py again (same --config)") from None
        if card and card.get("run", self.run) != self.run:
            raise DamagedError(
                f"{self.blend_path} is of another run, {card['run']}; run blend.py again (same "
                "--config)"
            )
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
        with FileLock(path.with_name(".submission.lock")):
            for left in path.parent.glob("submission*.json"):
                if not left.with_suffix(".csv").exists():
                    left.unlink(missing_ok=True)  # of a process that was killed between the two
            for file in (dated, path):
                with no_half_files(file) as new:
                    write_csv(new, submission)
                    with no_half_files(file.with_suffix(".json")) as new_card:
                        write_card(new_card, {**card, "submission": described(new)})
                        # Both are on the disk; what follows are renames. At no moment does a
                        # submission lie beside a card that is not its own.
                        file.unlink(missing_ok=True)
        return path
