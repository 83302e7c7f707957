"""`infer.py`: run the fold models that the blend gives weight to, and write the submission.

Driven by cards: what a model is, and how texts become tokens, is read beside its weights.

Shape legend: N rows, M members, K outputs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from poolblend.competition.metrics import METRICS, Scorer, make_scorer
from poolblend.competition.submission import build_submission, check_submission
from poolblend.competition.tables import load_test, parse_column, read_table
from poolblend.competition.tasks import Task
from poolblend.config import Config
from poolblend.ensembling.matrix import build_test
from poolblend.ensembling.mixture import Mixture
from poolblend.ensembling.resampling import bootstrap
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
from poolblend.store.outside import Predictions, read_predictions
from poolblend.store.predictions import from_table, to_table
from poolblend.training.devices import choose_device

log = logging.getLogger(__name__)

# A model run again differs from its stored OOF predictions by nothing on the machine that trained
# it, and by the rounding of half precision elsewhere. More than this, as a probability or in
# standard deviations of a regression's predictions, means another model.
TOLERANCE = 0.05


@dataclass(frozen=True, eq=False)
class Recipe:
    """What a blend card says to do: the mixture of the members that have weight, and its report."""

    card: Mapping[str, Any]
    mixture: Mixture
    members: dict[str, Mapping[str, Any]]
    report: str


def infer(config: Config) -> Path:
    """Predict test with every fold model of weight, blend, write the submission; its path.

    Needs the test table, the sample submission, the models and the blend card; not the train table.
    Raises UserError for models that are damaged or were trained since the blend, and for a
    submission that would not be accepted.
    """
    store = open_store(config)
    recipe = _read(store)
    card, mixture = recipe.card, recipe.mixture
    data, folder = config.data, config.data_dir
    columns = {c for name in recipe.members for c in _text_columns(store, name, recipe.members)}
    tables = load_test(
        folder / data.test, folder / data.sample_submission, id=data.id, text=sorted(columns)
    )
    task = restore_task(card["task"])
    ids = tables.test[data.id]
    scorer = make_scorer(card["metric"], task)
    hidden_y = _hidden_labels(config, task, ids) if data.test_labels else None
    log.info("running %d of %d members", len(recipe.members), len(card["members"]))
    pred_MNK = _predict_members(config, store, tables.test, task, recipe.members)
    pred_NK = mixture.apply(pred_MNK)
    values = submission_values(config, card["metric"], tables.sample)
    if values == "probabilities" and mixture.space.name == "rank":
        log.info("the blend averages ranks: the submission holds ranks from 0 to 1")
    submission = build_submission(
        task, tables.sample, list(ids), pred_NK, values, id=data.id, cuts=mixture.cuts
    )
    check_submission(submission, tables.sample, id=data.id)
    told = {
        "run": config.run,
        "values": values,
        "blend": {key: card[key] for key in ("blender", "metric", "sentence", "written")},
        "weights": {name: member["weight"] for name, member in recipe.members.items()},
        "test_sha256": sha256(folder / data.test),
        "rows": len(submission),
        "device": choose_device().type,
    }
    path = store.write_submission(submission, told | provenance(), now())
    print(recipe.report)
    if hidden_y is not None:
        print(_hidden_score(scorer, hidden_y, scorer.take(pred_NK, mixture.cuts)))
    print(f"\nsubmission: {path} ({len(submission)} rows)")
    return path


def _fold_models(config: Config, store: Store, table: pd.DataFrame, name: str) -> FoldModels:
    texts = Texts(table, name, config.remote_code)
    return FoldModels(store, texts, config.batch_tokens, remote_code=config.remote_code)


def _predict_members(
    config: Config,
    store: Store,
    test: pd.DataFrame,
    task: Task,
    members: Mapping[str, Mapping[str, Any]],
) -> np.ndarray:
    """Test predictions (M, N, K): of our members the mean of their folds, of others as given."""
    ids = test[config.data.id]
    models = _fold_models(config, store, test, "test")
    test_sha256 = sha256(config.data_dir / config.data.test)
    given = {
        name: _read_test(name, member, config.data.id, task)
        for name, member in members.items()
        if "from" in member
    }
    pred_MNK = np.zeros((len(members), len(test), len(task.outputs)))
    rows = [m for m, name in enumerate(members) if name in given]
    if given:
        pred_MNK[rows] = build_test(
            {name: each.table for name, each in given.items()},
            ids,
            task.outputs,
            probabilities=task.probabilistic,
            simplex=task.kind == "multiclass",
            files={name: each.path for name, each in given.items()},
        )
    for m, (name, member) in enumerate(members.items()):
        if name in given:
            continue
        for fold, hashes in enumerate(member["folds"]):
            made_from = {"test_sha256": test_sha256, "weights_sha256": hashes["weights_sha256"]}
            kept = store.load_test(name, fold, made_from)
            if kept is None:
                pred_NK = models.predict(name, fold, np.arange(len(test)), f"{name} fold {fold}")
                kept = to_table(ids, pred_NK, task.outputs)
                _keep(store, name, fold, kept, made_from)
            pred_MNK[m] += from_table(kept, ids, task.outputs) / len(member["folds"])
    return pred_MNK


def _read_test(name: str, member: Mapping[str, Any], id: str, task: Task) -> Predictions:
    """A member's predictions of test that were found beside its OOF file when it was blended."""
    if member["test"] is None:
        folder = Path(member["from"]["path"]).parent / "test"
        raise UserError(
            f"member {name} has a weight of {member['weight']:.3f} but no test predictions; put "
            f"them into {folder} as {name}.csv or .parquet and run blend.py again, or blend "
            "without it (--members a,b)"
        )
    path = Path(member["test"]["path"])
    if not path.is_file() or sha256(path) != member["test"]["sha256"]:
        raise UserError(
            f"{path}, the test predictions of member {name}, is "
            f"{'not what it was' if path.is_file() else 'gone'} since the blend; restore it, or "
            "run blend.py again"
        )
    return read_predictions(path, id=id, task=task)


