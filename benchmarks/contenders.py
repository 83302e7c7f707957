"""What `samplers.py` compares: samplers, each over one way of mapping its parameters to weights.

A contender is made from scored starts and a seed; `ask` gives weights (M,), `tell` takes their
loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import optuna

from poolblend.ensembling.blenders.search import sampler
from poolblend.ensembling.problem import prune_small_weights

Mapping = tuple[tuple[float, float], Callable, Callable]  # bounds, point to weights, and back


class Scored(NamedTuple):
    """Weights (M,) and their loss."""

    weights_M: np.ndarray
    loss: float


class Ours:
    """The library's own: Optuna's CMA-ES on offsets."""

    def __init__(self, starts: list[Scored], seed: int) -> None:
        self.ask, self._tell = sampler(*best_of(starts), seed)

    def tell(self, weights_M: np.ndarray, loss: float) -> None:
        self._tell(loss)


class Walk:
    """A (1+1) evolution strategy, its step led by success (Rechenberg 1973): the simplest peer."""

    def __init__(self, starts: list[Scored], seed: int) -> None:
        self.best, self.rng, self.step = best_of(starts), np.random.default_rng(seed), 0.5

    def ask(self) -> np.ndarray:
        n_members = len(self.best.weights_M)
        moved_M = self.best.weights_M + self.step / n_members * self.rng.normal(size=n_members)
        moved_M = np.maximum(moved_M, 0)
        if not moved_M.any():
            return self.best.weights_M
        return prune_small_weights(moved_M / moved_M.sum())

    def tell(self, weights_M: np.ndarray, loss: float) -> None:
        better = loss < self.best.loss
        self.step = min(max(self.step * (1.5 if better else 1.5**-0.1), 0.01), 2.0)
        if better:
            self.best = Scored(weights_M, loss)


class ByOptuna:
    """One of Optuna's samplers over one way of mapping its parameters to weights."""

    def __init__(self, make: Callable, mapping: Callable[[np.ndarray], Mapping]) -> None:
        self.make, self.mapping = make, mapping

    def __call__(self, starts: list[Scored], seed: int) -> ByOptuna:
        (low, high), self.weights, point = self.mapping(best_of(starts).weights_M)
        share = optuna.distributions.FloatDistribution(low, high)
        self.space = {f"x{m:02d}": share for m in range(len(starts[0].weights_M))}
        self.study = optuna.create_study(sampler=self.make(seed=seed))
        for start in starts:
            x_M = point(start.weights_M)
            params = dict(zip(self.space, x_M.tolist(), strict=True))
            if np.allclose(self.weights(x_M), start.weights_M, atol=1e-6):
                self.study.add_trial(
                    optuna.trial.create_trial(
                        params=params, distributions=self.space, value=start.loss
                    )
                )
        return self

    def ask(self) -> np.ndarray:
        self.trial = self.study.ask(self.space)
        return self.weights(np.array([self.trial.params[name] for name in self.space]))

    def tell(self, weights_M: np.ndarray, loss: float) -> None:
        self.study.tell(self.trial, loss)


class ByCma:
    """CMA-ES without Optuna, whose own sampler keeps pickles in its trials."""

    def __init__(self, mapping: Callable[[np.ndarray], Mapping], spread: float) -> None:
        self.mapping, self.spread = mapping, spread

    def __call__(self, starts: list[Scored], seed: int) -> ByCma:
        from cmaes import CMA

        best_M = best_of(starts).weights_M
        bounds, self.weights, point = self.mapping(best_M)
        each = np.array([bounds] * len(best_M))
        self.cma = CMA(mean=point(best_M), sigma=self.spread, bounds=each, seed=seed + 1)
        self.generation: list[tuple[np.ndarray, float]] = []
        return self

    def ask(self) -> np.ndarray:
        self.x_M = self.cma.ask()
        return self.weights(self.x_M)

    def tell(self, weights_M: np.ndarray, loss: float) -> None:
        self.generation.append((self.x_M, loss))
        if len(self.generation) == self.cma.population_size:
            self.cma.tell(self.generation)
            self.generation = []


def best_of(trials: list[Scored]) -> Scored:
    return min(trials, key=lambda trial: trial.loss)


def minus_log(_: np.ndarray) -> Mapping:
    """w ∝ -log u: uniform u gives weights uniform over the simplex (Devroye 1986, ch. XI.4)."""

    def weights(u_M: np.ndarray) -> np.ndarray:
        share_M = -np.log(u_M)
        return share_M / share_M.sum() if share_M.any() else np.full(len(u_M), 1 / len(u_M))

    def point(weights_M: np.ndarray) -> np.ndarray:
        scale = min(len(weights_M), -math.log(1e-3) / weights_M.max())
        return np.clip(np.exp(-scale * weights_M), 1e-3, 1)

    return (1e-3, 1.0), weights, point


def offset(start_M: np.ndarray) -> Mapping:
    """w ∝ max(0, start + x / M)."""
    n_members = len(start_M)

    def weights(x_M: np.ndarray) -> np.ndarray:
        moved_M = np.maximum(0, start_M + x_M / n_members)
        return moved_M / moved_M.sum() if moved_M.any() else start_M

    return (-3, 3), weights, lambda weights_M: np.clip((weights_M - start_M) * n_members, -3, 3)


def soft(start_M: np.ndarray) -> Mapping:
    """w = softmax(log start + x)."""
    floor = 0.1 / len(start_M)
    log_M = np.log(np.maximum(start_M, floor))

    def weights(x_M: np.ndarray) -> np.ndarray:
        power_M = np.exp(log_M + x_M)
        return power_M / power_M.sum()

    def point(weights_M: np.ndarray) -> np.ndarray:
        return np.clip(np.log(np.maximum(weights_M, floor)) - log_M, -4, 4)

    return (-4, 4), weights, point


def tpe(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def tpe_single(seed: int) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(seed=seed, multivariate=False)


# The contender, and how many trials it is given: 500 of some would take hours.
SAMPLERS: dict[str, tuple[Callable, int]] = {
    "ours": (Ours, 500),
    "walk": (Walk, 500),
    "cma-offset-.1": (ByCma(offset, 0.1), 500),
    "cma-offset-.5": (ByCma(offset, 0.5), 500),
    "cma-softmax": (ByCma(soft, 0.5), 500),
    "cma-log": (ByCma(minus_log, 0.2), 500),
    "random-log": (ByOptuna(optuna.samplers.RandomSampler, minus_log), 500),
    "tpe-log": (ByOptuna(tpe, minus_log), 200),
    "tpe-offset": (ByOptuna(tpe, offset), 200),
    "tpe-softmax": (ByOptuna(tpe, soft), 200),
    "tpe-single-log": (ByOptuna(tpe_single, minus_log), 200),
    "gp-offset": (ByOptuna(optuna.samplers.GPSampler, offset), 100),
}
