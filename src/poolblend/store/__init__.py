"""The only room that knows file names, and writes or reads artefacts."""

from poolblend.store.artefacts import Store
from poolblend.store.files import sha256, write_csv

__all__ = ["Store", "sha256", "write_csv"]
