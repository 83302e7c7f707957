"""The tables, folds and backbones of a training, loaded with the same functions."""

from __future__ import annotations

from collections.abc import Iterator

from poolblend.doctor.checks import Finding, Run, check, fail, no_network, ok, warn
from poolblend.errors import UserError


@check("tables", fix="correct the file that is named, or the config's `data` section")
def tables(run: Run) -> Iterator[Finding]:
    """The tables can be read, and existing folds belong to their ids."""
    from poolblend.loading.competition import try_folds

    competition, folder = run.competition, run.config.data_dir
    try_folds(competition)
    n_train, n_test = len(competition.tables.train), len(competition.tables.test)
    made = "" if folder.exists() else ", the demo competition, which the first run makes"
    yield ok(f"{n_train} train and {n_test} test rows in {folder}{made}")
    state = "of the train table's ids" if run.store.folds_path.exists() else "not made yet"
    yield ok(f"{competition.n_folds}, {state}", "folds")


@check(
    "backbone",
    fix="correct what is named; if the backbone itself is missing or damaged, install it again, or "
    "download it on a machine with a network and set `backbone` to its folder",
)
def backbones(run: Run) -> Iterator[Finding]:
    """Each member can be loaded without a network, trained for a step, saved and loaded again."""
    from poolblend.jobs.context import Context
    from poolblend.jobs.job import Job
    from poolblend.jobs.planning import plan_jobs
    from poolblend.jobs.rehearsal import rehearse_jobs
    from poolblend.jobs.watch import Watch
    from poolblend.loading.models import backbones_of
    from poolblend.training.devices import device_works

    members, located = run.members, run.located
    if not located:
        yield ok("none is needed: no member has an encoder")
        return
    try:
        competition = run.competition
    except UserError:
        yield warn("not tested: the tables cannot be read", "fix what failed above")
        return
    if not device_works():
        yield warn("not tested: the device fails", "fix what failed above")
        return
    first, folds = plan_jobs(run.config, competition, run.store, located, members, [0])
    jobs: list[Job] = [*first, *folds]
    sources = backbones_of(members, located)
    context = Context(run.config, competition, run.store, sources, Watch())
    with no_network():
        rehearsed, unable = rehearse_jobs(context, jobs)
    reasons = list(dict.fromkeys(unable.values()))
    if reasons:
        more = f" ({len(reasons) - 1} more)" if len(reasons) > 1 else ""
        yield fail(f"{reasons[0]}{more}", backbones.fix)
        return
    yield ok(f"trained on two rows, saved and loaded, offline: {', '.join(located)}")
    pairs = zip(jobs, rehearsed, strict=True)
    slow = [tried.name for job, tried in pairs if tried.precision != job.precision]
    if slow:
        yield warn(f"{', '.join(slow)}: fp32, as half precision fails", "nothing, or another one")
