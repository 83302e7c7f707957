"""A table's texts as token ids, made once for all members that tokenise alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from poolblend.competition.templates import fill, is_template, text_columns
from poolblend.modeling.backbone import load_tokenizer
from poolblend.training.encoding import Encoded, Join, SpecialTokens, encode
from poolblend.training.tokens import split_template
from poolblend.training.truncation import Truncation

log = logging.getLogger(__name__)


class Texts:
    """The texts of one table; `name` says in the log which table it is.

    The log counts texts whose windows hold more than `batch_tokens` tokens.
    """

    def __init__(
        self,
        table: pd.DataFrame,
        name: str,
        remote_code: bool = False,
        batch_tokens: int | None = None,
    ) -> None:
        self.table, self.name, self.remote_code = table, name, remote_code
        self.batch_tokens = batch_tokens
        self._encoded: dict[tuple[Any, ...], Encoded] = {}

    def encode(
        self,
        folder: Path,
        tokenizer_sha256: str,
        max_length: int,
        text: Sequence[str],
        special_tokens: SpecialTokens = "text",
        *,
        join: Join = "separator",
        truncation: Truncation = "auto",
        windows: tuple[int, int | None] | None = None,
    ) -> Encoded:
        """Token ids by the tokenizer in `folder`; one hash stands for one tokenizer.

        `text` names columns, joined as `join` says, or is one template.
        """
        how = (special_tokens, join, truncation, windows)
        key = (tokenizer_sha256, max_length, tuple(text), *how)
        if key not in self._encoded:
            tokenizer = load_tokenizer(folder, remote_code=self.remote_code)
            self._encoded[key] = self.encode_with(
                tokenizer,
                max_length,
                text,
                special_tokens,
                join=join,
                truncation=truncation,
                windows=windows,
            )
            self._log(self._encoded[key])
        return self._encoded[key]

    def encode_with(
        self,
        tokenizer: Any,
        max_length: int,
        text: Sequence[str],
        special_tokens: SpecialTokens = "text",
        **how: Any,
    ) -> Encoded:
        """Token ids by any tokenizer, as `encode` makes them; they are not kept."""
        columns, between = self._columns(text, tokenizer)
        return encode(
            columns,
            tokenizer,
            max_length,
            special_tokens=special_tokens,
            between=between,
            **how,
        )

    def _columns(
        self, text: Sequence[str], tokenizer: Any
    ) -> tuple[list[list[str]], list[list[str]] | None]:
        """Texts to be joined, one list per part, and the tokens that a template puts around them.

        A template is cut at its special tokens before it is filled: cells are text, whatever they
        contain.
        """
        cells = {name: self.table[name].fillna("").tolist() for name in text_columns(text)}
        if not is_template(text):
            return [cells[name] for name in text], None
        parts, between = split_template(text[0], tokenizer)
        return [[row.strip() for row in fill(part, cells)] for part in parts], between

    def _log(self, encoded: Encoded) -> None:
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
        if encoded.windowing is not None and self.batch_tokens is not None:
            self._log_many_windows(encoded, self.batch_tokens)

    def _log_many_windows(self, encoded: Encoded, batch_tokens: int) -> None:
        most = max(1, batch_tokens // encoded.max_length)
        n_many = int((encoded.n_windows_N > most).sum())
        if n_many:
            log.info(
                "%s: %d texts have more than %d windows (batch_tokens=%d) and are read in passes "
                "of as many, which is slow; windows.most limits how many are read",
                self.name,
                n_many,
                most,
                batch_tokens,
            )
