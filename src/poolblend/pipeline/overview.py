"""`poolblend board`: a run's members and blends, with their scores and costs."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path

import poolblend
from poolblend.config import Config
from poolblend.loading.competition import open_store
from poolblend.report.board import make_board
from poolblend.report.board_page import to_page
from poolblend.report.board_text import to_json, to_text
from poolblend.store.files import write_text
from poolblend.training.devices import choose_device

log = logging.getLogger(__name__)


def board(config: Config, *, as_json: bool = False, html: str | None = None) -> str:
    """The board as text, or as JSON; `html` is a file to write it to as a page, too.

    Raises UserError where what it needs cannot be read, or the page not be written.
    """
    made = make_board(config, open_store(config), choose_device().type)
    if html is not None:
        path = Path(html).expanduser()
        now = f"{datetime.now():%Y-%m-%d %H:%M}"
        write_text(path, to_page(made, f"poolblend {poolblend.__version__}, {now}"))
        log.info("page: %s", path)
    return to_json(made) if as_json else to_text(made)
