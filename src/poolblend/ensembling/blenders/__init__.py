"""The blenders: how weights are fitted, one function under one `@register` each.

Each is given a `BlendProblem` and returns weights of at least 0; all but `stack` give weights that
sum to 1. What they share (spaces, cuts, weights per output, honest scores) is not their concern.
"""

from poolblend.ensembling.blenders import (  # noqa: F401
    convex,
    greedy,
    search,
    shrunk,
    simple,
    stack,
)
from poolblend.ensembling.blenders.registry import BLENDERS, Blender, by_simplicity, register

__all__ = ["BLENDERS", "Blender", "by_simplicity", "register"]
