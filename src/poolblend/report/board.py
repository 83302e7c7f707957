"""The values of `poolblend board`: a run's members and blends, with their scores and costs."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from poolblend.cards.blend import BlendCard, BlendMember
from poolblend.cards.fold import FoldCard
from poolblend.cards.fold_names import REFIT
from poolblend.competition.metrics import METRICS
from poolblend.config import Config
from poolblend.ensembling.contributions import fold_scores, member_table
from poolblend.ensembling.costs import Cost, on_frontier
from poolblend.ensembling.fitting import Form, cross_fitted
from poolblend.ensembling.honesty import fold_masks
from poolblend.errors import UserError
from poolblend.jobs.blend_plan import check_unchanged
from poolblend.loading.blend_members import gather
from poolblend.loading.competition import Competition, load_competition
from poolblend.loading.prediction_costs import finished_folds, measured_on, prediction_cost
from poolblend.loading.trained_members import describe_incomplete, fold_cards
from poolblend.report.board_rows import ROWS, BlendRow, Board, MemberRow, Scores, Value
from poolblend.report.standings import Standing, standing
from poolblend.store import DamagedError, Store, read_folds


def make_board(config: Config, store: Store, device: str) -> Board:
    """The board of the run; `device` is this machine's type of device.

    Members in the blend have the blend's scores; others are scored from their stored predictions.
    Nothing is written. Raises UserError where tables that this needs cannot be read.
    """
    card, note = _read_blend(store)
    n_folds = _number_of_folds(config, store, card)
    in_config = [member.name for member in config.resolve_members()]
    names = list(dict.fromkeys([*in_config, *store.members()]))
    standings = {name: standing(store, name, n_folds) for name in names}
    missing = _why_missing(config, store, standings, n_folds)
    cards = {
        name: finished_folds(store, name, n_folds)
        for name, each in standings.items()
        if len(each.scores) == n_folds
    }
    blended, changed = _blended(store, card)
    missing |= changed
    scores = {
        name: Scores(Value(each.score, each.low, each.high), each.fold_scores)
        for name, each in blended.items()
    }
    unscored = [name for name in cards if name not in scores]
    if unscored:
        scored, refused = _stored_scores(config, store, unscored, card)
        scores |= scored
        missing |= refused
    if card is not None:
        missing |= {name: why for name, why in card.left_out.items() if name in scores}
    refits = {name for name in cards if _has_refit(store, name)}
    rows = [
        _row(name, scores[name], cards.get(name, ()), blended.get(name), refit=name in refits)
        for name in scores
    ]
    metric = card.metric if card is not None else config.metric
    better = METRICS[metric].better
    timed = [each for row in rows for each in cards.get(row.member, ())]
    places = measured_on(timed)
    here = {(each.device, each.provenance.machine) for each in timed if each.prediction}
    return Board(
        run=store.run,
        metric=metric if config.metric_by is None else f"{metric} by {config.metric_by}",
        better=better,
        n_folds=n_folds,
        members=_ordered(_with_frontier(rows, better), better),
        blends=tuple(_blend_rows(card)),
        missing=missing,
        sentence=note if card is None else _sentence(card),
        shared_bytes=_shared_bytes(timed),
        measured_on=places,
        elsewhere=bool(here - {(device, platform.node())}),
    )


def _read_blend(store: Store) -> tuple[BlendCard | None, str | None]:
    """The blend card; or None, and why an existing one cannot be used."""
    if not store.blend_path.exists():
        return None, None
    try:
        return store.read_blend(), None
    except UserError as error:
        return None, str(error)


def _sentence(card: BlendCard) -> str:
    return " ".join([card.sentence, *([card.budget.sentence] if card.budget else [])])


def _number_of_folds(config: Config, store: Store, card: BlendCard | None) -> int:
    if card is not None:
        return card.choice.n_folds
    frozen = read_folds(store.folds_path)
    return config.folds.n if frozen is None else int(frozen.table["fold"].max()) + 1


def _why_missing(
    config: Config, store: Store, standings: Mapping[str, Standing], n_folds: int
) -> dict[str, str]:
    """Why members are not complete, by name; failed folds with their reasons."""
    trained = store.members()
    whole = [name for name in trained if not standings[name].damaged]
    missing = {
        name: reason.removeprefix("is ")
        for name, reason in describe_incomplete(config, store, whole, n_folds).items()
    }
    for name, each in standings.items():
        if each.damaged:
            folds = ", ".join(map(str, each.damaged))
            missing[name] = f"fold {folds} damaged; train.py --check shows details"
        elif not each.scores and name not in missing:
            missing[name] = "not trained yet"
    return missing


def _blended(store: Store, card: BlendCard | None) -> tuple[dict[str, BlendMember], dict[str, str]]:
    """The blend's members whose models are still those of the blend, and why others are not."""
    members, changed = {}, {}
    for name, member in card.members.items() if card is not None else ():
        try:
            check_unchanged(store, name, member.origin)
            members[name] = member
        except UserError as error:
            changed[name] = str(error).removeprefix(f"{name} ")
    return members, changed


