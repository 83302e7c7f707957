"""A table's texts as token ids, made once for all members that tokenise alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from poolblend.modeling.backbone import load_tokenizer
from poolblend.training.batches import Encoded, SpecialTokens, encode

log = logging.getLogger(__name__)


class Texts:
    """The texts of one table; `name` says in the log which table it is."""

    def __init__(self, table: pd.DataFrame, name: str, remote_code: bool = False) -> None:
        self.table, self.name, self.remote_code = table, name, remote_code
        self._encoded: dict[tuple[str, int, tuple[str, ...], SpecialTokens], Encoded] = {}

    def encode(
        self,
        folder: Path,
        tokenizer_sha256: str,
        max_length: int,
        columns: Sequence[str],
        special_tokens: SpecialTokens = "text",
    ) -> Encoded:
        """Token ids by the tokenizer in `folder`; one hash stands for one tokenizer.

        Several columns are joined with the tokenizer's separator.
        """
        key = (tokenizer_sha256, max_length, tuple(columns), special_tokens)
        if key not in self._encoded:
            tokenizer = load_tokenizer(folder, remote_code=self.remote_code)
            texts = [self.table[column].fillna("").tolist() for column in columns]
            self._encoded[key] = encode(texts, tokenizer, max_length, special_tokens=special_tokens)
            self._log(self._encoded[key])
        return self._encoded[key]

    def _log(self, encoded: Encoded) -> None:
        lengths = encoded.lengths_N
        log.info(
            "%s: %d texts, %.0f tokens on average, %.1f %% of them cut at max_length %d",
            self.name,
            len(lengths),
            lengths.mean(),
            100 * encoded.n_truncated / len(lengths),
            encoded.max_length,
        )
