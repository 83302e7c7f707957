"""Poolers: from the hidden states of a row's tokens to one vector per row.

To add one, write a class under `@POOLERS.register("name")` in any module of this folder: its own
arguments keyword-only with defaults, its maths in `pool`. That puts it into `--help`, the config's
choices, the documents' tables and the law suite of tests/modeling/test_poolers.py.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any

from poolblend.errors import UserError, unknown
from poolblend.modeling.poolers.contract import POOLERS, EncoderShape, Pooler, Tokens

__all__ = ["POOLERS", "EncoderShape", "Pooler", "Tokens", "build_pooler"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")


def build_pooler(name: str, shape: EncoderShape, args: Mapping[str, Any]) -> Pooler:
    """The registered pooler `name` for an encoder of `shape`, with `args` from the config.

    Raises UserError for an unknown name, an unknown argument, or a value out of its range.
    """
    pooler = POOLERS[name]
    parameters = inspect.signature(pooler).parameters.values()
    known = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    try:
        for argument in args:
            if argument not in known:
                raise unknown("argument", argument, known)
        return pooler(shape, **args)
    except UserError as error:
        raise UserError(f"pooler '{name}': {error}") from None
