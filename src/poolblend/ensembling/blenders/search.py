"""The metric itself, any metric, searched over the simplex from the best of the simpler blends.

Legend: M members.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np

from poolblend.ensembling.blenders.registry import BLENDERS, by_simplicity, register
from poolblend.ensembling.problem import BlendFit, BlendProblem, Trial, without_crumbs
from poolblend.ensembling.study import SEARCH, Scored, Study, open_study, quiet_optuna
from poolblend.errors import UserError

# How far a weight may move from its start, in equal shares: near the best of the simpler blends is
# where better ones are. CMA-ES begins in the middle of its space, with steps of a sixth of it.
REACH = 0.3


@register("optuna", complexity=7, quick=False)
def search(problem: BlendProblem) -> BlendFit:
    """Optuna's CMA-ES on the metric itself, begun at the best of the simpler blends.

    The starts are scored exactly, and the result is the best of all that was scored, the earliest
    of equals; so it is never below a simpler blender on the rows it is fitted on. Weights below a
    tenth of an equal share are dropped from every trial. Hansen & Ostermeier, Completely
    derandomized self-adaptation in evolution strategies, 2001. Raises UserError for a study file
    that cannot be used.
    """
    starts = [
        Scored(name, weights_M, problem.loss(weights_M))
        for name, weights_M in _starts(problem).items()
    ]
    with open_study(problem, starts) as study:
        known = study.trials()
        tried = _search(problem, starts, known, study)
        # In the study's own order, all who share it find the same winner among equals.
        history = _history([*starts, *study.trials()] if problem.study else tried)
    best = min(history, key=lambda trial: trial.loss)
    return BlendFit(np.array(best.weights_M), history=history)


def _search(
    problem: BlendProblem, starts: list[Scored], known: list[Scored], study: Study
) -> list[Scored]:
    """Score trials until there are as many as asked for, those of other processes among them.

    What the study holds of this search is gone through again, without scoring it, so that a search
    taken up after a kill ends where it would have ended.
    """
    tried, done = [*starts, *known], 0

    def tick(count: int) -> None:
        nonlocal done
        for _ in range(min(count, problem.trials - done) if problem.progress else 0):
            problem.progress()  # type: ignore[misc]
        done += count

    tick(len(known))
    if done >= problem.trials:
        return tried
    scored_before: dict[bytes, list[float]] = {}
    for trial in known:
        scored_before.setdefault(trial.weights_M.tobytes(), []).append(trial.loss)
    ask, tell = sampler(min(starts, key=lambda trial: trial.loss), problem.seed + study.entrant)
    while done < problem.trials:
        weights_M = ask()
        if scored_before.get(weights_M.tobytes()):
            tell(scored_before[weights_M.tobytes()].pop())
            continue
        scored = Scored(SEARCH, weights_M, problem.loss(weights_M))
        tell(scored.loss)
        tried.append(scored)
        tick(1 + study.keep(scored))
    return tried


def sampler(start: Scored, seed: int) -> tuple[Callable[[], np.ndarray], Callable[[float], object]]:
    """Functions that ask Optuna for weights (M,) near the start's, and tell it their loss.

    CMA-ES on offsets to the start's weights; benchmarks/samplers.py tells why this one.
    """
    import optuna

    if find_spec("cmaes") is None:
        raise UserError(
            "the optuna blender needs the package cmaes: pip install cmaes, or name the blenders "
            "to compare without it (blend.fitters=[equal,best,shrunk,greedy,convex])"
        )
    n_members = len(start.weights_M)
    names = [f"offset {m}" for m in range(n_members)]
    offset = optuna.distributions.FloatDistribution(-REACH, REACH)
    space: dict[str, optuna.distributions.BaseDistribution] = dict.fromkeys(names, offset)
    origin = dict.fromkeys(names, 0.0)
    with quiet_optuna():
        live = optuna.create_study(sampler=optuna.samplers.CmaEsSampler(seed=seed))
    live.add_trial(optuna.trial.create_trial(params=origin, distributions=space, value=start.loss))
    asked: list[optuna.Trial] = []

    def ask() -> np.ndarray:
        asked[:] = [live.ask(space)]
        offset_M = np.array([asked[0].params[name] for name in names])
        weights_M = np.maximum(start.weights_M + offset_M / n_members, 0)
        total = weights_M.sum()
        return without_crumbs(weights_M / total) if total > 0 else start.weights_M

    return ask, lambda loss: live.tell(asked[0], loss)


def _history(scored: Sequence[Scored]) -> tuple[Trial, ...]:
    least = np.minimum.accumulate([each.loss for each in scored]).tolist()
    return tuple(
        Trial(number, each.source, each.loss, best, tuple(each.weights_M.tolist()))
        for number, (each, best) in enumerate(zip(scored, least, strict=True))
    )


def _starts(problem: BlendProblem) -> dict[str, np.ndarray]:
    """Weights (M,) of every simpler blender that has them on the simplex, the simplest first."""
    names = [name for name in by_simplicity() if BLENDERS[name].space is None and name != "optuna"]
    return {name: (problem.starts.get(name) or BLENDERS[name](problem)).weights_M for name in names}