def verify_oof(config: Config) -> None:
    """Print, for every fold model of the blend, the largest difference from its stored OOF rows.

    Raises UserError where it is larger than rounding explains.
    """
    store = open_store(config)
    card = store.read_blend()
    competition = load_competition(config, store)
    task = competition.task
    models = _fold_models(config, store, competition.tables.train, "train")
    worst = 0.0
    for name, entry in card["members"].items():
        for fold in range(len(entry.get("folds", ()))):
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
    if task.probabilistic:
        return np.ones(pred_NK.shape[1])
    return np.maximum(pred_NK.std(axis=0), np.finfo(np.float32).tiny)


def _text_columns(store: Store, name: str, members: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The columns that a member reads, by its cards; refuses models trained since the blend."""
    columns: list[str] = []
    for fold, hashes in enumerate(members[name].get("folds", ())):
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


def _read(store: Store) -> Recipe:
    """The store's blend card, parsed; UserError where it is not whole."""
    card = store.read_blend()
    try:
        task = restore_task(card["task"])
        mixture = Mixture.from_json(card["mixture"], task.kind)
        weighty_M = np.asarray(mixture.weights_MK.any(axis=1))
        names = list(card["members"])
        members = {name: card["members"][name] for name in np.array(names)[weighty_M].tolist()}
        METRICS[card["metric"]]
        whole = mixture.weights_MK.shape == (len(names), len(task.outputs)) and bool(members)
        whole &= all(_knows_its_files(member) for member in members.values())
        cuts, default = mixture.cuts, task.default_cuts
        whole &= cuts is None or (default is not None and cuts.shape == default.shape)
        sums_K = mixture.weights_MK.sum(axis=0)
        whole &= card["blender"] == "stack" or bool(np.allclose(sums_K, 1, atol=1e-6))
        recipe = Recipe(card, mixture.only(weighty_M), members, show(card))
        whole &= all(card[key] for key in ("blender", "sentence", "written"))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError):
        whole = False
    if not whole:
        raise UserError(f"{store.blend_path} is no whole blend card; run blend.py again")
    return recipe


def _knows_its_files(member: Mapping[str, Any]) -> bool:
    if "from" not in member:
        return bool([fold["weights_sha256"] for fold in member["folds"]])
    places = [member["from"], *([] if member["test"] is None else [member["test"]])]
    return all(isinstance(place[key], str) for place in places for key in ("path", "sha256"))


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
