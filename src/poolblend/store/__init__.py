"""The only room that knows file names, and writes or reads artefacts."""

from poolblend.store.artefacts import Store
from poolblend.store.cards import DamagedError
from poolblend.store.checkpoints import Checkpoint, Checkpoints
from poolblend.store.files import UnwritableError, holds_csv, keep_tables, sha256, write_csv
from poolblend.store.folds import Folds, read_folds, write_folds
from poolblend.store.locks import ProcessLock

__all__ = [
    "Checkpoint",
    "Checkpoints",
    "DamagedError",
    "Folds",
    "ProcessLock",
    "Store",
    "UnwritableError",
    "holds_csv",
    "keep_tables",
    "read_folds",
    "sha256",
    "write_csv",
    "write_folds",
]
