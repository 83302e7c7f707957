"""`infer.py --verify-oof` and `--vectors`: run the fold models again, and keep their vectors.

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from poolblend.cards.blend import MemberOrigin
from poolblend.cards.predictions import TableName
from poolblend.competition.tasks import Task
from poolblend.config import Config, TfidfMember, Workers
from poolblend.errors import UserError
from poolblend.jobs.blend_plan import check_unchanged, read_blend
from poolblend.jobs.foldmodels import FoldModels
from poolblend.jobs.predict_job import PredictJob, Rows, plan_predictions
from poolblend.jobs.predictions import load_unlabelled, test_rows, train_rows
from poolblend.jobs.runners import PredictWork, predict_all
from poolblend.loading.competition import Competition, load_competition, open_store, table_hashes
from poolblend.loading.trained_members import origin_of
from poolblend.store import Store, read_folds
from poolblend.store.predictions import from_table

# On the machine that trained a model, its predictions are equal to the stored ones; on another
# machine, they differ by the rounding of half precision. A larger difference than this (as a
# probability, or in standard deviations of a regression's predictions) means another model.
TOLERANCE = 0.05


def verify_oof(config: Config, *, workers: Workers = 1) -> None:
    """Run the blend's fold models on their own validation rows, and compare with the stored OOF.

    Prints the largest difference of each model. Raises UserError for a difference that is larger
    than rounding explains, and for texts whose tokens are not those of the training.
    """
    store = open_store(config)
    origins = {name: member.origin for name, member in store.read_blend().members.items()}
    competition = load_competition(config, store)
    task, rows = competition.task, train_rows(config, competition)
    jobs = plan_predictions(
        config, origins, "train", "predictions", _train_hashes(config, competition)
    )
    worst, unlike = 0.0, []
    work = PredictWork(store, {"train": rows}, task.outputs, config.cluster)
    for job, pred_NK, _ in predict_all(jobs, work, workers):
        ids = rows.ids_N[rows.positions(job)]
        stored_NK = from_table(store.fold(*job.origin.place).oof(), ids, task.outputs)
        difference = float((np.abs(pred_NK - stored_NK) / _scale(task, stored_NK)).max())
        print(f"{job.origin}: largest difference {difference:.2g} over {len(ids)} rows")
        worst = max(worst, difference)
        if other := _other_tokens(job, store, rows):
            print(f"{job.origin}: {other}")
            unlike.append(str(job.origin))
    print(f"largest difference of all: {worst:.2g}")
    if unlike:
        raise UserError(
            f"texts are read as other tokens than in training: {', '.join(unlike)}; train these "
            "members again, or use the library versions in their cards"
        )
    if worst > TOLERANCE:
        raise UserError(
            f"stored OOF predictions differ by up to {worst:.2g} from what the models predict now; "
            "train the members above again, or use the library versions in their cards"
        )


def _scale(task: Task, pred_NK: np.ndarray) -> np.ndarray:
    """The unit of a difference (K,): 1 for probabilities, else the standard deviation."""
    if task.probabilistic:
        return np.ones(pred_NK.shape[1])
    return np.maximum(pred_NK.std(axis=0), np.finfo(np.float32).tiny)


def _other_tokens(job: PredictJob, store: Store, rows: Rows) -> str:
    """How the tokens of the fold's rows differ from those in training; "" for no difference."""
    models = FoldModels(store, rows.texts, job.batch_tokens, remote_code=job.remote_code)
    card = store.fold(*job.origin.place).card()
    if card is None or card.tokens is None:
        return ""
    now = models.tokens(*job.origin.place, rows.positions(job))
    if card.tokens == now:
        return ""
    return f"its rows are read as {now.count} tokens, in training as {card.tokens.count} others"


