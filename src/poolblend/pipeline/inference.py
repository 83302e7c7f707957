"""`infer.py`: run the fold models that the blend gives weight to; the submission, other rows.

The settings of each model, and how it reads texts, come from the cards beside the weights.

Shape legend: N rows, M members, K outputs.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.cards.provenance import Provenance, now
from poolblend.cards.submission import BlendInUse, SubmissionCard
from poolblend.competition.files import header
from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.possible import only_possible
from poolblend.competition.submission import decided_labels, fill_submission, try_submission
from poolblend.competition.tables import Unlabelled, parse_column, read_table
from poolblend.competition.templates import target_table, text_columns
from poolblend.config import Config, Workers
from poolblend.ensembling.resampling import bootstrap
from poolblend.errors import UserError
from poolblend.jobs.blend_plan import read_blend, warn_of_other_labels
from poolblend.jobs.inference_time import time_members, total
from poolblend.jobs.predict_job import plan_predictions
from poolblend.jobs.predictions import (
    load_new,
    load_unlabelled,
    possible_of,
    predict_members,
    predict_new,
    test_rows,
)
from poolblend.loading.competition import open_store, table_hashes, table_sha256
from poolblend.printing import duration
from poolblend.store import Store, write_csv
from poolblend.store.predictions import PREFIX
from poolblend.store.probe import check_writable
from poolblend.store.read_only import only_read
from poolblend.training.devices import choose_device

log = logging.getLogger(__name__)

ELSEWHERE = (
    "set another folder for submissions with --set output=DIR, or name a file with --out FILE; the "
    "models need not move"
)


def infer(
    config: Config,
    *,
    members_from: str | None = None,
    workers: Workers = 1,
    out: str | Path | None = None,
    end: float | None = None,
    refit: bool = False,
) -> Path:
    """Write the submission, as `write_submission` does, and print what it holds; its path."""
    path, text = write_submission(
        config, members_from=members_from, workers=workers, out=out, end=end, refit=refit
    )
    print(text)
    return path


def write_submission(
    config: Config,
    *,
    members_from: str | None = None,
    workers: Workers = 1,
    out: str | Path | None = None,
    end: float | None = None,
    refit: bool = False,
) -> tuple[Path, str]:
    """Predict the test rows with the members that have weight, and write the submission.

    Returns the submission's path, and the text that infer.py prints. `members_from` is the new
    folder of the files given to `blend`, if they have moved; `workers` is how many processes
    predict. With `out`, the submission is written to that file alone, and the store is only read.
    `end` is a time on the monotonic clock: without `out`, Stopped is raised before it, and the next
    call continues; with `out`, each member is then the mean over those of its fold models that are
    done. With `refit`, members' models of all rows predict instead of those of the folds, as
    `with_refits` says. Needs the test table, the sample submission, the models and the blend card,
    but not the train table. Raises UserError for models that are damaged or were trained after the
    blend, and for a submission that would not be accepted.
    """
    with ExitStack() as stack:
        store = open_store(config)
        if out is None:
            check_writable([store.submission_path.parent], ELSEWHERE)
        else:
            _check_out(config, out := Path(out).expanduser())
            store = stack.enter_context(only_read(store))
        return _write(config, store, members_from, workers, out, end, refit)


def _write(
    config: Config,
    store: Store,
    members_from: str | None,
    workers: Workers,
    out: Path | None,
    end: float | None,
    refit: bool,
) -> tuple[Path, str]:
    moved_to = Path(members_from).expanduser() if members_from else None
    card, mixture = read_blend(store, refit=refit)
    warn_of_other_labels(card, config.data.possible)
    members, task = card.used_members, card.task
    tables = load_unlabelled(config, store, {name: m.origin for name, m in members.items()})
    filling = try_submission(task, tables, config.submission, card.metric)
    scorer = make_scorer(card.metric, task, config.metric_by)
    hidden_y = _hidden_labels(config, scorer, tables) if config.data.test_labels else None
    log.info("running %d of %d members", len(members), len(card.members))
    pred_MNK = predict_members(config, store, tables, task, members, moved_to, workers, end)
    possible_NK = possible_of(config, task, tables.test)
    pred_NK = only_possible(mixture.apply(pred_MNK), possible_NK)
    if filling.values == "probabilities" and mixture.space.name == "rank":
        log.info("the blend averages ranks: the submission holds ranks from 0 to 1")
    submission = fill_submission(task, filling, tables, config.submission, pred_NK, mixture.cuts)
    # pandas names a column that has no name; the file gets the header of the sample submission.
    submission.columns = header(config.data_dir / config.data.sample_submission)
    if out is not None:
        write_csv(out, submission)
    path = out or store.write_submission(
        submission,
        lambda file: SubmissionCard(
            run=config.run,
            values=filling.values,
            columns={column: source.name for column, source in filling.sources.items()},
            positive=card.positive,
            blend=BlendInUse.of(card),
            weights={name: member.weight for name, member in members.items()},
            refit=tuple(name for name, each in members.items() if each.origin.refit),
            test_sha256=table_sha256(config.data_dir / config.data.test),
            rows=len(submission),
            device=choose_device().type,
            provenance=Provenance.here(),
            file=file,
        ),
        now(),
    )
    lines = [f"blend: {card.describe()}"]
    if refits := [name for name, each in members.items() if each.origin.refit]:
        score = "the score is that of their folds' models"
        lines.append(f"by models of all rows: {', '.join(refits)}; {score}")
    if hidden_y is not None:
        lines.append(_hidden_score(scorer, hidden_y, scorer.metric_inputs(pred_NK, mixture.cuts)))
    lines.append(f"\nsubmission: {path} ({len(submission)} rows)")
    return path, "\n".join(lines)


def predict(
    config: Config, frame: pd.DataFrame, *, workers: Workers = 1, refit: bool = False
) -> pd.DataFrame:
    """The blend's predictions of any rows with the competition's columns of text; none is stored.

    Rows and index are the frame's. The columns are the id, if it is one, `pred_<output>` for each
    output, and where predictions become labels `label`, or `label_<target>` for each of
    several targets. Raises UserError for columns that are missing, and for members from elsewhere.
    """
    with only_read(open_store(config)) as store:
        card, mixture = read_blend(store, refit=refit)
        members, task = card.used_members, card.task
        table = load_new(config, store, {name: m.origin for name, m in members.items()}, frame)
        pred_NK = mixture.apply(predict_new(config, store, table, task, members, workers))
        pred_NK = only_possible(pred_NK, possible_of(config, task, table))
    id = config.data.id
    found: dict[Any, Any] = {id: frame[id].to_numpy()} if id in frame.columns else {}
    found |= {f"{PREFIX}{output}": pred_NK[:, k] for k, output in enumerate(task.outputs)}
    if task.kind != "regression":
        labels = decided_labels(task, pred_NK, mixture.cuts)
        one = labels.shape[1] == 1
        names = ["label"] if one else [f"label_{target}" for target in task.targets]
        found |= {name: labels[:, k] for k, name in enumerate(names)}
    return pd.DataFrame(found, frame.index)


def estimate(
    config: Config,
    times: int,
    *,
    workers: Workers = 1,
    limit: float | None = None,
    refit: bool = False,
) -> float:
    """Print how long the fold models take for the test rows, and for `times` as many; seconds.

    Raises UserError where the latter is above `limit` seconds.
    """
    if times < 1:
        raise UserError(f"--estimate {times}: expected how many times the test rows, from 1")
    with only_read(open_store(config)) as store:
        members = read_blend(store, refit=refit)[0].used_members
        origins = {name: member.origin for name, member in members.items()}
        rows = test_rows(config, load_unlabelled(config, store, origins))
        hashes = table_hashes(config, "test")
        jobs = plan_predictions(config, origins, "test", "predictions", hashes)
        speeds = time_members(config, store, rows, origins)
    n_rows = len(rows.ids_N)
    now, then = (total(jobs, speeds, n, workers) for n in (n_rows, times * n_rows))
    print(
        f"about {duration(now)} for {len(jobs)} fold models and {n_rows:,} rows; "
        f"about {duration(then)} for {times:,} times as many rows"
    )
    if limit is not None and then > limit:
        raise UserError(
            f"about {duration(then)} for {times * n_rows:,} rows are above the time limit of "
            f"{duration(limit)}: blend fewer members, or members with shorter texts or a smaller "
            "backbone"
        )
    return then


def _check_out(config: Config, out: Path) -> None:
    """Refuse a place where no submission can or should be written."""
    if out.is_dir():
        raise UserError(f"--out {out} is a folder; name a file in it, such as {out}/submission.csv")
    data, file = config.data, out.resolve()
    names = [data.train, data.test, data.sample_submission, data.test_labels]
    names += [name for join in data.joins for name in (join.table("train"), join.table("test"))]
    tables = [(config.data_dir / name).resolve() for name in names if name]
    if any(file.is_relative_to(table) for table in tables):  # which may be a folder
        raise UserError(f"--out {out} is a table of the competition; name another file")
    check_writable([out.parent], "name a file in another folder with --out")


def _hidden_labels(config: Config, scorer: Scorer, tables: Unlabelled) -> np.ndarray:
    """The labels of `data.test_labels` in the order of test's rows, as the scorer needs them."""
    target, id, ids = config.data.target, tables.id, tables.test[tables.id]
    path = config.data_dir / str(config.data.test_labels)
    labels = read_table(path)
    lacking = {id, *text_columns(target)} - set(labels)
    if lacking:
        raise UserError(f"{path} has no column '{min(lacking)}', which scoring needs")
    labels = labels.set_index(id)
    if labels.index.has_duplicates or set(labels.index) != set(ids):
        raise UserError(f"the ids of {path} are not those of the test table, each once")
    answers = target_table(labels.loc[ids], target).apply(parse_column).reset_index(drop=True)
    if scorer.by is not None and scorer.by in tables.test:
        answers[scorer.by] = tables.test[scorer.by].to_numpy()
    return scorer.truth(answers)


def _hidden_score(scorer: Scorer, y: np.ndarray, inputs: np.ndarray) -> str:
    """The submission's score against labels that were kept aside, with an interval."""
    try:
        score = scorer.score_inputs(y, inputs)
        sign = -1 if scorer.better == "max" else 1
        low, high = np.quantile(sign * bootstrap(y, [inputs], scorer)[0], [0.025, 0.975])
    except UserError as error:
        return f"\nsubmission against the hidden labels: {error}"
    return (
        f"\nsubmission against the hidden labels: {scorer.label} {score:.4f} "
        f"(95 % interval {low:.4f} to {high:.4f})"
    )
