"""A table's texts as token ids, made once for all members that tokenise alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from poolblend.competition.tables import join_texts
from poolblend.modeling.backbone import load_tokenizer
from poolblend.training.batches import Encoded, encode

log = logging.getLogger(__name__)


class Texts:
    """The text columns of one table; `name` says in the log which table it is."""

    def __init__(self, table: pd.DataFrame, columns: Sequence[str], name: str) -> None:
        self.table, self.columns, self.name = table, list(columns), name
        self._encoded: dict[tuple[str, int], Encoded] = {}

    def encode(self, folder: Path, backbone_sha256: str, max_length: int) -> Encoded:
        """Token ids by the tokenizer in `folder`; the backbone of one hash is asked only once.

        Several columns are joined with the tokenizer's separator.
        """
        key = (backbone_sha256, max_length)
        if key not in self._encoded:
            tokenizer = load_tokenizer(folder)
            separator = tokenizer.sep_token or tokenizer.eos_token or ""
            texts = join_texts(self.table, self.columns, separator)
            self._encoded[key] = encode(texts, tokenizer, max_length)
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
