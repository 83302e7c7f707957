"""`infer.py`: run the fold models that the blend gives weight to, and write the submission.

Driven by cards: what a model is, and how texts become tokens, is read beside its weights.

Shape legend: N rows, M members, K outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.competition.metrics import METRICS, Scorer, make_scorer
from poolblend.competition.submission import build_submission, check_submission
from poolblend.competition.tables import load_test, parse_column, read_table
from poolblend.competition.tasks import Task
from poolblend.config import Config
from poolblend.ensembling.blenders import mix
from poolblend.ensembling.honesty import bootstrap
from poolblend.errors import UserError
from poolblend.pipeline.competition import (
    load_competition,
    open_store,
    restore_task,
    submission_values,
)
from poolblend.pipeline.foldmodels import FoldModels
from poolblend.pipeline.provenance import now, provenance
from poolblend.pipeline.report import show
from poolblend.pipeline.texts import Texts
from poolblend.store import Store, sha256
from poolblend.store.predictions import from_table, to_table
from poolblend.training.fit import choose_device

log = logging.getLogger(__name__)

# A model run again differs from its stored OOF predictions by nothing on the machine that trained
# it, and by the rounding of half precision elsewhere. More than this, as a probability or in
# standard deviations of a regression's predictions, means another model.
TOLERANCE = 0.05


def infer(config: Config) -> Path:
    """Predict test with every fold model of weight, blend, write the submission; its path.

    Needs the test table, the sample submission, the models and the blend card; not the train table.
    Raises UserError for models that are damaged or were trained since the blend, and for a
    submission that would not be accepted.
    """
    store = open_store(config)
    card = store.read_blend()
    weights, report = _read(card, store)
    data, folder = config.data, config.data_dir
    columns = sorted(
        {column for name in weights for column in _text_columns(store, name, card["members"][name])}
    )
    tables = load_test(
        folder / data.test, folder / data.sample_submission, id=data.id, text=columns
    )
    task = restore_task(card["task"])
    ids = tables.test[data.id]
    scorer = make_scorer(card["metric"], task)
    hidden_y = _hidden_labels(config, task, ids) if data.test_labels else None
    log.info("running %d of %d members", len(weights), len(card["members"]))
    pred_MNK = _predict_members(config, store, tables.test, card, list(weights))
    pred_NK = mix(np.array(list(weights.values())), pred_MNK)
    values = submission_values(config, card["metric"], tables.sample)
    submission = build_submission(task, tables.sample, list(ids), pred_NK, values, id=data.id)
    check_submission(submission, tables.sample, id=data.id)
    told = {
        "run": config.run,
        "values": values,
        "blend": {key: card[key] for key in ("blender", "metric", "sentence", "written")},
        "weights": weights,
        "test_sha256": sha256(folder / data.test),
        "rows": len(submission),
        "device": choose_device().type,
    }
    path = store.write_submission(submission, told | provenance(), now())
    print(report)
    if hidden_y is not None:
        print(_hidden_score(scorer, hidden_y, pred_NK))
    print(f"\nsubmission: {path} ({len(submission)} rows)")
    return path


def _predict_members(
    config: Config, store: Store, test: pd.DataFrame, card: Mapping[str, Any], names: list[str]
) -> np.ndarray:
    """Test predictions (M, N, K), each member's the mean of its folds; kept for the next time."""
    data = config.data
    models = FoldModels(store, Texts(test, "test"), config.batch_tokens)
    table = {"test_sha256": sha256(config.data_dir / data.test)}
    outputs = card["task"]["outputs"]
    pred_MNK = np.zeros((len(names), len(test), len(outputs)))
    for m, name in enumerate(names):
        folds = card["members"][name]["folds"]
        for fold, hashes in enumerate(folds):
            made_from = table | {"weights_sha256": hashes["weights_sha256"]}
            kept = store.load_test(name, fold, made_from)
            if kept is None:
                pred_NK = models.predict(name, fold, np.arange(len(test)), f"{name} fold {fold}")
                kept = to_table(test[data.id], pred_NK, outputs)
                _keep(store, name, fold, kept, made_from)
            pred_MNK[m] += from_table(kept, test[data.id], outputs) / len(folds)
    return pred_MNK


