"""What a training loads: tables, folds and backbones, by the functions that it loads them with."""

from __future__ import annotations

from collections.abc import Iterator

from poolblend.doctor.checks import Finding, Run, check, fail, failure, no_network, ok, warn
from poolblend.errors import UserError


@check("tables", fix="correct the file, or the config's `data` section")
def tables(run: Run) -> Iterator[Finding]:
    """The tables can be read, and existing folds belong to their ids."""
    from poolblend.loading.competition import read_tables, with_folds
    from poolblend.loading.prechecks import try_folds

    data, folder = run.config.data, run.config.data_dir
    names = (data.train, data.test, data.sample_submission)
    if data.demo and not any((folder / name).exists() for name in names):
        yield ok("the demo competition; the first run makes it")
        return
    # Without `demo`, reading makes no tables.
    config = run.config.model_copy(update={"data": data.model_copy(update={"demo": False})})
    tabled = read_tables(config)
    n_train, n_test = len(tabled.tables.train), len(tabled.tables.test)
    yield ok(f"{n_train} train and {n_test} test rows in {folder}")
    if not run.store.folds_path.exists():
        yield ok("the first run makes them", "folds")
        return
    try:
        competition = with_folds(tabled, config, run.store, make_folds=True)  # they exist: read
        try_folds(competition)
    except UserError as error:
        advice = "restore that file or the data, or use a new `run`, which makes its own folds"
        yield failure(error, advice, "folds")
    else:
        yield ok(f"{competition.n_folds}, of the train table's ids", "folds")


@check(
    "backbone",
    fix="what the line says; where the backbone itself is missing or damaged, install it again, or "
    "download it where there is a network and set `backbone` to its folder",
)
def backbones(run: Run) -> Iterator[Finding]:
    """Each member can be loaded without a network, trained a step, saved and loaded again."""
    from poolblend.competition.tasks import Task
    from poolblend.jobs.rehearsal import rehearse_all
    from poolblend.training.devices import device_works

    config, located = run.config, run.located
    if not device_works():  # which another check reports
        yield warn("not tested: the device fails", "fix what failed above")
        return
    classes = () if config.task == "regression" else (0, 1)
    task = Task(config.task, tuple(config.data.target), classes)
    with no_network():
        rehearsed = rehearse_all(config, task, run.members, located)
    reasons = list(rehearsed.unable.values())
    if reasons:
        more = f" ({len(reasons) - 1} more members fail)" if len(reasons) > 1 else ""
        yield fail(f"{reasons[0]}{more}", backbones.fix)
        return
    yield ok(f"{len(run.members)} members trained on two rows, saved and loaded, offline")
    slow = [m.name for m in run.members if rehearsed.precisions[m.name] != m.train.precision]
    if slow:
        names = ", ".join(slow)
        yield warn(f"{names}: fp32, as half precision fails", "nothing, or another backbone")
