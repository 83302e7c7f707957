"""How long texts are, in words and in about tokens, without a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from poolblend.competition.drafting.findings import Finding

# Scripts without blanks between words: kana, Chinese characters, Hangul; each is about a token.
_DENSE = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_PIECE = re.compile(rf"[{_DENSE}]|[^\W_{_DENSE}]+|[^\w\s]|_")
_WORD = re.compile(rf"[{_DENSE}]|[^\s{_DENSE}]*[^\W\d_{_DENSE}][^\s{_DENSE}]*")
_MIXED = re.compile(r"[^\W\d]\d|\d[^\W\d]|[a-z][A-Z]")
LENGTHS = (64, 96, 128, 192, 256, 384, 512)
FIT = 0.98  # of the texts, that should not be cut
MOST_ROWS = 2000  # that are looked at, evenly spread


def count_words(text: str) -> int:
    """The number of words with a letter in them; a Chinese character counts as one."""
    return len(_WORD.findall(text))


def about_tokens(text: str) -> int:
    """About how many tokens a text has, without special ones.

    Within 4 % of all-MiniLM-L6-v2's tokenizer on essays, questions, comments and Chinese reviews,
    and within 10 % on tweets, with their links and hashtags.
    """
    return sum(map(_tokens_of_piece, _PIECE.findall(text)))


def _tokens_of_piece(piece: str) -> int:
    if len(piece) <= 4:
        return 1
    # Links and codes are broken into pairs, long words into longer parts.
    return len(piece) // 2 if _MIXED.search(piece) else 1 + (len(piece) - 4) // 6


def spread(column: pd.Series) -> pd.Series:
    """At most `MOST_ROWS` of the cells, evenly spread; a missing one is an empty text."""
    step = -(-len(column) // MOST_ROWS)
    return column.iloc[::step].fillna("")


def find_max_length(train: pd.DataFrame, texts: Sequence[str]) -> Finding:
    """`max_length`: the least of `LENGTHS` that holds about 98 % of the rows' texts."""
    word_N, token_N = np.zeros(1), np.full(1, 1 + len(texts))  # [CLS], and [SEP] after each text
    for column in texts:
        cells = spread(train[column])
        word_N = word_N + cells.map(count_words).to_numpy()
        token_N = token_N + cells.map(about_tokens).to_numpy()
    wanted = np.quantile(token_N, FIT)
    value = next((length for length in LENGTHS if length >= wanted), LENGTHS[-1])
    cut = 100 * (token_N > value).mean()
    reason = (
        f"{np.median(word_N):.0f} words in the middle, {word_N.max():.0f} at most; 98 % of rows "
        f"have up to about {wanted:.0f} tokens"
    )
    if wanted > value:
        reason += f", so {cut:.0f} % are cut: see truncation, windows"
    return Finding("max_length", value, reason, "guess")
