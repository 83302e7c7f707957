"""`blend.py`: the OOF matrix, every blender's honest score, the choice, and the blend card."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from poolblend.competition.metrics import UndefinedScoreError
from poolblend.config import Config
from poolblend.ensembling.blenders import by_simplicity
from poolblend.ensembling.honesty import Choice, Honest, choose, compare, sentence
from poolblend.ensembling.matrix import OofMatrix, build_matrix
from poolblend.errors import UserError, unknown
from poolblend.pipeline.competition import (
    Competition,
    describe_task,
    load_competition,
    open_store,
)
from poolblend.pipeline.provenance import changed, provenance
from poolblend.pipeline.report import blend_table, member_table, show
from poolblend.store import Store

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Blend:
    """What a blend was made of and what came out; `card` is what was written."""

    matrix: OofMatrix
    reports: dict[str, Honest]
    choice: Choice
    card: dict[str, Any]

    def __str__(self) -> str:
        """The tables and the sentence, as blend.py prints them."""
        return show(self.card)

    @property
    def member_scores(self) -> pd.DataFrame:
        """A row per member: its score on each fold and over all rows (column OOF)."""
        return member_table(self.card)

    @property
    def blender_scores(self) -> pd.DataFrame:
        """A row per blender: score in-sample, honest score, optimism."""
        return blend_table(self.card)


def blend(config: Config, *, members: Sequence[str] | None) -> Blend:
    """Blend the named members, or all in the store; and write the blend card.

    Raises UserError, before anything is fitted, for members that are unknown, incomplete, or
    trained on other data or folds.
    """
    store = open_store(config)
    competition = load_competition(config, store)
    names = _choose_members(store, members)
    absent = [m.name for m in config.resolve_members() if m.name not in store.members()]
    if absent and not members:
        log.info("not trained yet, so not in this blend: %s", ", ".join(absent))
    cards = {name: _cards(store, name, competition) for name in names}
    matrix = _load_matrix(config, store, competition, names)
    trials = config.blend.trials
    total = trials * (competition.n_folds + 1) if len(names) > 1 else 0
    with tqdm(total=total, desc="optuna", unit="trial", disable=None) as bar:
        reports = compare(
            matrix, competition.scorer, seed=config.seed, trials=trials, progress=bar.update
        )
    choice = choose(reports, matrix, competition.scorer, config.blend.fitter, seed=config.seed)
    card = _card(config, competition, matrix, cards, reports, choice)
    store.write_blend(card)
    result = Blend(matrix, reports, choice, card)
    log.info("blend card: %s", store.blend_path)
    return result


def _choose_members(store: Store, members: Sequence[str] | None) -> list[str]:
    known = store.members()
    if not known:
        raise UserError(
            f"no finished fold of run {store.run} yet; run train.py first (same --config)"
        )
    for name in members or ():
        if name not in known:
            raise unknown("member", name, known)
    return list(dict.fromkeys(members)) if members else known


def _cards(store: Store, name: str, competition: Competition) -> list[dict[str, Any]]:
    """The cards of all folds, or a refusal: a blend takes complete members of these very data."""
    cards = [store.fold_card(name, fold) for fold in range(competition.n_folds)]
    missing = [str(fold) for fold, card in enumerate(cards) if card is None]
    if missing:
        raise UserError(
            f"member {name} is incomplete: fold {', '.join(missing)} of {competition.n_folds} not "
            "finished; train it, or name the members to blend with --members a,b"
        )
    whole = [card for card in cards if card is not None]
    expected = {
        "train_sha256": competition.data["train_sha256"],
        "folds_sha256": competition.data["folds_sha256"],
        "task": describe_task(competition.task),
    }
    for fold, card in enumerate(whole):
        inputs = card["inputs"]
        now = changed({key: inputs[key] for key in expected}, expected)
        if now:
            raise UserError(
                f"member {name} fold {fold} was trained on something else: {'; '.join(now)}; "
                "restore that, train the member again, or leave it out with --members a,b"
            )
        differing = changed(whole[0]["inputs"], inputs)
        if differing:
            raise UserError(
                f"member {name} is two: from fold 0 to fold {fold}, {'; '.join(differing)}; train "
                "its folds alike with --overwrite"
            )
    return whole


def _load_matrix(
    config: Config, store: Store, competition: Competition, names: Sequence[str]
) -> OofMatrix:
    folds = range(competition.n_folds)
    tables = {
        name: pd.concat([store.read_oof(name, fold) for fold in folds], ignore_index=True)
        for name in names
    }
    ids = competition.tables.train[config.data.id].to_numpy()
    return build_matrix(
        tables,
        pd.DataFrame({"id": ids, "fold": competition.fold_N}),
        competition.y,
        competition.task.outputs,
        probabilities=competition.task.kind != "regression",
    )


def _card(
    config: Config,
    competition: Competition,
    matrix: OofMatrix,
    cards: dict[str, list[dict[str, Any]]],
    reports: dict[str, Honest],
    choice: Choice,
) -> dict[str, Any]:
    weights = reports[choice.blender].weights_M
    scorer = competition.scorer
    members = {}
    for m, name in enumerate(matrix.members):
        pred_NK = matrix.oof_MNK[m]
        members[name] = {
            "weight": float(weights[m]),
            "score": scorer.score(matrix.y, pred_NK),
            "fold_scores": [
                _fold_score(competition, matrix, pred_NK, fold)
                for fold in range(competition.n_folds)
            ],
            # What the weights were fitted for: inference refuses models trained since.
            "folds": [
                {"weights_sha256": card["weights"]["sha256"], "oof_sha256": card["oof"]["sha256"]}
                for card in cards[name]
            ],
        }
    return {
        "run": config.run,
        "task": describe_task(competition.task),
        "metric": scorer.name,
        "blender": choice.blender,
        "sentence": sentence(choice),
        "choice": asdict(choice),
        "members": members,
        "blenders": {
            name: {
                "in_sample": report.in_sample,
                "honest": report.honest,
                "optimism": report.optimism,
                "weights": dict(zip(matrix.members, report.weights_M.tolist(), strict=True)),
                "fold_weights": report.fold_weights_FM.tolist(),
            }
            for name, report in reports.items()
        },
        "simplest_first": by_simplicity(),
        "inputs": competition.data,
        "rows": len(matrix.y),
        "config": config.model_dump(),
        **provenance(),
    }


def _fold_score(
    competition: Competition, matrix: OofMatrix, pred_NK: np.ndarray, fold: int
) -> float | None:
    rows = matrix.fold_N == fold
    try:
        return competition.scorer.score(matrix.y[rows], pred_NK[rows])
    except UndefinedScoreError:
        return None
