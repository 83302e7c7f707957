"""`train.py --check`: is any stored file damaged, or stale for the current config?"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from poolblend.cards.blend import BlendMember
from poolblend.cards.fold_names import REFIT, fold_name
from poolblend.cards.submission import SubmissionCard
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.jobs.job import FoldJob
from poolblend.jobs.planning import plan_jobs
from poolblend.loading.competition import load_competition, open_store
from poolblend.loading.models import check_members
from poolblend.printing import aligned, wrapped
from poolblend.store import DamagedError, Store, sha256
from poolblend.store.cards import read_card
from poolblend.store.survey import Artefact, State, survey

WRONG = ("damaged", "stale")
OTHER_INPUTS = "failed from other inputs; train.py starts from the beginning"
# The command that makes each kind of artefact again.
COMMANDS = {
    "backbones": "train.py --overwrite",
    "fold models": "train.py --overwrite",
    "checkpoints": "train.py",
    "blend": "blend.py",
    "models of all rows": "train.py --fold refit --overwrite",
    "test predictions": "infer.py",
    "submissions": "infer.py",
    "vectors": "infer.py --vectors",
}


def check(config: Config) -> None:
    """Print the state of all artefacts of the run; nothing is written.

    Raises UserError if any is damaged or stale, with the commands that make it again.
    """
    store = open_store(config)
    found = list(survey(store))
    if not found:
        print(f"nothing is stored yet for run {store.run} in {store.root}")
        return
    stale, unknown = _stale_jobs(config, store)
    stale |= dict(_stale_results(store))
    found = [_compared(artefact, stale) for artefact in found]
    print(f"run {store.run} in {store.root}\n")
    print("\n".join(_table(found)))
    lines = [f"{a.state}: {a.name}: {a.message}" for a in found if a.state != "whole"]
    if unknown:
        lines.append(f"whether folds are stale is unknown: {unknown}")
    for line in lines:
        print("\n" + "\n".join(wrapped(line.replace(f"{store.root}{os.sep}", ""))))
    wrong = Counter(artefact.state for artefact in found if artefact.state in WRONG)
    if wrong:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(wrong.items()))
        raise UserError(f"{counts} of {len(found)} artefacts; {_remedy(found, store)}")


def _compared(artefact: Artefact, stale: Mapping[str, str]) -> Artefact:
    """The artefact, marked as stale if the config would make another one."""
    message = stale.get(artefact.name)
    if message is None or artefact.state not in ("whole", "failed", "unfinished"):
        return artefact
    state: State = "unfinished" if message == OTHER_INPUTS else "stale"
    return artefact._replace(state=state, message=message)


def _stale_jobs(config: Config, store: Store) -> tuple[dict[str, str], str]:
    """The stale trainings with their reasons, by name; why they are unknown, or ""."""
    if not (config.data_dir / config.data.train).exists():  # reading would make the demo tables
        return {}, f"there is no {config.data_dir / config.data.train}"
    try:
        members = config.resolve_members()
        located = check_members(config, members)
        competition = load_competition(config, store)
        folds = [*range(competition.n_folds), REFIT]
        first, then = plan_jobs(config, competition, store, located, members, folds)
    except UserError as error:
        return {}, str(error)
    stale = {}
    for job in [*first, *then]:
        status = job.status(store)
        if status.state == "stale":
            stale[job.name] = status.message.removeprefix(f"{job.name} ").removeprefix("is stale: ")
        elif status.state == "missing" and not status.failed and isinstance(job, FoldJob):
            # A failure from the same inputs would be in the status.
            stale |= {job.name: OTHER_INPUTS} if job.files(store).failure() else {}
    return stale, ""


def _stale_results(store: Store) -> Iterator[tuple[str, str]]:
    """The blend if its members have changed, and the submission if the blend has changed."""
    try:
        blend = store.read_blend()
        changes = list(_changed_members(store, blend.members))
        submission = read_card(store.submission_path.with_suffix(".json"), SubmissionCard)
    except UserError:
        return  # the survey reports the damage
    if changes:
        more = f" and {len(changes) - 1} more" if len(changes) > 1 else ""
        yield "blend.json", f"since then, {changes[0]}{more}; run blend.py again"
    if submission and submission.blend.written != blend.provenance.written:
        yield store.submission_path.name, "made from an older blend; run infer.py again"


def _changed_members(store: Store, members: Mapping[str, BlendMember]) -> Iterator[str]:
    for name, member in members.items():
        for fold, made_of in member.origin.models.items():
            try:
                card = store.fold(name, fold).card()
            except DamagedError:
                continue
            now = card and (card.files.weights.sha256, card.files.oof.sha256)
            if now != (made_of.weights_sha256, made_of.oof_sha256):
                yield f"{name} {fold_name(fold)} was {'trained again' if card else 'lost'}"
        for file in filter(None, (member.origin.oof_file, member.origin.test_file)):
            path = Path(file.path)
            if not path.is_file():
                yield f"{path} was removed"
            elif sha256(path) != file.sha256:
                yield f"{path} has changed"


def _table(found: Sequence[Artefact]) -> list[str]:
    """A line per kind of artefact, with the number of artefacts in each state."""
    rows = []
    for kind in dict.fromkeys(artefact.kind for artefact in found):
        states = Counter(artefact.state for artefact in found if artefact.kind == kind)
        rows.append([kind, ", ".join(f"{count} {state}" for state, count in states.items())])
    return aligned(rows)


def _remedy(found: Sequence[Artefact], store: Store) -> str:
    """The commands, in order, that make all wrong artefacts again."""
    wrong = [artefact for artefact in found if artefact.state in WRONG]
    for kind in ("folds", "pseudo-labels"):
        if any(artefact.kind == kind for artefact in wrong):
            return f"repair the {kind} first, as described above"
    needed = {COMMANDS[artefact.kind] for artefact in wrong}
    stale_folds = any(a.state == "stale" and a.kind in ("fold models", "backbones") for a in wrong)
    if stale_folds and store.blend_path.exists():
        needed.add("blend.py")
    if "blend.py" in needed and store.submission_path.exists():
        needed.add("infer.py")
    if "train.py --overwrite" in needed:
        needed.discard("train.py")
    commands = [command for command in dict.fromkeys(COMMANDS.values()) if command in needed]
    run = " && ".join(f"python {command}" for command in commands)
    return f"to repair it: {run} (with the same --config and --set)"