def _stored_scores(
    config: Config, store: Store, names: Sequence[str], card: BlendCard | None
) -> tuple[dict[str, Scores], dict[str, str]]:
    """The scores of complete members, and why some have none.

    Cuts are cross-fitted if the blend's are.
    """
    competition = load_competition(config, store)
    refused = {}
    for name in names:
        try:
            _check(store, name, competition)
        except UserError as error:
            refused[name] = str(error).removeprefix(f"member {name} ")
    good = [name for name in names if name not in refused]
    if not good:
        return {}, refused
    matrix, scorer = gather(config, store, good, None).matrix, competition.scorer
    folds = fold_masks(matrix)
    form = Form("plain", card is not None and card.form.cuts)
    inputs = [
        cross_fitted(pred_NK[None], matrix.y, folds, scorer, form) for pred_NK in matrix.oof_MNK
    ]
    table = member_table(
        matrix, scorer, inputs, seed=config.seed, resamples=config.blend.resamples
    ).astype(object)
    known = table.where(table.notna(), None)[["score", "low", "high"]].to_numpy().tolist()
    return {
        name: Scores(Value(*row), fold_scores(matrix, scorer, each))
        for name, row, each in zip(matrix.members, known, inputs, strict=True)
    }, refused


def _check(store: Store, name: str, competition: Competition) -> None:
    """Raise UserError for a member that was trained on other data or folds, or is damaged."""
    fold_cards(store, name, competition)
    for fold in range(competition.n_folds):
        store.fold(name, fold).oof()


def _row(
    name: str,
    scores: Scores,
    cards: Sequence[FoldCard],
    blended: BlendMember | None,
    *,
    refit: bool,
) -> MemberRow:
    outside = blended is not None and blended.origin.oof_file is not None
    if outside:
        cards = ()  # of a trained member of the same name
    cost = prediction_cost(cards) if cards else None
    known = [each for each in scores.folds if each is not None]
    without = None if blended is None else blended.without
    return MemberRow(
        member=name,
        outside=outside,
        score=scores.overall,
        fold_mean=statistics.mean(known) if known else None,
        fold_sd=statistics.stdev(known) if len(known) > 1 else None,
        train_seconds=sum(card.seconds for card in cards) if cards else None,
        predict_seconds=None if cost is None else ROWS * cost.alone,
        shared_seconds=None if cost is None else ROWS * sum(cost.shared.values()),
        bytes=sum(map(_own_bytes, cards)) if cards else None,
        weight=None if blended is None else blended.weight,
        loss_without=None if without is None else Value(without.value, without.low, without.high),
        refit_seconds=_of_one(cost, len(cards)) if refit and cost is not None else None,
    )


def _of_one(cost: Cost, n_folds: int) -> float:
    """Seconds to predict by one model: frozen layers are computed once for any number."""
    return ROWS * (cost.own / n_folds + sum(cost.shared.values()))


def _has_refit(store: Store, name: str) -> bool:
    try:
        return store.fold(name, REFIT).card() is not None
    except DamagedError:  # train.py --check says so
        return False


def _own_bytes(card: FoldCard) -> int:
    files = card.files
    return sum(file.bytes for file in (files.weights, files.oof, *files.others.values()))


def _shared_bytes(cards: Iterable[FoldCard]) -> int:
    """Of the backbones that fold models stand on, each once."""
    bases = {card.files.base.folder: card.files.base for card in cards if card.files.base}
    return sum(base.weights.bytes for base in bases.values())


def _with_frontier(rows: Sequence[MemberRow], better: str) -> list[MemberRow]:
    known = {
        row.member: (row.score.value, row.predict_seconds)
        for row in rows
        if row.score.value is not None and row.predict_seconds is not None
    }
    scores, seconds = ([each[i] for each in known.values()] for i in (0, 1))
    on = dict(zip(known, on_frontier(scores, seconds, better), strict=True))
    return [replace(row, frontier=on.get(row.member, False)) for row in rows]


def _ordered(rows: Sequence[MemberRow], better: str) -> tuple[MemberRow, ...]:
    """The best first, those without a score last."""
    sign = -1 if better == "max" else 1

    def key(row: MemberRow) -> tuple[bool, float, str]:
        value = row.score.value
        return value is None, 0.0 if value is None else sign * value, row.member

    return tuple(sorted(rows, key=key))


def _blend_rows(card: BlendCard | None) -> Iterable[BlendRow]:
    if card is None:
        return
    for name, scores in card.blenders.items():
        yield BlendRow(name, scores.in_sample, scores.honest, name == card.blender)
