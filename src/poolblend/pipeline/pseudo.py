"""`infer.py --pseudo-labels NAME`: the blend's test predictions, kept as labels to train on.

A model trained on labels that another one predicted learns what that one has learned. Labels for
the training of fold k are therefore made by fold-k models alone, mixed by weights that were fitted
without fold k: else its OOF rows would be predicted by a model that knows their labels.

Shape legend: N rows, M members, K outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import TypeAdapter, ValidationError
from threadpoolctl import threadpool_limits

from poolblend.cards.blend import BlendCard
from poolblend.cards.provenance import provenance
from poolblend.competition.metrics import Scorer, make_scorer
from poolblend.competition.tasks import Task
from poolblend.config import Config
from poolblend.ensembling import compact
from poolblend.ensembling.fitting import BlendOptions, fit_blends
from poolblend.ensembling.honesty import fold_masks
from poolblend.ensembling.matrix import OofMatrix
from poolblend.ensembling.mixture import Mixture
from poolblend.ensembling.problem import StudyFile
from poolblend.errors import UserError, quoted
from poolblend.jobs.blend_plan import check_unchanged, read_blend
from poolblend.jobs.test_predictions import KeptPredictions
from poolblend.loading.blend_members import Members, gather
from poolblend.loading.competition import describe_task, open_store
from poolblend.options import FileNamePart
from poolblend.store import Store
from poolblend.store.predictions import to_table
from poolblend.store.probe import COPIED, check_writable

NO_RANKS = (
    "which are no labels; run blend.py with --set blend.space=plain first, then this command again"
)


class _Labels(NamedTuple):
    """One fold's pseudo-labels, what their card says of them, and what is printed."""

    table: pd.DataFrame
    told: dict[str, Any]
    line: str


def write_pseudo_labels(config: Config, name: str) -> None:
    """Keep the pseudo-labels of each fold under `name`, for good; print what was kept.

    Raises UserError for a blend of members from elsewhere or of ranks, for models trained since the
    blend, and for a name under which other labels are kept.
    """
    _check_name(name)
    store = open_store(config)
    card, _ = read_blend(store)
    _check_blend(store, card)
    if not store.pseudo(name).folder.exists():
        check_writable([store.pseudo_folder], COPIED)
    gathered = gather(config, store, list(card.members), None)
    competition = gathered.competition
    mixtures = _cross_fitted(store, card, gathered)
    predictions = KeptPredictions(config, store, competition.tables, competition.task)
    labels = [
        _labels(fold, mixture, gathered, predictions) for fold, mixture in enumerate(mixtures)
    ]
    told = {
        "run": config.run,
        "name": name,
        **competition.data,
        "task": describe_task(competition.task),
        "blend": card.summary().model_dump(),
        "folds": [each.told for each in labels],
        **provenance(),
    }
    files = store.pseudo(name)
    written = files.save([each.table for each in labels], told)
    print("\n".join(each.line for each in labels))
    print(f"pseudo-labels {name}: {files.folder}{'' if written else ' (kept earlier, the same)'}")


def _check_name(name: str) -> None:
    try:
        TypeAdapter(FileNamePart).validate_python(name)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"--pseudo-labels {quoted(name)}: the name {reason}") from None


def _check_blend(store: Store, card: BlendCard) -> None:
    """Refuse what no pseudo-labels can be made of, before anything is computed."""
    outside = [name for name, member in card.members.items() if member.origin.oof_file]
    if outside:
        raise UserError(
            f"the blend holds members from elsewhere ({', '.join(outside)}), whose test "
            "predictions may come of models that have seen any fold; run blend.py with --members "
            "and those trained here alone"
        )
    if card.mixture.space == "rank":
        raise UserError(f"the blend averages ranks, {NO_RANKS}")
    for name, member in card.members.items():
        check_unchanged(store, name, member.origin)
        if member.origin.stopped_early:
            raise UserError(
                f"{name} was stopped early, by the labels of each fold's own rows, which its "
                "pseudo-labels would carry back to them; run blend.py with --members and others"
            )


def _cross_fitted(store: Store, card: BlendCard, gathered: Members) -> list[Mixture]:
    """For each fold the mixture of the card's blender without it, as its honest score has it."""
    options = BlendOptions(**card.options.model_dump())
    matrix, scorer = gathered.matrix, make_scorer(card.metric, gathered.competition.task)
    # As blend.py fits very many classes, unless stack is among the blenders.
    compacted = "stack" not in card.blenders and compact.is_compactable(matrix, scorer)
    if compacted:
        matrix, scorer = compact.compacted(matrix, scorer)
    with threadpool_limits(1, "blas"):  # as in blend.py: the same bits
        mixtures = fold_mixtures(
            card.blender, matrix, scorer, options, studies=store.open_studies()
        )
    if compacted:
        mixtures = [compact.widened(each, len(gathered.matrix.outputs)) for each in mixtures]
    for fold, mixture in enumerate(mixtures):
        if mixture.space.name == "rank":
            raise UserError(f"without fold {fold} the blend averages ranks, {NO_RANKS}")
    return mixtures


def fold_mixtures(
    blender: str,
    matrix: OofMatrix,
    scorer: Scorer,
    options: BlendOptions,
    *,
    studies: Path | None = None,
) -> list[Mixture]:
    """The blender's mixtures without each fold in turn, in rising order: weights, space and all.

    Those of `honesty.compare`, which leaves its searches in the folder `studies`: none is repeated.
    """
    mixtures = []
    for fold, held_N in zip(np.unique(matrix.fold_N), fold_masks(matrix), strict=True):
        study = StudyFile(studies, f"without fold {fold}") if studies else None
        fitted = fit_blends([blender], matrix.rows(~held_N), scorer, options, study=study)
        mixtures.append(fitted[blender].mixture)
    return mixtures


def _labels(
    fold: int, mixture: Mixture, gathered: Members, predictions: KeptPredictions
) -> _Labels:
    """The test predictions of this fold's models, mixed."""
    weighty_M = np.asarray(mixture.weights_MK.any(axis=1))
    mixture = mixture.only(weighty_M)
    names = np.array(gathered.matrix.members)[weighty_M].tolist()
    members: dict[str, dict[str, Any]] = {
        name: {
            "fold": fold,
            "weight": float(share),
            "weights_sha256": gathered.origins[name].folds[fold].weights_sha256,
        }
        for name, share in zip(names, mixture.share_M, strict=True)
    }
    pred_MNK = np.stack(
        [predictions.predict(name, fold, made["weights_sha256"]) for name, made in members.items()]
    )
    pred_NK = mixture.apply(pred_MNK)
    task = gathered.competition.task
    if task.probabilistic:
        pred_NK = np.clip(pred_NK, 0, 1)  # a sum of weights may exceed 1 in its last digit
    told = {"fold": fold, "without": fold, "members": members, "mixture": mixture.to_json()}
    of = ", ".join(f"{name} {made['weight']:.2f}" for name, made in members.items())
    line = f"fold {fold}: {len(pred_NK)} rows, {_sureness(pred_NK, task)}, by {of}"
    return _Labels(to_table(predictions.ids, pred_NK, task.outputs), told, line)


def _sureness(pred_NK: np.ndarray, task: Task) -> str:
    """The mean probability of the likeliest labels; for values, their mean."""
    if not task.probabilistic:
        return f"mean {pred_NK.mean():.4g}"
    likeliest = pred_NK.max(axis=1) if task.kind == "multiclass" else np.fmax(pred_NK, 1 - pred_NK)
    return f"mean confidence {likeliest.mean():.3f}"
