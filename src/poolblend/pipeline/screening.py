"""`train.py --screen`: every pooler in a short training above a shared frozen part of the encoder.

Each registered pooler is trained on one fold for half the epochs, with all layers but the last
frozen: these are read once for all. The trainings are those of a run of its own, `<run>-screen`,
so that they are kept, resumed and inspected like any others.

Shape legend: M members, N rows of the fold, K outputs, X rows times outputs, R resamples.
"""

from __future__ import annotations

import numpy as np

from poolblend.cards.fold_names import REFIT
from poolblend.config import Config, Member, Workers
from poolblend.config.members import MemberSpec
from poolblend.ensembling.resampling import bootstrap, gain
from poolblend.ensembling.smooth import truth
from poolblend.errors import PartlyFailedError, UserError
from poolblend.loading.competition import Competition, load_competition, open_store
from poolblend.loading.models import locate_backbone
from poolblend.modeling import backbone
from poolblend.modeling.options import Backbone, Head
from poolblend.pipeline.training import fold_numbers, train
from poolblend.registry import declared
from poolblend.report.screening import Screened, describe_screening
from poolblend.store import Store
from poolblend.store.predictions import from_table
from poolblend.training.options import Train

AGAIN = MemberSpec(pooler="mean", tag="again", seed=1)  # shows what another seed alone changes
RATE = 5.0  # times train.lr: one layer has to learn what all layers would
# Of the run's training. Recipes for layers and weights may not fit an encoder that is frozen.
KEPT = {"epochs", "batch_size", "accumulation", "optimizer", "head_lr", "loss", "precision"}
KEPT |= {"attention", "class_weights"}


def screen(
    config: Config, *, fold: str = "0", end: float | None = None, workers: Workers = 1
) -> None:
    """Train each pooler on one fold, print how they compare, and suggest a short list.

    Raises UserError where the encoder's layers cannot be frozen, and what `train` raises.
    """
    numbers = fold_numbers(fold, config.folds.n)
    if len(numbers) != 1 or numbers == [REFIT]:
        raise UserError(f"--fold {fold}: --screen compares poolers on one fold; name one")
    screening = screening_config(config)
    failed = None
    try:
        train(screening, poolers="all", folds=fold, overwrite=False, end=end, workers=workers)
    except PartlyFailedError as error:
        failed = error
    store = open_store(screening)
    competition = load_competition(screening, store)
    found = compare(screening, competition, store, numbers[0])
    print("\n".join(["", *describe_screening(*found, competition.scorer.name, numbers[0])]))
    if failed is not None:
        raise failed


def screening_config(config: Config) -> Config:
    """The config of the run that screens: all poolers, all layers but the last frozen."""
    source = config.backbone.model_copy(update={"mlm": None})
    located = locate_backbone(config, source)
    shape = backbone.check(
        located.folder,
        config.max_length,
        remote_code=config.remote_code,
        attention=config.train.attention,
    )
    listed = {spec.chosen_by: spec.pooler_args for spec in reversed(config.members)}
    specs = [
        MemberSpec(pooler=name, pooler_args=listed.get(name, {})) for name in declared("pooler")
    ]
    kept = config.train.model_dump(include=KEPT)
    kept["epochs"] = -(-config.train.epochs // 2)
    training = Train(**kept, lr=RATE * config.train.lr, freeze_layers=max(0, shape.n_layers - 1))
    changed = {
        "run": f"{config.run}-screen",
        "data": config.data.model_copy(update={"dir": str(config.data_dir)}),
        "backbone": Backbone(source=source.source, sha256=source.sha256),
        "members": [*specs, AGAIN],
        "seeds": None,
        "head": Head(dropout=config.head.dropout, norm=config.head.norm),
        "train": training,
        "pseudo": None,
    }
    return Config(**{**{name: getattr(config, name) for name in Config.model_fields}, **changed})


def compare(
    config: Config, competition: Competition, store: Store, fold: int
) -> tuple[list[Screened], np.ndarray, int]:
    """The trained poolers, the best first; their errors (M, X) in that order; the place of AGAIN.

    A pooler whose training failed, or whose score is undefined, is left out. Raises UserError
    where fewer than two are left, or one of the two seeds of `mean` is missing.
    """
    scorer, rows = competition.scorer, np.flatnonzero(competition.fold_N == fold)
    ids = competition.tables.train[competition.tables.id].iloc[rows]
    cards, poolers, preds = [], [], []
    for member in config.resolve_members():
        files = store.fold(member.name, fold)
        card = files.card()
        if isinstance(member, Member) and card is not None and card.score is not None:
            cards.append(card)
            poolers.append(member.pooler)
            pred_NK = from_table(files.oof(), ids, competition.task.outputs)
            preds.append(competition.only_possible(rows, pred_NK))
    if poolers.count(str(AGAIN.pooler)) < 2:
        raise UserError(
            f"{AGAIN.pooler} has no {scorer.name} on fold {fold} under two seeds, so that nothing "
            "can be compared; see the messages above, or choose another --fold"
        )
    inputs = [scorer.metric_inputs(pred_NK) for pred_NK in preds]
    y = competition.scored[rows]
    loss_M = np.array([scorer.loss_inputs(y, each, competition.fold_N[rows]) for each in inputs])
    again_M = np.array([card.member.name.endswith(f"-{AGAIN.tag}-s{AGAIN.seed}") for card in cards])
    best = int(np.argmin(np.where(again_M, np.inf, loss_M)))
    order = np.array([best, *(i for i in np.argsort(loss_M, kind="stable") if i != best)])
    column = config.drawn_groups
    group_N = None if column is None else competition.tables.train[column].to_numpy()[rows]
    drawn_MR = bootstrap(y, inputs, scorer, group_N=group_N)
    screened = [
        Screened(
            poolers[i],
            float(cards[i].score or 0),
            gain(drawn_MR[best], drawn_MR[i], float(loss_M[best] - loss_M[i])),
            cards[i].seconds,
        )
        for i in order
    ]
    errors_MNK = np.array(preds)[order] - truth(competition.task, competition.y[rows])
    return screened, errors_MNK.reshape(len(order), -1), int(np.flatnonzero(again_M[order])[0])
