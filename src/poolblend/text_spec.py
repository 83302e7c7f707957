"""How a table's texts are read as tokens: one value for the config, the tokeniser and the cards."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from poolblend.options import Section

Join = Literal["separator", "pair"]
SpecialTokens = Literal["text", "tokens"]
Truncation = Literal["auto", "head", "tail", "head_tail"]


class Windows(Section):
    """Long texts in overlapping windows of `max_length`; poolers see every token once."""

    overlap: int = Field(64, ge=0)  # tokens that two neighbouring windows share
    most: int | None = Field(None, ge=1)  # windows per text; what is beyond them is cut


class TextColumns(Section):
    """Which columns a text is made of, for models that read it whole."""

    text: tuple[str, ...] = ("text",)  # columns, joined with spaces; or one template


class TextSpec(Section):
    """How texts become tokens, apart from the tokenizer itself."""

    text: tuple[str, ...] = ("text",)  # columns, joined as `join` says; or one template
    join: Join = "separator"
    # What a special token written inside a text is: text like any other, or that token.
    special_tokens: SpecialTokens = "text"
    max_length: int = Field(ge=1)  # tokens of a text or of each window, special ones included
    truncation: Truncation = "auto"  # which part of a longer text is kept; auto: the tokenizer's
    windows: Windows | None = None  # longer texts are read in windows instead of cut
