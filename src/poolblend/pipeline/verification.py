"""`infer.py --verify-oof`: do the stored models still make the stored predictions?

Shape legend: N rows, K outputs.
"""

from __future__ import annotations

import numpy as np

from poolblend.competition.tasks import Task
from poolblend.config import Config
from poolblend.errors import UserError
from poolblend.jobs.blend_plan import fold_models
from poolblend.jobs.foldmodels import FoldModels
from poolblend.loading.competition import load_competition, open_store
from poolblend.store.predictions import from_table

# A model run again differs from its stored OOF predictions by nothing on the machine that trained
# it, and by the rounding of half precision elsewhere. More than this, as a probability or in
# standard deviations of a regression's predictions, means another model.
TOLERANCE = 0.05


def verify_oof(config: Config) -> None:
    """Print, for every fold model of the blend, the largest difference from its stored OOF rows.

    Raises UserError where it is larger than rounding explains, and where a model's tokenizer now
    reads the rows as other tokens than in training.
    """
    store = open_store(config)
    card = store.read_blend()
    competition = load_competition(config, store)
    task = competition.task
    models = fold_models(config, store, competition.tables.train, "train")
    worst, unlike = 0.0, []
    for name, member in card.members.items():
        for fold in range(len(member.origin.folds)):
            rows = np.flatnonzero(competition.fold_N == fold)
            ids = competition.tables.train[competition.tables.id].iloc[rows]
            stored_NK = from_table(store.read_oof(name, fold), ids, task.outputs)
            again_NK = models.predict(name, fold, rows)
            difference = float((np.abs(again_NK - stored_NK) / _scale(task, stored_NK)).max())
            print(f"{name} fold {fold}: largest difference {difference:.2g} over {len(rows)} rows")
            worst = max(worst, difference)
            if other := _other_tokens(models, name, fold, rows):
                print(f"{name} fold {fold}: {other}")
                unlike.append(f"{name} fold {fold}")
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


def _other_tokens(models: FoldModels, name: str, fold: int, rows: np.ndarray) -> str:
    """How the rows' tokens differ from those in training; "" where they do not."""
    then = models.store.check_fold(name, fold, model=False, oof=False).tokens
    now = models.tokens(name, fold, rows)
    if then == now:
        return ""
    return f"its rows are read as {now.count} tokens, in training as {then.count} others"


def _scale(task: Task, pred_NK: np.ndarray) -> np.ndarray:
    """What a difference is told in: 1 for probabilities, else each output's spread, (K,)."""
    if task.probabilistic:
        return np.ones(pred_NK.shape[1])
    return np.maximum(pred_NK.std(axis=0), np.finfo(np.float32).tiny)
