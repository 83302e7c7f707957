"""`poolblend new`: look at a competition's folder, and draft its config."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poolblend.competition.drafting.draft import draft_config
from poolblend.competition.drafting.findings import Draft, Finding, Given
from poolblend.competition.duplicates import log_repeats
from poolblend.competition.templates import text_columns
from poolblend.config import ROOT, Config, load
from poolblend.config.drafted import draft_yaml, written
from poolblend.errors import UserError
from poolblend.loading.competition import open_store, planned_competition, try_folds
from poolblend.options import file_name_part
from poolblend.printing import wrapped
from poolblend.store.files import write_new_text

HEADINGS = {"sure": "found", "guess": "guessed, to be checked", "option": "could be added"}


def new(folder: str, to: str | None = None, **given: Any) -> str:
    """Draft the config of the competition in `folder`, and print what was found; the next command.

    The file is `to`, by default configs/<folder's name>.yaml. `given` are the fields of `Given`,
    which are not looked for. Raises UserError where the file exists, a table is missing, or nothing
    tells target or text; also, after the draft is written, where the tables do not fit it yet.
    """
    place = Path(folder).expanduser()
    path = Path(to).expanduser() if to else ROOT / "configs" / f"{_run_name(place)}.yaml"
    try:
        file_name_part(path.stem)
    except ValueError as error:
        raise UserError(f"--to {path}: the file's name is the run's, and {error}") from None
    draft = draft_config(place, Given(**given))
    findings = [*_of_folder(place, path.stem), *draft.findings]
    heading = f"Drafted by `poolblend new` from {place}: check the guesses."
    write_new_text(path, draft_yaml(findings, heading))
    print("\n".join(_describe(findings, draft)), flush=True)
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    try:
        _try(load(path))
    except UserError as error:
        raise UserError(f"{shown} is drafted, but its tables cannot be read yet: {error}") from None
    return f"config: {shown}\nnext: python train.py --config {shlex.quote(str(shown))} --dry-run"


def _run_name(folder: Path) -> str:
    """A run's name made of the folder's."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", folder.resolve().name).strip("_-")
    return name[:100] or "competition"


def _of_folder(folder: Path, run: str) -> Iterator[Finding]:
    """`data.dir`, where the folder is not the one in which a run's tables are looked for."""
    there = folder.resolve()
    if there != (ROOT / "input" / run).resolve():
        inside = there.is_relative_to(ROOT)
        place = there.relative_to(ROOT).as_posix() if inside else str(there)
        yield Finding("data.dir", place, "the folder with the tables")


def _describe(findings: list[Finding], draft: Draft) -> Iterator[str]:
    for state, heading in HEADINGS.items():
        those = [each for each in findings if each.state == state]
        if those:
            yield f"{heading}:"
        for each in those:
            text = f"{each.key}: {written(each.value)} ({each.reason})"
            yield from wrapped(text, "  ", "    ")
    if draft.notes:
        yield "notes:"
    for note in draft.notes:
        yield from wrapped(note, "  ", "    ")


def _try(config: Config) -> None:
    """Read the tables as a training would, and log repeats and gaps; UserError where it cannot."""
    competition = planned_competition(config, open_store(config))
    try_folds(competition)
    texts = text_columns(config.data.text)
    log_repeats(competition.tables, texts, competition.y, config.folds.keep_together)
