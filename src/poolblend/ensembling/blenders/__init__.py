"""The blenders: how weights are fitted, one function under one `@register` each.

To add one, write a function from a `BlendProblem` to a `BlendFit` under `@register("name", …)` in
any module of this folder. That puts it into `--help`, the config's choices, the documents' tables,
the comparison of all blenders and the law suite of tests/ensembling/test_blenders.py. Weights are
at least 0 and sum to 1, unless the blender names its `space`. Spaces, cuts, weights per output and
honest scores are handled elsewhere.
"""

import importlib
import pkgutil

from poolblend.ensembling.problem import BLENDERS, Blender, by_simplicity, register

__all__ = ["BLENDERS", "Blender", "by_simplicity", "register"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
