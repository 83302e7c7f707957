"""The blenders' registry: one function under one `@register`, from a problem to weights."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from poolblend.ensembling.problem import BlendFit, BlendProblem
from poolblend.registry import Registry

log = logging.getLogger(__name__)

SLOW = 5.0  # seconds, beyond which a fit is worth a line
Fit = Callable[[BlendProblem], BlendFit]


@dataclass(frozen=True)
class Blender:
    """A registered fitter; of two that score alike, the one of lower `complexity` is preferred.

    `space` is "logit" for a fitter that works on logits (and on plain values where there are
    none), None for one that works in any space. A `quick` one can be fitted again and again.
    """

    name: str
    complexity: int
    fit: Fit
    space: str | None = None
    quick: bool = True

    def __call__(self, problem: BlendProblem) -> BlendFit:
        if problem.n_members == 1:
            return BlendFit(np.ones(1))
        started = time.perf_counter()
        fitted = self.fit(problem)
        seconds = time.perf_counter() - started
        if seconds > SLOW:
            rows, outputs = len(problem.y), problem.n_outputs
            log.info("%s: %.0f s to fit %d rows, %d outputs", self.name, seconds, rows, outputs)
        return fitted


BLENDERS: Registry[Blender] = Registry("blender")


def register(
    name: str, *, complexity: int, space: str | None = None, quick: bool = True
) -> Callable[[Fit], Fit]:
    """Decorator that enters a fitter under `name`, at its place among simpler and richer ones."""

    def enter(fit: Fit) -> Fit:
        BLENDERS.add(name, Blender(name, complexity, fit, space, quick))
        return fit

    return enter


def by_simplicity() -> list[str]:
    """All blenders' names, the simplest first."""
    return sorted(BLENDERS, key=lambda name: BLENDERS[name].complexity)
