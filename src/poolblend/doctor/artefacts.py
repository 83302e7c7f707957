"""`train.py --check`: is all that was written still whole, and still what the config would make?"""

from __future__ import annotations

import os
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from poolblend.cards.blend import BlendMember
from poolblend.config import Config
from poolblend.ensembling.journal import check_journal
from poolblend.errors import UserError
from poolblend.jobs.planning import plan_jobs
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.models import check_members
from poolblend.store import DamagedError, Store, sha256
from poolblend.store.cards import read_raw
from poolblend.store.survey import (
    BACKBONE,
    BACKBONE_CHECKPOINT,
    CHECKPOINT,
    FOLD,
    PSEUDO,
    TEST,
    VECTORS,
    Artefact,
    judge,
    survey,
    survey_extras,
)

WIDTH = 100
WRONG = ("damaged", "stale")
NOT_THERE = "failed from other inputs"  # in place of what has changed


def check(config: Config) -> None:
    """Print what the store holds, and name what is damaged or stale; nothing is written.

    Raises UserError where anything is, with the commands that mend it.
    """
    store = open_store(config)
    found = [*survey(store), *survey_extras(store), *_studies(store)]
    if not found:
        print(f"nothing is stored yet for run {store.run} in {store.root}")
        return
    stale, unsaid = _stale_folds(config, store)
    stale |= dict(_stale_rest(store))
    found = [_compared(artefact, stale) for artefact in found]
    print(f"run {store.run} in {store.root}\n")
    print("\n".join(_table(found)))
    lines = [f"{a.state}: {a}: {a.told}" for a in found if a.state != "whole"]
    if unsaid:
        lines.append(f"whether folds are stale cannot be told: {unsaid}")
    for line in lines:
        print(f"\n{_wrapped(line.replace(f'{store.root}{os.sep}', ''))}")
    wrong = Counter(artefact.state for artefact in found if artefact.state in WRONG)
    if wrong:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(wrong.items()))
        raise UserError(f"{counts} of {len(found)} artefacts; {_mending(found, store)}")


def _compared(artefact: Artefact, stale: Mapping[str, str]) -> Artefact:
    """The artefact, stale where the config would make another, failed only where it fails now."""
    told = stale.get(str(artefact))
    if told is None or artefact.state not in ("whole", "failed", "unfinished"):
        return artefact
    if told == NOT_THERE:
        return artefact._replace(state="unfinished", told=f"{told}; train.py begins anew")
    return artefact._replace(state="stale", told=told)


def _studies(store: Store) -> Iterator[Artefact]:
    for path in sorted(store.studies_folder.glob("*.log")):
        yield judge(f"studies/{path.name}", partial(check_journal, path, path.stem))


def _stale_folds(config: Config, store: Store) -> tuple[dict[str, str], str]:
    """Folds that would be trained otherwise now; and why this could not be told, if so."""
    try:
        if not (config.data_dir / config.data.train).exists():  # the demo's would be made
            return {}, f"there is no {config.data_dir / config.data.train}"
        members = config.resolve_members()
        located = check_members(config, members)
        competition = load_competition(config, store)
        folds = range(competition.n_folds)
        first, then = plan_jobs(config, competition, store, located, members, folds)
    except UserError as error:
        return {}, str(error)
    statuses = {job.name: job.status(store) for job in [*first, *then]}
    stale = {
        name: status.message.removeprefix(f"{name} ").removeprefix("is stale: ")
        for name, status in statuses.items()
        if status.state == "stale"
    }
    for job in then:
        status = statuses[job.name]
        unlike = status.state == "missing" and not status.failed
        if unlike and job.files(store).failure():
            stale[job.name] = NOT_THERE
    return stale, ""


def _stale_rest(store: Store) -> Iterator[tuple[str, str]]:
    """The blend where its members have changed since, submissions where the blend has."""
    try:
        blend = store.read_blend()
        changes = list(_changed_members(store, blend.members))
        submission = read_raw(store.submission_path.with_suffix(".json"))
        if changes:
            more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
            yield "blend.json", f"made of {changes[0]} since{more}; run blend.py again"
        if submission and submission["blend"]["written"] != blend.provenance.written:
            yield store.submission_path.name, "made from an older blend; run infer.py again"
    except (UserError, KeyError, TypeError, AttributeError):
        return  # damaged, which the survey tells


