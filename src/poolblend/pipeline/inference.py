"""`infer.py`: run the fold models that the blend gives weight to, and write the submission.

Driven by cards: what a model is, and how texts become tokens, is read beside its weights.

Shape legend: N rows, M members, K outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from poolblend.cards.blend import MemberOrigin
from poolblend.cards.provenance import now, provenance
from poolblend.competition.files import header
from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.tables import Unlabelled, load_test, parse_column, read_table
from poolblend.competition.templates import text_columns
from poolblend.config import Config
from poolblend.ensembling.resampling import bootstrap
from poolblend.errors import UserError
from poolblend.jobs.blend_plan import check_unchanged, read_blend
from poolblend.jobs.test_predictions import predict_members
from poolblend.loading.competition import lookups, open_store
from poolblend.loading.submission_form import fill_submission, try_submission
from poolblend.store import Store, sha256
from poolblend.store.probe import check_writable
from poolblend.training.devices import choose_device

log = logging.getLogger(__name__)

ELSEWHERE = "submissions go to another folder with --set output=DIR, the models stay where they are"


def infer(config: Config, members_from: Path | None = None) -> Path:
    """Predict test with every fold model of weight, blend, write the submission; its path.

    Test predictions of members from elsewhere may have moved into the folder `members_from`.
    Needs the test table, the sample submission, the models and the blend card; not the train table.
    Raises UserError for models that are damaged or were trained since the blend, and for a
    submission that would not be accepted.
    """
    store = open_store(config)
    card, mixture = read_blend(store)
    members = card.used_members
    check_writable([store.submission_path.parent], ELSEWHERE)
    tables = load_unlabelled(
        config, store, {name: member.origin for name, member in members.items()}
    )
    task = card.task
    filling = try_submission(config, tables, task, card.metric)
    ids = tables.test[tables.id]
    scorer = make_scorer(card.metric, task)
    hidden_y = _hidden_labels(config, scorer, ids) if config.data.test_labels else None
    log.info("running %d of %d members", len(members), len(card.members))
    pred_MNK = predict_members(config, store, tables, task, members, members_from)
    pred_NK = mixture.apply(pred_MNK)
    if filling.values == "probabilities" and mixture.space.name == "rank":
        log.info("the blend averages ranks: the submission holds ranks from 0 to 1")
    submission = fill_submission(config, filling, tables, task, pred_NK, mixture.cuts)
    # A column without a name has one here, and goes without it into the file.
    submission.columns = header(config.data_dir / config.data.sample_submission)
    told = {
        "run": config.run,
        "values": filling.values,
        "columns": {column: source.name for column, source in filling.sources.items()},
        "positive": card.positive and card.positive._asdict(),
        "blend": card.summary().model_dump(),
        "weights": {name: member.weight for name, member in members.items()},
        "test_sha256": sha256(config.data_dir / config.data.test),
        "rows": len(submission),
        "device": choose_device().type,
    }
    path = store.write_submission(submission, told | provenance(), now())
    print(f"blend: {card.describe()}")
    if hidden_y is not None:
        print(_hidden_score(scorer, hidden_y, scorer.take(pred_NK, mixture.cuts)))
    print(f"\nsubmission: {path} ({len(submission)} rows)")
    return path


def load_unlabelled(
    config: Config, store: Store, origins: Mapping[str, MemberOrigin]
) -> Unlabelled:
    """The test table, with the columns that the members of a blend read, and the sample.

    Raises UserError for members that were trained since the blend.
    """
    data, folder = config.data, config.data_dir
    texts = (text_columns(check_unchanged(store, name, origin)) for name, origin in origins.items())
    return load_test(
        folder / data.test,
        folder / data.sample_submission,
        id=data.id,
        text=sorted({column for columns in texts for column in columns}),
        joins=lookups(config, "test"),
        numeric=data.numeric,
        categorical=data.categorical,
        submission_ids=config.submission.ids,
    )


def _hidden_labels(config: Config, scorer: Scorer, ids: pd.Series) -> np.ndarray:
    """The labels of test that were kept aside, as the scorer takes them, in the order of `ids`."""
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


def _hidden_score(scorer: Scorer, y: np.ndarray, taken: np.ndarray) -> str:
    """The submission's score against labels that were kept aside, with an interval."""
    try:
        score = scorer.score_taken(y, taken)
        sign = -1 if scorer.better == "max" else 1
        low, high = np.quantile(sign * bootstrap(y, [taken], scorer)[0], [0.025, 0.975])
    except UserError as error:
        return f"\nsubmission against the hidden labels: {error}"
    return (
        f"\nsubmission against the hidden labels: {scorer.name} {score:.4f} "
        f"(95 % interval {low:.4f} to {high:.4f})"
    )
