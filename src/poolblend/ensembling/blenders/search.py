"""Search the simplex for the best metric, from the best of the simpler blends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np

from poolblend.ensembling.problem import (
    BLENDERS,
    SEARCH,
    BlendFit,
    BlendProblem,
    Trial,
    prune_small_weights,
    register,
    starting_blenders,
)
from poolblend.ensembling.study import quiet_optuna
from poolblend.errors import UserError

# How far a weight may move from its start, in equal shares: near the best of the simpler blends is
# where better ones are. CMA-ES begins in the middle of its space, with steps of a sixth of it.
REACH = 0.3


@register("optuna", complexity=7, quick=False, searches=True)
def search(problem: BlendProblem) -> BlendFit:
    """Optuna's CMA-ES on the metric itself, started from the best of the simpler blends.

    The starts are scored exactly, and the result is the best of all trials, the earliest of equals;
    so it is never below a simpler blender on the rows it is fitted on. Weights below a tenth of an
    equal share are dropped from every trial. Hansen & Ostermeier, Completely derandomized
    self-adaptation in evolution strategies, 2001.
    """
    history: list[Trial] = []

    def evaluate(source: str, weights_M: np.ndarray) -> float:
        loss = problem.loss(weights_M)
        least = min(loss, history[-1].best) if history else loss
        history.append(Trial(len(history), source, loss, least, tuple(weights_M.tolist())))
        return loss

    for name in starting_blenders():
        fit = problem.starts.get(name) or BLENDERS[name](problem)
        evaluate(name, fit.weights_M)
    start = _best(history)
    ask, tell = sampler(np.array(start.weights_M), start.loss, problem.seed)
    for _ in range(problem.trials):
        tell(evaluate(SEARCH, ask()))
        if problem.progress:
            problem.progress()
    return BlendFit(np.array(_best(history).weights_M), history=tuple(history))


def _best(trials: Sequence[Trial]) -> Trial:
    return min(trials, key=lambda trial: trial.loss)


def sampler(
    start_M: np.ndarray, start_loss: float, seed: int
) -> tuple[Callable[[], np.ndarray], Callable[[float], object]]:
    """Functions that ask Optuna for weights (M,) near the start's, and tell it their loss.

    CMA-ES on offsets to the start's weights; benchmarks/samplers.py shows why this one.
    """
    import optuna

    if find_spec("cmaes") is None:
        raise UserError(
            "the optuna blender needs the package cmaes: pip install cmaes, or name the blenders "
            "to compare without it (blend.fitters=[equal,best,shrunk,greedy,convex])"
        )
    names = [f"offset {m}" for m in range(len(start_M))]
    offset = optuna.distributions.FloatDistribution(-REACH, REACH)
    space: dict[str, optuna.distributions.BaseDistribution] = dict.fromkeys(names, offset)
    origin = dict.fromkeys(names, 0.0)
    with quiet_optuna():
        study = optuna.create_study(sampler=optuna.samplers.CmaEsSampler(seed=seed))
    study.add_trial(optuna.trial.create_trial(params=origin, distributions=space, value=start_loss))
    asked: list[optuna.Trial] = []

    def ask() -> np.ndarray:
        asked[:] = [study.ask(space)]
        offset_M = np.array([asked[0].params[name] for name in names])
        weights_M = np.maximum(start_M + offset_M / len(start_M), 0)
        total = weights_M.sum()
        return prune_small_weights(weights_M / total) if total > 0 else start_M

    return ask, lambda loss: study.tell(asked[0], loss)
