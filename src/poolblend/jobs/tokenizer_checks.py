"""Before the first step: are the run's texts read as each backbone's files say, also once saved?"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.competition.templates import text_columns
from poolblend.config import AnyMember, Config, Member
from poolblend.loading.competition import Competition
from poolblend.loading.texts import Texts, text_spec
from poolblend.modeling.backbone import check_tokenizer_survives
from poolblend.modeling.sentencepieces import differing, model_file
from poolblend.modeling.sources import Located
from poolblend.modeling.tokenizers import (
    FILE,
    added_tokens,
    build_tokenizer,
    tokenizer_and_source,
)
from poolblend.modeling.trust import readable

log = logging.getLogger(__name__)

N_TEXTS = 1000  # of each table


def check_tokenizers(
    config: Config,
    competition: Competition,
    members: Sequence[AnyMember],
    located: Mapping[str, Located],
) -> None:
    """Try each backbone's tokenizer on texts of train and test, and log what a user should know.

    Raises UserError where a tokenizer, saved and read again, would give other tokens.
    """
    tables = (competition.tables.train, competition.tables.test)
    samples = [_sample(table) for table in tables]
    code = config.remote_code
    encoders = [member for member in members if isinstance(member, Member)]
    longest = {located[m.name]: m for m in sorted(encoders, key=lambda m: m.max_length)}
    for (folder, *_), member in longest.items():
        check_tokenizer_survives(folder, partial(_ids, config, member, samples), remote_code=code)
        name = f"backbone {member.backbone.name}"
        with readable(folder, code):
            tokenizer, source = tokenizer_and_source(folder, code)
            built = build_tokenizer(folder, code)
        sampled = _cells(config, samples)
        if source is not None:
            _tell_source(name, source, tokenizer, built, sampled)
        _tell_differing(name, folder, tokenizer, built, sampled)
        if config.data.special_tokens == "text":
            _tell_added(name, tokenizer, _cells(config, tables))


def _ids(
    config: Config, member: Member, tables: Sequence[pd.DataFrame], tokenizer: Any
) -> list[list[int]]:
    """The tables' rows as the member reads them by this tokenizer."""
    spec = text_spec(config, member)
    encoded = [Texts(table, None).encode_with(tokenizer, spec) for table in tables]
    return [row.tolist() for each in encoded for row in each.ids]


def _sample(table: pd.DataFrame) -> pd.DataFrame:
    rows = np.random.default_rng(0).permutation(len(table))[:N_TEXTS]
    return table.iloc[np.sort(rows)]


def _cells(config: Config, tables: Sequence[pd.DataFrame]) -> list[str]:
    """The texts as they are written, without empty ones."""
    names = text_columns(config.data.text)
    cells = [cell for table in tables for name in names for cell in table[name].fillna("")]
    return [cell for cell in cells if cell]


def _tell_source(name: str, source: str, tokenizer: Any, built: Any, texts: list[str]) -> None:
    """Say how many texts transformers would read otherwise than the files do."""
    theirs, ours = (t(texts)["input_ids"] if texts else [] for t in (built, tokenizer))
    n_other = sum(a != b for a, b in zip(theirs, ours, strict=True))
    if n_other:
        log.info(
            "%s: texts are read as %s says; transformers' %s would read %d of %d otherwise",
            name,
            source,
            type(built).__name__,
            n_other,
            len(texts),
        )


def _tell_differing(
    name: str, folder: Path, tokenizer: Any, built: Any, texts: Sequence[str]
) -> None:
    """Say how many texts are read otherwise than by the sentencepiece model in the folder.

    What Python code of transformers makes of such a model is the code's affair.
    """
    model = model_file(folder) if tokenizer.is_fast else None
    other = [] if model is None else differing(tokenizer, model, texts, built)
    if model is None or not other:
        return
    advice = (
        f"delete {FILE} if {model.name} is what it was trained with"
        if (folder / FILE).is_file()
        else f"put the {FILE} that it was trained with beside it"
    )
    log.warning(
        "%s: %d of %d texts are read otherwise than by %s in its folder, as %d tokens, not %d, "
        "such as %s; %s",
        name,
        len(other),
        len(texts),
        model.name,
        sum(found for *_, found in other),
        sum(expected for _, expected, _ in other),
        _short(other[0][0]),
        advice,
    )


def _tell_added(name: str, tokenizer: Any, texts: Sequence[str]) -> None:
    """Say how many texts hold tokens that were added to the tokenizer, which are read as text."""
    written = re.compile("|".join(map(re.escape, added_tokens(tokenizer))) or "(?!)")
    found = [match.group() for text in texts if (match := written.search(text))]
    if found:
        log.warning(
            "%s: %d of %d texts hold tokens that were added to its tokenizer, such as %s, and read "
            "them as plain text; data.special_tokens=tokens reads each as one token",
            name,
            len(found),
            len(texts),
            _short(found[0]),
        )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}…")
