"""The texts of a table as token ids, made once for all members with the same tokens."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.cards.member import Member
from poolblend.competition.columns import Columns
from poolblend.competition.options import Swap
from poolblend.competition.templates import fill, is_template, text_columns
from poolblend.config import Config
from poolblend.modeling.backbone import load_tokenizer
from poolblend.text_spec import TextColumns, TextSpec
from poolblend.training.encoding import Encoded, encode, in_both_orders
from poolblend.training.exchange import Exchange
from poolblend.training.tokens import split_template

log = logging.getLogger(__name__)


def text_spec(config: Config, member: Member) -> TextSpec:
    """How the member reads the competition's texts."""
    data = config.data
    return TextSpec(
        text=tuple(data.text),
        join=data.join,
        special_tokens=data.special_tokens,
        max_length=member.max_length,
        truncation=member.truncation,
        windows=member.windows,
    )


def text_columns_of(config: Config) -> TextColumns:
    """How models without an encoder read the competition's texts."""
    return TextColumns(text=tuple(config.data.text))


class Texts:
    """The texts of one table; `name` is the table's name in the log, None for no log.

    The log counts texts whose windows together have more than `batch_tokens` tokens.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        name: str | None,
        remote_code: bool = False,
        batch_tokens: int | None = None,
    ) -> None:
        self.table, self.name, self.remote_code = table, name, remote_code
        self.batch_tokens = batch_tokens
        self._encoded: dict[tuple[str, TextSpec], Encoded] = {}
        self._in_both_orders: dict[tuple[str, TextSpec, str], Encoded] = {}
        self._swapped: dict[str, Texts] = {}

    def encode(self, folder: Path, tokenizer_sha256: str, spec: TextSpec) -> Encoded:
        """Token ids by the tokenizer in `folder`; those of one hash and spec are made once."""
        key = (tokenizer_sha256, spec)
        if key not in self._encoded:
            tokenizer = load_tokenizer(folder, remote_code=self.remote_code)
            self._encoded[key] = self.encode_with(tokenizer, spec)
            self._log(self._encoded[key])
        return self._encoded[key]

    def swapped(self, swap: Swap) -> Texts:
        """The same rows after the columns of `swap` have changed places."""
        key = swap.model_dump_json()
        if key not in self._swapped:
            table = self.table.rename(columns=swap.renamed)
            self._swapped[key] = Texts(table, None, self.remote_code, self.batch_tokens)
        return self._swapped[key]

    def encode_orders(
        self,
        folder: Path,
        tokenizer_sha256: str,
        spec: TextSpec,
        swap: Swap | None,
        exchange: Exchange | None,
    ) -> Encoded:
        """Likewise; with a swap, all rows and after them the same in the other order."""
        if swap is None or exchange is None:
            return self.encode(folder, tokenizer_sha256, spec)
        key = (tokenizer_sha256, spec, swap.model_dump_json())
        if key not in self._in_both_orders:
            texts = (self, self.swapped(swap))
            rows, other = (each.encode(folder, tokenizer_sha256, spec) for each in texts)
            self._in_both_orders[key] = in_both_orders(rows, other, exchange)
        return self._in_both_orders[key]

    def features(self, columns: Columns, swap: Swap | None) -> np.ndarray:
        """The extra columns of all rows, and of those in the other order; (N, F) float32."""
        tables = [self.table] if swap is None else [self.table, self.swapped(swap).table]
        return np.concatenate([columns.transform(table) for table in tables])

    def encode_with(self, tokenizer: Any, spec: TextSpec) -> Encoded:
        """Token ids by a given tokenizer, not cached."""
        cells = self._cells(spec)
        if not is_template(spec.text):
            return encode([cells[name] for name in spec.text], tokenizer, spec)
        # A template is split at its special tokens before it is filled, so that cells are always
        # read as text.
        parts, between = split_template(spec.text[0], tokenizer)
        columns = [[row.strip() for row in fill(part, cells)] for part in parts]
        return encode(columns, tokenizer, spec, between)

    def plain(self, spec: TextColumns) -> list[str]:
        """One text per row: its cells joined with spaces, or the template filled with them."""
        cells = self._cells(spec)
        if is_template(spec.text):
            return fill(spec.text[0], cells)
        return [" ".join(row) for row in zip(*(cells[name] for name in spec.text), strict=True)]

    def _cells(self, spec: TextSpec | TextColumns) -> dict[str, list[str]]:
        """The table's cells by the columns that texts are made of; a gap is empty."""
        return {name: self.table[name].fillna("").tolist() for name in text_columns(spec.text)}

    def _log(self, encoded: Encoded) -> None:
        if self.name is None:
            return
        n_rows = len(encoded.ids)
        windows = ""
        if encoded.windowing is not None:
            n_windows = encoded.n_windows_N
            windows = f", {n_windows.mean():.1f} windows per text, {n_windows.max()} at most"
        log.info(
            "%s: %d texts, %.0f tokens on average, %.1f %% of them cut at max_length %d%s",
            self.name,
            n_rows,
            sum(map(len, encoded.ids)) / n_rows,
            100 * encoded.n_truncated / n_rows,
            encoded.max_length,
            windows,
        )
        if encoded.windowing is None or self.batch_tokens is None:
            return
        most = max(1, self.batch_tokens // encoded.max_length)
        n_many = int((encoded.n_windows_N > most).sum())
        if n_many:
            log.info(
                "%s: %d texts have more than %d windows and are read in several passes, which is "
                "slow (batch_tokens=%d); windows.most limits how many windows are read",
                self.name,
                n_many,
                most,
                self.batch_tokens,
            )
