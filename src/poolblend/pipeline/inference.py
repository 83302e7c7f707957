"""`infer.py`: run the fold models that the blend gives weight to; the submission, other rows.

The settings of each model, and how it reads texts, come from the cards beside the weights.

Shape legend: N rows, M members, K outputs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.cards.provenance import Provenance, now
from poolblend.cards.submission import BlendInUse, SubmissionCard
from poolblend.competition.files import header
from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.submission import decided_labels, fill_submission, try_submission
from poolblend.competition.tables import parse_column, read_table
from poolblend.config import Config, Workers
from poolblend.ensembling.resampling import bootstrap
from poolblend.errors import UserError
from poolblend.jobs.blend_plan import read_blend
from poolblend.jobs.predictions import (
    load_new,
    load_unlabelled,
    predict_members,
    predict_new,
)
from poolblend.loading.competition import open_store, table_sha256
from poolblend.store.predictions import PREFIX
from poolblend.store.probe import check_writable
from poolblend.training.devices import choose_device

log = logging.getLogger(__name__)

ELSEWHERE = "set another folder for submissions with --set output=DIR; the models need not move"


def infer(config: Config, *, members_from: str | None = None, workers: Workers = 1) -> Path:
    """Write the submission, as `write_submission` does, and print what it holds; its path."""
    path, text = write_submission(config, members_from=members_from, workers=workers)
    print(text)
    return path


def write_submission(
    config: Config, *, members_from: str | None = None, workers: Workers = 1
) -> tuple[Path, str]:
    """Predict the test rows with the members that have weight, and write the submission.

    Returns the submission's path, and the text that infer.py prints. `members_from` is the new
    folder of the files given to `blend`, if they have moved; `workers` is how many processes
    predict. Needs the test table, the sample submission, the models and the blend card, but not the
    train table. Raises UserError for models that are damaged or were trained after the blend, and
    for a submission that would not be accepted.
    """
    store = open_store(config)
    moved_to = Path(members_from).expanduser() if members_from else None
    card, mixture = read_blend(store)
    members, task = card.used_members, card.task
    check_writable([store.submission_path.parent], ELSEWHERE)
    tables = load_unlabelled(config, store, {name: m.origin for name, m in members.items()})
    filling = try_submission(task, tables, config.submission, card.metric)
    scorer = make_scorer(card.metric, task)
    ids = tables.test[tables.id]
    hidden_y = _hidden_labels(config, scorer, ids) if config.data.test_labels else None
    log.info("running %d of %d members", len(members), len(card.members))
    pred_MNK = predict_members(config, store, tables, task, members, moved_to, workers)
    pred_NK = mixture.apply(pred_MNK)
    if filling.values == "probabilities" and mixture.space.name == "rank":
        log.info("the blend averages ranks: the submission holds ranks from 0 to 1")
    submission = fill_submission(task, filling, tables, config.submission, pred_NK, mixture.cuts)
    # pandas names a column that has no name; the file gets the header of the sample submission.
    submission.columns = header(config.data_dir / config.data.sample_submission)
    path = store.write_submission(
        submission,
        lambda file: SubmissionCard(
            run=config.run,
            values=filling.values,
            columns={column: source.name for column, source in filling.sources.items()},
            positive=card.positive,
            blend=BlendInUse.of(card),
            weights={name: member.weight for name, member in members.items()},
            test_sha256=table_sha256(config.data_dir / config.data.test),
            rows=len(submission),
            device=choose_device().type,
            provenance=Provenance.here(),
            file=file,
        ),
        now(),
    )
    lines = [f"blend: {card.describe()}"]
    if hidden_y is not None:
        lines.append(_hidden_score(scorer, hidden_y, scorer.metric_inputs(pred_NK, mixture.cuts)))
    lines.append(f"\nsubmission: {path} ({len(submission)} rows)")
    return path, "\n".join(lines)


def predict(config: Config, frame: pd.DataFrame, *, workers: Workers = 1) -> pd.DataFrame:
    """The blend's predictions of any rows with the competition's columns of text; none is stored.

    Rows and index are the frame's. The columns are the id, if it is one, `pred_<output>` for each
    output, and where predictions become labels `label`, or `label_<target>` for each of
    several targets. Raises UserError for columns that are missing, and for members from elsewhere.
    """
    store = open_store(config.model_copy(update={"cache_gb": 0.0}))
    card, mixture = read_blend(store)
    members, task = card.used_members, card.task
    table = load_new(config, store, {name: m.origin for name, m in members.items()}, frame)
    pred_NK = mixture.apply(predict_new(config, store, table, task, members, workers))
    id = config.data.id
    found: dict[Any, Any] = {id: frame[id].to_numpy()} if id in frame.columns else {}
    found |= {f"{PREFIX}{output}": pred_NK[:, k] for k, output in enumerate(task.outputs)}
    if task.kind != "regression":
        labels = decided_labels(task, pred_NK, mixture.cuts)
        one = labels.shape[1] == 1
        names = ["label"] if one else [f"label_{target}" for target in task.targets]
        found |= {name: labels[:, k] for k, name in enumerate(names)}
    return pd.DataFrame(found, frame.index)


def _hidden_labels(config: Config, scorer: Scorer, ids: pd.Series) -> np.ndarray:
    """The labels of `data.test_labels` in the order of `ids`, as the scorer needs them."""
    task = scorer.task
    path = config.data_dir / str(config.data.test_labels)
    labels, id = read_table(path), str(ids.name)
    lacking = {id, *task.targets} - set(labels)
    if lacking:
        raise UserError(f"{path} has no column '{min(lacking)}', which scoring needs")
    labels = labels.set_index(id)
    if labels.index.has_duplicates or set(labels.index) != set(ids):
        raise UserError(f"the ids of {path} are not those of the test table, each once")
    return scorer.truth(labels.loc[ids, list(task.targets)].apply(parse_column))


def _hidden_score(scorer: Scorer, y: np.ndarray, inputs: np.ndarray) -> str:
    """The submission's score against labels that were kept aside, with an interval."""
    try:
        score = scorer.score_inputs(y, inputs)
        sign = -1 if scorer.better == "max" else 1
        low, high = np.quantile(sign * bootstrap(y, [inputs], scorer)[0], [0.025, 0.975])
    except UserError as error:
        return f"\nsubmission against the hidden labels: {error}"
    return (
        f"\nsubmission against the hidden labels: {scorer.name} {score:.4f} "
        f"(95 % interval {low:.4f} to {high:.4f})"
    )
