"""`infer.py --pseudo-labels NAME`: the blend's test predictions, kept as labels to train on.

A model that is trained on predicted labels learns what the predicting model has learned. So the
labels for the training of fold k come only from fold-k models, blended with weights that were
fitted without fold k. Otherwise the OOF rows of fold k would leak through the pseudo-labels.

Shape legend: N rows, M members, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import TypeAdapter, ValidationError
from threadpoolctl import threadpool_limits

from poolblend.cards.blend import BlendCard, Weighting
from poolblend.cards.provenance import Provenance
from poolblend.cards.pseudo import PseudoCard, PseudoFold, PseudoMember
from poolblend.cards.submission import BlendInUse
from poolblend.competition.metrics import make_scorer
from poolblend.competition.possible import only_possible
from poolblend.competition.tasks import Task
from poolblend.config import Config, Workers
from poolblend.ensembling import compact
from poolblend.ensembling.honesty import fits_without_folds
from poolblend.ensembling.many_rows import sample_rows
from poolblend.ensembling.mixture import Mixture
from poolblend.ensembling.options import Blend
from poolblend.errors import UserError, quoted
from poolblend.jobs.blend_plan import check_unchanged, read_blend
from poolblend.jobs.predict_job import PredictJob, plan_predictions
from poolblend.jobs.predictions import possible_of, test_rows
from poolblend.jobs.runners import PredictWork, predict_all
from poolblend.loading.blend_members import Members, gather
from poolblend.loading.competition import open_store, table_hashes
from poolblend.loading.prediction_costs import with_budget
from poolblend.options import FileNamePart
from poolblend.store import Store
from poolblend.store.predictions import to_table
from poolblend.store.probe import COPIED, check_writable

NO_RANKS = (
    "which are no labels; run blend.py with --set blend.space=plain first, then this command again"
)


def write_pseudo_labels(config: Config, name: str, *, workers: Workers = 1) -> None:
    """Write the pseudo-labels of each fold under `name`; they are never overwritten.

    Raises UserError for a blend that holds members from elsewhere or averages ranks, for models
    that were trained after the blend, and for a name that other labels have.
    """
    _check_name(name)
    store = open_store(config)
    card, _ = read_blend(store)
    _check_blend(store, card)
    files = store.pseudo(name)
    if not files.folder.exists():
        check_writable([store.pseudo_folder], COPIED)
    gathered = gather(config, store, list(card.members), None)
    competition = gathered.competition
    rows, outputs = test_rows(config, competition.tables), competition.task.outputs
    work = PredictWork(store, {"test": rows}, outputs, config.cluster)
    if card.budget:
        gathered = with_budget(store, gathered, card.budget.limit, card.budget.rows)
    mixtures = _cross_fitted(card, gathered)
    used = [_used_members(mixture, gathered) for mixture in mixtures]
    results = predict_all(_jobs(config, gathered, used), work, workers)
    possible_NK = possible_of(config, competition.task, competition.tables.test)
    predicted = {
        result.job.origin.place: only_possible(result.values, possible_NK) for result in results
    }
    tables, folds, lines = [], [], []
    for fold, mixture in enumerate(mixtures):
        made, pred_NK = _blend_fold(fold, mixture, used[fold], gathered, predicted)
        tables.append(to_table(rows.ids_N, pred_NK, outputs))
        folds.append(made)
        by = ", ".join(f"{member} {each.weight:.2f}" for member, each in made.members.items())
        confidence = _confidence(pred_NK, competition.task)
        lines.append(f"fold {fold}: {len(pred_NK)} rows, {confidence}, by {by}")
    labels_card = PseudoCard(
        run=config.run,
        name=name,
        **competition.data,
        task=competition.task,
        blend=BlendInUse.of(card),
        folds=tuple(folds),
        provenance=Provenance.here(),
    )
    written = files.save(tables, labels_card)
    print("\n".join(lines))
    print(f"pseudo-labels {name}: {files.folder}{'' if written else ' (the same labels existed)'}")


def _check_name(name: str) -> None:
    try:
        TypeAdapter(FileNamePart).validate_python(name)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"--pseudo-labels {quoted(name)}: the name {reason}") from None


def _check_blend(store: Store, card: BlendCard) -> None:
    """Refuse, before anything is computed, a blend that cannot make pseudo-labels."""
    outside = [name for name, member in card.members.items() if member.origin.oof_file]
    if outside:
        raise UserError(
            f"the blend holds members from elsewhere ({', '.join(outside)}), whose test "
            "predictions may come from models that have seen any fold; run blend.py with "
            "--members and only those trained here"
        )
    if card.mixture.space == "rank":
        raise UserError(f"the blend averages ranks, {NO_RANKS}")
    for name, member in card.members.items():
        check_unchanged(store, name, member.origin)
        if member.origin.stopped_early:
            raise UserError(
                f"{name} was trained with early stopping on each fold's own rows, so its "
                "pseudo-labels would leak these rows' labels; run blend.py with --members and "
                "other members"
            )


def _cross_fitted(card: BlendCard, gathered: Members) -> list[Mixture]:
    """For each fold, the mixture that the card's blender fits without it, as in blend.py."""
    options = Blend(**card.options.model_dump(exclude={"seed"}))
    matrix = sample_rows(gathered.matrix)
    competition = gathered.competition
    scorer = make_scorer(card.metric, competition.task, competition.scorer.by)
    # blend.py fits very many classes in this way, too, unless stack is among the blenders.
    compactable = "stack" not in card.blenders and compact.is_compactable(matrix, scorer)
    if compactable:
        matrix, scorer = compact.compact_matrix(matrix, scorer)
    with threadpool_limits(1, "blas"):  # as in blend.py, for equal results
        fits = fits_without_folds([card.blender], matrix, scorer, options, card.options.seed)
        mixtures = [fitted[card.blender].mixture for fitted in fits]
    if compactable:
        mixtures = [compact.widen_mixture(each, len(gathered.matrix.outputs)) for each in mixtures]
    for fold, mixture in enumerate(mixtures):
        if mixture.space.name == "rank":
            raise UserError(f"without fold {fold} the blend averages ranks, {NO_RANKS}")
    return mixtures