def write_vectors(config: Config, *, workers: Workers = 1) -> None:
    """Write the pooled vectors of each fold model into one file per table; print the files.

    The models are those of the blend's members that have weight; without a blend card, those of all
    complete members. Vectors of the train rows need the train table and the folds. Files that exist
    and were made from the same inputs are kept. Raises UserError for models that are damaged, were
    trained after the blend, or on another train table or other folds.
    """
    store = open_store(config)
    origins = _members_with_models(config, store)
    train = config.data_dir / config.data.train
    missing = [path for path in (train, store.folds_path) if not path.exists()]
    hashes = table_hashes(config, "test")
    tables: dict[TableName, Rows] = {}
    jobs: list[PredictJob] = []
    if missing:
        print(f"there is no {missing[0]}: only vectors of the test rows are written")
        tables["test"] = test_rows(config, load_unlabelled(config, store, origins))
    else:
        competition = load_competition(config, store)
        for name, origin in origins.items():
            check_unchanged(store, name, origin)
            _check_trained_here(store, name, competition)
        tables["train"] = train_rows(config, competition)
        tables["test"] = test_rows(config, competition.tables)
        of_train = _train_hashes(config, competition)
        jobs += plan_predictions(config, origins, "train", "vectors", of_train)
    jobs += plan_predictions(config, origins, "test", "vectors", hashes)
    for job, vector_NH, kept in predict_all(
        jobs, PredictWork(store, tables, (), config.cluster), workers
    ):
        shape = " x ".join(map(str, vector_NH.shape))
        path = store.vectors(*job.origin.place, job.origin.table).path
        print(f"{path}: {shape}{' (kept earlier)' if kept else ''}")


def _members_with_models(config: Config, store: Store) -> dict[str, MemberOrigin]:
    """The blend's members that have weight and models here; without a blend, all complete ones."""
    if store.blend_path.exists():
        members = read_blend(store)[0].used_members
        here = {name: each.origin for name, each in members.items() if each.origin.folds}
        what = "that have weight in the blend"
        if not here:
            raise UserError(
                f"the blend gives weight only to members from elsewhere ({', '.join(members)}), "
                "which have no models here; blend members that were trained here"
            )
    else:
        here = _complete_members(config, store)
        what = "that are complete, as there is no blend card"
        if not here:
            raise UserError(
                f"no member of run {store.run} is complete; run train.py first "
                "(same --config and --set)"
            )
    return _with_vectors(store, here, what)


def _with_vectors(
    store: Store, members: Mapping[str, MemberOrigin], what: str
) -> dict[str, MemberOrigin]:
    """The members that have an encoder, which are named; UserError where none has."""
    without = [name for name in members if _has_no_encoder(store, name)]
    if without:
        print(f"no encoder, so no vectors: {', '.join(without)}")
    found = {name: origin for name, origin in members.items() if name not in without}
    if not found:
        raise UserError(f"no member has vectors, of those {what}: train one that has a pooler")
    print(f"vectors of the members {what}: {', '.join(found)}")
    return found


def _has_no_encoder(store: Store, name: str) -> bool:
    card = store.fold(name, 0).card()
    return card is not None and isinstance(card.member, TfidfMember)


def _complete_members(config: Config, store: Store) -> dict[str, MemberOrigin]:
    folds = read_folds(store.folds_path)
    n_folds = config.folds.n if folds is None else folds.table["fold"].nunique()
    found = {}
    for name in store.members():
        cards = [card for fold in range(n_folds) if (card := store.fold(name, fold).card())]
        if len(cards) == n_folds:
            found[name] = origin_of(cards)
    return found


def _train_hashes(config: Config, competition: Competition) -> dict[str, str]:
    folds = {"folds_sha256": competition.data["folds_sha256"]}
    return table_hashes(config, "train") | folds


def _check_trained_here(store: Store, name: str, competition: Competition) -> None:
    """Refuse a member that was trained on another train table or other folds."""
    expected = {key: competition.data[key] for key in ("train_sha256", "folds_sha256")}
    for fold in range(competition.n_folds):
        inputs = store.fold(name, fold).check(model=False, base=False, oof=False).inputs
        now = inputs.model_copy(update=expected).changes_since(inputs)
        if now:
            raise UserError(
                f"{name} fold {fold} was trained on other data: {'; '.join(now)}; restore "
                "them, or train the member again"
            )
