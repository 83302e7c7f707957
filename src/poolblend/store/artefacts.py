"""The artefacts of a run: the only module that knows their names, and writes or reads them.

    input/<run>/folds.csv, .json                   id, fold; made once, then only read; its card
    models/<run>/<member>/fold0/                   model.safetensors, config, tokenizer, card.json
    models/<run>/<member>/refit/                   likewise, a model of all rows; its OOF is empty
    models/<run>/<member>/fold0/failed.json        why the fold could not be trained
    models/<run>/<member>/checkpoints/fold0/       the last two of a fold in training
    models/<run>/<member>/.fold0.lock              while a process trains the fold
    models/<run>/backbones/<name>/                 a pretrained backbone, card.json
    models/<run>/backbones/.checkpoints/<name>/    the last two of a backbone in training
    models/<run>/backbones/.<name>.lock            while a process trains it
    models/<run>/bases/<name>/                     a backbone's copy: folds with frozen layers hold
                                                   only what differs from it; card.json
    models/<run>/bases/.<name>.lock                while a process writes it
    oof/<run>/<member>/fold0.parquet               id, fold, pred_<output>… of the fold's own rows
    oof/<run>/<member>/test_fold0.parquet          id, pred_<output>… of the test table
    oof/<run>/<member>/vectors_fold0.parquet       id, fold, vector of the train table
    oof/<run>/<member>/test_vectors_fold0.parquet  id, vector of the test table
    oof/<run>/<member>/….json                      the cards of these three
    oof/<run>/pseudo/<name>/fold0.parquet          id, pred_<output>… of the test table, for fold 0
    oof/<run>/pseudo/<name>/card.json              the models and weights that made them
    oof/<run>/blend.json                           the blend card
    oof/<run>/study.log                            Optuna's journal of the search, on request
    oof/<run>/figures/<name>.png, .svg             the blend's pictures
    oof/<run>/blend.html                           the notebook, executed, as one file
    submissions/<run>/submission.csv, .json        and a dated copy of both
    cache/<run>/states-<hash>.npy, .json           hidden states of frozen layers; can be deleted
                                                   (and, without a name, predictions of a blend too
                                                   large for the memory)
    tracking/<run>/                                what TensorBoard, wandb or MLflow write

Every file is written under a temporary name and then renamed, so that a crash never leaves half a
file under a final name. A fold's card holds the hashes of the fold's files and of itself, and is
written last: a fold without a card is unfinished. A card or file that does not match its hash is
damaged: it is reported and not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

from poolblend.cards.backbone import BackboneCard, BaseCard
from poolblend.cards.blend import BlendCard
from poolblend.cards.fold_names import file_name
from poolblend.cards.inputs import FileHash
from poolblend.cards.predictions import TableName
from poolblend.cards.submission import SubmissionCard
from poolblend.errors import UserError, unknown
from poolblend.store.backbones import Copied, Trained
from poolblend.store.cards import DamagedError, read_card, write_card
from poolblend.store.files import UnwritableError, no_half_files, write_csv, write_text
from poolblend.store.foldfiles import CARD, FoldFiles
from poolblend.store.hidden_states import GIGABYTE, HiddenStatesFolder
from poolblend.store.kept import KeptFile, write_with_card
from poolblend.store.locks import ProcessLock
from poolblend.store.pseudo import PseudoFiles

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from optuna.storages import JournalStorage


class Store:
    """The artefacts of run `run` under the folder `root`.

    Submissions and hidden states are under `output`, if it is given; `cache_gb` limits the latter.
    """

    def __init__(
        self, root: Path, run: str, output: Path | None = None, cache_gb: float | None = None
    ) -> None:
        self.root, self.run = root, run
        self.read_only = False  # `store.read_only.only_read` makes one that is
        limit = None if cache_gb is None else cache_gb * GIGABYTE
        self.hidden_states = HiddenStatesFolder((output or root) / "cache" / run, limit)
        self.folds_path = root / "input" / run / "folds.csv"
        self.backbones_folder = root / "models" / run / "backbones"  # no member has that name
        self.bases_folder = self.backbones_folder.with_name("bases")  # nor this one
        self.blend_path = root / "oof" / run / "blend.json"
        self.study_path = self.blend_path.with_name("study.log")
        self.pseudo_folder = self.blend_path.with_name("pseudo")
        self.report_path = self.blend_path.with_suffix(".html")
        self.figures_folder = self.blend_path.with_name("figures")
        self.submission_path = (output or root) / "submissions" / run / "submission.csv"
        self.tracking_folder = root / "tracking" / run

    def fold_folder(self, member: str, fold: int) -> Path:
        return self.root / "models" / self.run / member / file_name(fold)

    def oof_path(self, member: str, fold: int) -> Path:
        return self.root / "oof" / self.run / member / f"{file_name(fold)}.parquet"

    def test_path(self, member: str, fold: int) -> Path:
        return self.root / "oof" / self.run / member / f"test_{file_name(fold)}.parquet"

    def test_predictions(self, member: str, fold: int) -> KeptFile:
        """The file of the fold model's predictions of the test rows."""
        return KeptFile(self.test_path(member, fold), member, fold, "test", "predictions")

    def vectors(self, member: str, fold: int, table: TableName) -> KeptFile:
        """The file of the vectors that the fold model pools from the rows of a table."""
        path = self.oof_path(member, fold)
        before = "test_vectors" if table == "test" else "vectors"
        return KeptFile(path.with_name(f"{before}_{path.name}"), member, fold, table, "vectors")

    def making(self) -> ProcessLock:
        """The lock for what all folds share: folds.csv and the demo's tables."""
        return ProcessLock(self.folds_path.with_name(".making.lock"))

    # --- fold models -------------------------------------------------------------------------

    def fold(self, member: str, fold: int) -> FoldFiles:
        """The files of a member's fold, whether they exist or not."""
        return FoldFiles(member, fold, self.fold_folder(member, fold), self.oof_path(member, fold))

    def folders(self) -> list[Path]:
        """The existing folders that hold artefacts of the run."""
        places = [self.folds_path.parent, self.blend_path.parent, self.submission_path.parent]
        for kind in ("models", "oof"):
            places += sorted((self.root / kind / self.run).glob("*/"))
        places += sorted((self.root / "models" / self.run).glob("*/checkpoints/"))
        places += sorted((self.root / "models" / self.run).glob("*/checkpoints/*/"))
        places += sorted(self.backbones_folder.glob(".checkpoints/*/"))
        return [place for place in places if place.is_dir()]

    def members(self) -> list[str]:
        """Names of the members that have at least one finished fold, sorted."""
        cards = (self.root / "models" / self.run).glob(f"*/fold*/{CARD}")
        folders = {card.parent.parent for card in cards} - {
            self.backbones_folder,
            self.bases_folder,
        }
        return sorted(folder.name for folder in folders)

    # --- backbones ---------------------------------------------------------------------------

    def backbone(self, name: str) -> Trained:
        """The pretrained backbone of that name, whether it exists or not."""
        return Trained(name, self.backbones_folder / name, BackboneCard)

    def base(self, name: str) -> Copied:
        """The copy of a backbone under that name, whether it exists or not."""
        return Copied(name, self.bases_folder / name, BaseCard)

    def base_names(self) -> list[str]:
        return sorted(path.name for path in self.bases_folder.glob("[!.]*") if path.is_dir())

    def backbone_names(self) -> list[str]:
        """Sorted names of the backbones whose pretraining has finished or started."""
        folders = (self.backbones_folder, self.backbones_folder / ".checkpoints")
        found = (path for folder in folders for path in folder.glob("[!.]*") if path.is_dir())
        return sorted({path.name for path in found})

    # --- pseudo-labels -----------------------------------------------------------------------

    def pseudo(self, name: str) -> PseudoFiles:
        """The pseudo-labels of that name, whether they exist or not."""
        return PseudoFiles(name, self.pseudo_folder / name)

    def known_pseudo(self, name: str) -> PseudoFiles:
        """The pseudo-labels of that name; UserError if there are none."""
        known = self.pseudo_names()
        if name not in known:
            where = f"of run {self.run}, which infer.py --pseudo-labels makes"
            raise unknown("pseudo-labels", name, known, where)
        return self.pseudo(name)

    def pseudo_names(self) -> list[str]:
        """Sorted names of the existing pseudo-labels."""
        folders = self.pseudo_folder.glob("[!.]*/")
        return sorted(folder.name for folder in folders if folder.is_dir())

    # --- the blend and the submission --------------------------------------------------------

    def on_disk(self, predictions: Iterable[np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
        """The members' predictions (N, K) as one array on the disk, float32 and read-only.

        Its file has no name, and is gone when the array is.
        """
        import numpy as np

        folder = self.hidden_states.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=folder) as file:
                for pred_NK in predictions:  # plain writes: a memory map dies of a full disk
                    file.write(pred_NK.astype(np.float32).tobytes())
                file.flush()
                return np.memmap(file, np.float32, "r", shape=shape)
        except OSError as error:
            raise UnwritableError(
                f"could not write {np.prod(shape) * 4 / GIGABYTE:.1f} GB of predictions into "
                f"{folder}: {error}; nothing was overwritten"
            ) from error

    def write_blend(self, card: BlendCard) -> None:
        write_card(self.blend_path, card)

    def read_blend(self) -> BlendCard:
        """The blend card; UserError if it is missing, damaged or of another run."""
        again = "run blend.py again (same --config and --set)"
        try:
            card = read_card(self.blend_path, BlendCard)
        except DamagedError as error:
            raise DamagedError(f"{error}; {again}") from None
        if card is None:
            raise UserError(
                f"no blend card at {self.blend_path}; run blend.py first (same --config and --set)"
            )
        if card.run != self.run:
            raise DamagedError(f"{self.blend_path} is of another run, {card.run}; {again}")
        return card

    @contextmanager
    def study_journal(self) -> Iterator[JournalStorage]:
        """An empty journal for Optuna's studies; it replaces study.log after the block."""
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        with no_half_files(self.study_path) as temporary:
            lock = JournalFileOpenLock(str(temporary))
            yield JournalStorage(JournalFileBackend(str(temporary), lock_obj=lock))

    def open_tracking(self) -> Path:
        """Make the folder where trackers write their files."""
        try:
            self.tracking_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UnwritableError(
                f"could not make {self.tracking_folder}: {error}; nothing was overwritten"
            ) from None
        return self.tracking_folder

    def write_report(self, html: str) -> None:
        write_text(self.report_path, html)

    def write_submission(
        self,
        submission: pd.DataFrame,
        make_card: Callable[[FileHash], SubmissionCard],
        now: datetime,
    ) -> Path:
        """Write submission.csv, its card and a dated copy of both; returns the csv's path."""
        path = self.submission_path
        dated = path.with_name(f"submission-{now:%Y%m%d-%H%M%S}.csv")
        with ProcessLock(path.with_name(".submission.lock")):
            for left in path.parent.glob("submission*.json"):
                if not left.with_suffix(".csv").exists():
                    left.unlink(missing_ok=True)  # of a process that was killed between the two
            for file in (dated, path):
                write_with_card(file, partial(write_csv, frame=submission), make_card)
        return path