def _used_members(mixture: Mixture, gathered: Members) -> list[str]:
    """The names of the members that have weight in the mixture."""
    weighted = np.asarray(mixture.weights_MK.any(axis=1))
    return [name for name, used in zip(gathered.matrix.members, weighted, strict=True) if used]


def _jobs(config: Config, gathered: Members, used: Sequence[Sequence[str]]) -> list[PredictJob]:
    """For each fold, the predictions by the fold's models of the members that it uses."""
    hashes = table_hashes(config, "test")
    jobs = plan_predictions(config, gathered.origins, "test", "predictions", hashes)
    return [job for job in jobs if job.origin.member in used[job.origin.fold]]


def _blend_fold(
    fold: int,
    mixture: Mixture,
    names: Sequence[str],
    gathered: Members,
    predicted: Mapping[tuple[str, int], np.ndarray],
) -> tuple[PseudoFold, np.ndarray]:
    """What made the labels of this fold, and the labels: the blended predictions (N, K)."""
    mixture = mixture.only(np.asarray(mixture.weights_MK.any(axis=1)))
    used = {name: gathered.origins[name] for name in names}
    pred_NK = mixture.apply(np.stack([predicted[name, fold] for name in names]))
    if gathered.competition.task.probabilistic:
        pred_NK = np.clip(pred_NK, 0, 1)  # rounding may make the sum of the weights exceed 1
    members = {
        name: PseudoMember(
            fold=fold,
            weight=float(share),
            weights_sha256=origin.folds[fold].weights_sha256,
        )
        for (name, origin), share in zip(used.items(), mixture.share_M, strict=True)
    }
    weighting = Weighting.model_validate(mixture.to_json())
    made = PseudoFold(fold=fold, without=fold, members=members, mixture=weighting)
    return made, pred_NK


def _confidence(pred_NK: np.ndarray, task: Task) -> str:
    """The mean probability of the most likely labels; for values, their mean."""
    if not task.probabilistic:
        return f"mean {pred_NK.mean():.4g}"
    likeliest = pred_NK.max(axis=1) if task.kind == "multiclass" else np.fmax(pred_NK, 1 - pred_NK)
    return f"mean confidence {likeliest.mean():.3f}"
