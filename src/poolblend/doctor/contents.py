"""What the run works with: tables, folds, backbones, and the fold models that are there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from poolblend.config import Member
from poolblend.doctor.checks import (
    Finding,
    Run,
    check,
    fail,
    failure,
    ok,
    size,
    source_of,
    warn,
)
from poolblend.errors import UserError

if TYPE_CHECKING:
    from poolblend.modeling.sources import Located


@check("tables", fix="mend the file, or the config's `data` section")
def tables(run: Run) -> Iterator[Finding]:
    """The tables are read and checked, and frozen folds are of their ids."""
    from poolblend.loading.competition import read_tables, with_folds
    from poolblend.loading.prechecks import try_folds

    data, folder = run.config.data, run.config.data_dir
    names = (data.train, data.test, data.sample_submission)
    if data.demo and not any((folder / name).exists() for name in names):
        yield ok("the demo competition; the first run makes it")
        return
    # Without `demo` nothing is made, whatever of it is there.
    config = run.config.model_copy(update={"data": data.model_copy(update={"demo": False})})
    tabled = read_tables(config)
    rows = f"{len(tabled.tables.train)} train and {len(tabled.tables.test)} test rows"
    yield ok(f"{rows} in {folder}")
    if not run.store.folds_path.exists():
        yield ok("the first run makes them", "folds")
        return
    try:
        competition = with_folds(tabled, config, run.store, make_folds=True)  # which there are
        try_folds(competition)
    except UserError as error:
        yield failure(
            error,
            "restore that file or the data, or use a new `run`, which makes folds of its own",
            "folds",
        )
    else:
        yield ok(f"{competition.n_folds}, of the train table's ids", "folds")


@check(
    "backbone",
    fix="what the line says; where the backbone itself is missing or damaged, install it anew, or "
    "fetch it where there is a network and set `backbone` to its folder",
)
def backbones(run: Run) -> Iterator[Finding]:
    """Each backbone loads without a network, and every member on it can be trained and saved."""
    import torch

    from poolblend.modeling import backbone
    from poolblend.training.devices import device_works
    from poolblend.training.memory import TooLittleMemoryError

    too_large = (MemoryError, torch.OutOfMemoryError, TooLittleMemoryError)

    for source, located in run.located.items():
        members = [member for member in run.members if source_of(member) == source]
        name = members[0].backbone.name
        try:
            if isinstance(located, Exception):
                raise located
            if not device_works():  # of which another check tells
                backbone.load(located.folder, remote_code=run.config.remote_code)
                yield warn(f"{name} is not tried: the device fails", "mend what failed above")
                continue
            note = _rehearsed(run, located, members)
        except ImportError:
            raise
        except Exception as error:
            if isinstance(error, too_large):
                yield fail(f"{name} does not fit into memory", "take a smaller one, or free memory")
            else:
                yield failure(error, backbones.fix)
        else:
            weights = size(run.weights.get(source, 0))
            count = f"{len(members)} member{'s' if len(members) > 1 else ''}"
            tried = f"{name}: {weights}, loaded offline; {count} trained on two rows, saved, loaded"
            yield warn(f"{tried}; {note}", "nothing, or another backbone") if note else ok(tried)


def _rehearsed(run: Run, located: Located, members: Sequence[Member]) -> str:
    """Which of them compute in fp32 as half precision fails; UserError for one that cannot work."""
    from poolblend.jobs.context import Context
    from poolblend.jobs.job import FoldJob
    from poolblend.jobs.planning import plan_jobs
    from poolblend.jobs.rehearsal import rehearse_jobs
    from poolblend.jobs.watch import Watch
    from poolblend.loading.competition import planned_competition
    from poolblend.loading.models import check_members

    found = check_members(run.config, members)
    competition = planned_competition(run.config, run.store)
    backbones = {member.backbone: located for member in members}
    context = Context(run.config, competition, run.store, backbones, Watch())
    jobs = plan_jobs(run.config, competition, run.store, found, members, [0])[1]
    todo, unable = rehearse_jobs(context, jobs)
    if unable:
        raise UserError(next(iter(unable.values())))
    slow = [
        job.member.name
        for job in todo
        if isinstance(job, FoldJob) and job.precision != job.member.train.precision
    ]
    return f"{', '.join(slow)} computes in fp32, as half precision fails" if slow else ""


@check("fold models", fix="python train.py --check, which reads every file")
def fold_models(run: Run) -> Iterator[Finding]:
    """How many fold models are finished, and whether their cards are whole."""
    total = len(run.members) * run.config.folds.n
    told = f"{total - len(run.unfinished)} of {total} are finished"
    damaged = [error for *_, error in run.unfinished if error]
    if damaged:
        others = f"; and {len(damaged) - 1} more" if damaged[1:] else ""
        first = failure(damaged[0], "").found
        yield fail(
            f"{told}; {first}{others}",
            "python train.py --check names all that is damaged, train.py --overwrite trains it",
        )
        return
    yield ok(told + "; python train.py --check reads every byte of them" * (told[0] != "0"))
    notes = [run.store.fold(member.name, fold).failure() for member, fold, _ in run.unfinished]
    failed = [note.reason for note in notes if note]
    if failed:
        yield warn(
            f"{len(failed)} failed before, the first for this reason: {failed[0]}",
            "mend that; train.py tries them again, with --skip-failed it leaves them out",
        )