def _changed_members(store: Store, members: Mapping[str, BlendMember]) -> Iterator[str]:
    for name, member in members.items():
        for fold, made_of in enumerate(member.origin.folds):
            try:
                card = store.fold_card(name, fold)
            except DamagedError:
                continue
            now = card and (card.files.weights.sha256, card.files.oof.sha256)
            if now != (made_of.weights_sha256, made_of.oof_sha256):
                yield f"{name} fold {fold}, which was {'trained again' if card else 'lost'}"
        for file in filter(None, (member.origin.oof_file, member.origin.test_file)):
            path = Path(file.path)
            if not path.is_file():
                yield f"{path}, which is gone"
            elif sha256(path) != file.sha256:
                yield f"{path}, which has changed"


def _table(found: Sequence[Artefact]) -> Iterator[str]:
    """A line per place, state and kind, with the numbers of the folds; places stand once."""
    rows: list[tuple[str, str, str]] = []
    shown = sorted((a for a in found if a.state != "left over"), key=_order)
    for (place, state, kind), group in groupby(shown, lambda a: (_shown(a), a.state, a.kind)):
        numbers = [artefact.fold for artefact in group]
        what = f"{kind} {_ranges(numbers)}" if kind else f"{len(numbers)}" if "*" in place else ""
        rows.append((place, state, what))
    width = max((len(place) for place, _, _ in rows), default=0)
    last = ""
    for place, state, what in rows:
        yield f"{'' if place == last else place:<{width}}  {state:<11}  {what}".rstrip()
        last = place


def _shown(artefact: Artefact) -> str:
    """The place; one for all that are many of a kind, unless something is the matter with one."""
    if artefact.state != "whole":
        return artefact.place
    return re.sub(r"(?<=^submission-).*(?=\.csv)|(?<=^studies/).*(?=\.log)", "*", artefact.place)


def _order(artefact: Artefact) -> tuple[int, str, int, str, int]:
    """Folds, members, then what is made of them, as the commands write them."""
    backbones = (BACKBONE, BACKBONE_CHECKPOINT)
    ends = ("folds.csv", *backbones, "", "studies/", "blend.json", PSEUDO, "submission")
    first = (
        ends.index("")
        if artefact.kind
        else next(n for n, e in enumerate(ends) if e and artefact.place.startswith(e))
    )
    kinds = ("", FOLD, CHECKPOINT, TEST, *VECTORS.values())
    return first, _shown(artefact), kinds.index(artefact.kind), artefact.state, artefact.fold


def _ranges(numbers: Sequence[int]) -> str:
    """`0, 2 to 4`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


def _wrapped(line: str) -> str:
    return textwrap.fill(
        line, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def _mending(found: Sequence[Artefact], store: Store) -> str:
    """The commands that mend all that is wrong, in their order."""
    wrong = [artefact for artefact in found if artefact.state in WRONG]
    places = {artefact.place for artefact in wrong}
    if "folds.csv" in places:
        return "mend folds.csv first, as is said above"
    if any(place.startswith(PSEUDO) for place in places):
        return "mend the pseudo-labels first, as is said above"
    folds = {a.state for a in wrong if a.kind == FOLD or a.place.startswith(BACKBONE)}
    kinds = {artefact.kind for artefact in wrong}
    blend = store.blend_path.exists() and "stale" in folds
    blend |= any(place.startswith(("blend.json", "studies/")) for place in places)
    infer = store.submission_path.exists() and blend
    infer |= TEST in kinds or any(place.startswith("submission") for place in places)
    checkpoints = CHECKPOINT in kinds or any(p.startswith(BACKBONE_CHECKPOINT) for p in places)
    commands = ["train.py --overwrite"] if folds else ["train.py"] if checkpoints else []
    vectors = not kinds.isdisjoint(VECTORS.values())
    commands += ["blend.py"] * blend + ["infer.py"] * infer + ["infer.py --vectors"] * vectors
    run = " && ".join(f"python {command}" for command in commands)
    return f"to mend it: {run} (with the same --config and --set)"
