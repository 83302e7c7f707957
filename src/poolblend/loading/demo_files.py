"""The files of the demo competition, made if the config asks for them and they do not exist."""

from __future__ import annotations

import logging

from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.store import Store, holds_csv, write_csv

log = logging.getLogger(__name__)


def make_demo(config: Config, store: Store) -> None:
    """Write the missing files of the demo competition; they are the same every time.

    If several processes call this, one writes and the others wait.
    """
    if not _absent(config):
        return
    with store.making():
        absent, names = _absent(config), _names(config)
        if not absent:
            return
        from poolblend.competition.demo import build_demo

        log.info("making the demo competition in %s", config.data_dir)
        tables = {names[key]: table for key, table in build_demo().items()}
        there = [name for name in tables if name not in absent]  # perhaps of a killed process
        if not all(holds_csv(config.data_dir / name, tables[name]) for name in there):
            raise UserError(
                f"{config.data_dir} holds some files of the demo competition but not {absent[0]}; "
                "they may be yours, so nothing is written: name your own --config, or move them"
            )
        for name in absent:
            write_csv(config.data_dir / name, tables[name])


def _names(config: Config) -> dict[str, str]:
    data = config.data
    return {
        "train": data.train,
        "test": data.test,
        "sample_submission": data.sample_submission,
        "test_labels": data.test_labels or "test_labels.csv",
    }


def _absent(config: Config) -> list[str]:
    return [name for name in _names(config).values() if not (config.data_dir / name).exists()]