def verify_oof(config: Config) -> None:
    """Print, for every fold model of the blend, the largest difference from its stored OOF rows.

    Raises UserError where it is larger than rounding explains.
    """
    store = open_store(config)
    card = store.read_blend()
    competition = load_competition(config, store)
    task = competition.task
    models = FoldModels(store, Texts(competition.tables.train, "train"), config.batch_tokens)
    worst = 0.0
    for name, entry in card["members"].items():
        for fold in range(len(entry["folds"])):
            rows = np.flatnonzero(competition.fold_N == fold)
            ids = competition.tables.train[config.data.id].iloc[rows]
            stored_NK = from_table(store.read_oof(name, fold), ids, task.outputs)
            again_NK = models.predict(name, fold, rows)
            difference = float((np.abs(again_NK - stored_NK) / _scale(task, stored_NK)).max())
            print(f"{name} fold {fold}: largest difference {difference:.2g} over {len(rows)} rows")
            worst = max(worst, difference)
    print(f"largest difference of all: {worst:.2g}")
    if worst > TOLERANCE:
        raise UserError(
            f"stored OOF predictions differ by up to {worst:.2g} from what the models predict now; "
            "train the members above again, or use the library versions in their cards"
        )


def _scale(task: Task, pred_NK: np.ndarray) -> np.ndarray:
    """What a difference is told in: 1 for probabilities, else each output's spread, (K,)."""
    if task.kind != "regression":
        return np.ones(pred_NK.shape[1])
    return np.maximum(pred_NK.std(axis=0), np.finfo(np.float32).tiny)


def _text_columns(store: Store, name: str, entry: Mapping[str, Any]) -> list[str]:
    """The columns that a member reads, by its cards; refuses models trained since the blend."""
    columns: list[str] = []
    for fold, hashes in enumerate(entry["folds"]):
        card = store.fold_card(name, fold)
        if card is None:
            raise UserError(
                f"{name} fold {fold} is in the blend but not in the store; copy or train it "
                f"({store.fold_folder(name, fold)}), or run blend.py again"
            )
        if card["weights"]["sha256"] != hashes["weights_sha256"]:
            raise UserError(
                f"{name} fold {fold} was trained again after the blend; run blend.py again"
            )
        columns = card["inputs"]["text"]
    return columns


def _read(card: Mapping[str, Any], store: Store) -> tuple[dict[str, float], str]:
    """The weights above 0 and the report of a blend card; UserError where it is not whole."""
    try:
        weights = {name: float(entry["weight"]) for name, entry in card["members"].items()}
        hashes = [fold["weights_sha256"] for m in card["members"].values() for fold in m["folds"]]
        restore_task(card["task"])
        METRICS[card["metric"]]
        report, whole = show(card), bool(hashes and card["written"])
    except (KeyError, TypeError, ValueError, AttributeError):
        whole = False
    if not whole or min(weights.values()) < 0 or abs(sum(weights.values()) - 1) > 1e-6:
        raise UserError(f"{store.blend_path} is no whole blend card; run blend.py again")
    return {name: weight for name, weight in weights.items() if weight > 0}, report


def _keep(
    store: Store, name: str, fold: int, predictions: pd.DataFrame, made_from: Mapping[str, Any]
) -> None:
    try:
        store.save_test(name, fold, predictions, made_from)
    except UserError as error:  # a store that was mounted read-only: they are only kept for later
        log.warning("test predictions are not kept: %s", error)


def _hidden_labels(config: Config, task: Task, ids: pd.Series) -> np.ndarray:
    """The labels of test that were kept aside, encoded, in the order of `ids`."""
    path = config.data_dir / str(config.data.test_labels)
    labels = read_table(path)
    lacking = {config.data.id, *task.targets} - set(labels)
    if lacking:
        raise UserError(f"{path} has no column '{min(lacking)}', which scoring needs")
    labels = labels.set_index(config.data.id)
    if labels.index.has_duplicates or set(labels.index) != set(ids):
        raise UserError(f"the ids of {path} are not those of the test table, each once")
    return task.encode(labels.loc[ids, list(task.targets)].apply(parse_column))


def _hidden_score(scorer: Scorer, y: np.ndarray, pred_NK: np.ndarray) -> str:
    """The submission's score against labels that were kept aside, with an interval."""
    try:
        score = scorer.score(y, pred_NK)
        sign = -1 if scorer.better == "max" else 1
        low, high = np.quantile(sign * bootstrap(y, [pred_NK], scorer)[0], [0.025, 0.975])
    except UserError as error:
        return f"\nsubmission against the hidden labels: {error}"
    return (
        f"\nsubmission against the hidden labels: {scorer.name} {score:.4f} "
        f"(95 % interval {low:.4f} to {high:.4f})"
    )
