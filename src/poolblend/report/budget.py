"""How a blend keeps to `blend.budget`: the seconds of its members, and what more would buy."""

from __future__ import annotations

from poolblend.cards.blend import BudgetUse, Level
from poolblend.competition.classes import listed
from poolblend.config import Config
from poolblend.ensembling.choice import Choice
from poolblend.ensembling.honesty import Comparison
from poolblend.ensembling.levels import levels
from poolblend.loading.blend_members import Members
from poolblend.loading.prediction_costs import finished_folds, measured_on
from poolblend.printing import duration
from poolblend.report.findings import quick_blender
from poolblend.store import Store


def budget_use(
    config: Config,
    store: Store,
    gathered: Members,
    comparison: Comparison,
    looked_at: Comparison,
    choice: Choice,
) -> BudgetUse | None:
    """What the card says of the budget; None without one.

    Levels are fitted and scored on the rows of `looked_at`, the chosen blend is `comparison`'s.
    """
    budget, limit, members = gathered.matrix.budget, config.budget_seconds, gathered.matrix.members
    if budget is None or limit is None:
        return None
    rows = round(limit / budget.limit)
    weights_MK = comparison.reports[choice.blender].mixture.weights_MK
    used = [m for m in range(len(members)) if weights_MK[m].any()]
    blender = quick_blender(choice)
    found = _levels(config, looked_at, blender, limit, rows)
    free = tuple(name for name in members if gathered.origins[name].oof_file is not None)
    timed = [
        card
        for name, origin in gathered.origins.items()
        for card in finished_folds(store, name, len(origin.folds))
    ]
    needed, places = budget.seconds(used) * rows, measured_on(timed)
    sentence = _sentence(config, rows, [members[m] for m in used], needed, places, len(members))
    sentence += _without_limit(found[-1], blender, len(members))
    if len(places) > 1:
        sentence += " Seconds of different devices or machines are compared as if they were one's."
    if free:
        sentence += f" Members of other tools count as free ({listed(free)})."
    return BudgetUse(
        limit=limit,
        rows=rows,
        needed=needed,
        blender=blender,
        levels=found,
        free=free,
        measured_on=places,
        sentence=sentence,
    )


def _sentence(
    config: Config,
    rows: int,
    used: list[str],
    needed: float,
    places: tuple[str, ...],
    n_members: int,
) -> str:
    return (
        f"Within {config.blend.budget} for {rows} rows: {len(used)} of {n_members} members "
        f"({listed(used)}), about {duration(needed)} as timed in training "
        f"({'; '.join(places)}), without loading models and reading tokens."
    )


def _without_limit(unlimited: Level, blender: str, n_members: int) -> str:
    return (
        f" Without a limit, {blender} takes about {duration(unlimited.seconds)} "
        f"({len(unlimited.members)} of {n_members} members) and scores "
        f"{unlimited.honest:.4f}, honestly. Each fold's "
        "members were chosen without the fold, as its weights were; the best "
        "single member is the best that fits."
    )


def _levels(
    config: Config, looked_at: Comparison, blender: str, limit: float, rows: int
) -> tuple[Level, ...]:
    """The levels in seconds of so many rows; the budget's own has just the `limit` that is set."""
    matrix, scorer, options = looked_at.matrix, looked_at.scorer, looked_at.options
    assert matrix.budget is not None
    own = matrix.budget.limit
    return tuple(
        Level(
            limit=limit if each.limit == own else each.limit and each.limit * rows,
            seconds=each.seconds * rows,
            in_sample=each.in_sample,
            honest=each.honest,
            members=each.members,
        )
        for each in levels(matrix, scorer, options, blender, seed=config.seed)
    )
