"""Attention masks that are made without reading from the device.

transformers asks the mask whether anything is padded, which waits until a GPU has done all that it
was given. Whoever padded the rows knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

_padded: ContextVar[bool | None] = ContextVar("padded", default=None)


@contextmanager
def known_padding(padded: bool | None) -> Iterator[None]:
    """Inside this context, encoders take `padded` as the answer; None: they read the mask.

    The masks are the same. Families that make their masks themselves (DeBERTa) read nothing, and
    flash attention, which leaves out the padding, always reads.
    """
    before = _padded.set(padded)
    try:
        yield
    finally:
        _padded.reset(before)


def _with_known_padding(make: Callable[..., Any]) -> Callable[..., Any]:
    """transformers' maker of masks, which looks into the mask only where nobody knows."""

    @wraps(make)
    def mask(*args: Any, **kwargs: Any) -> Any:
        padded = _padded.get()
        if padded:
            skips = dict.fromkeys(("allow_is_causal_skip", "allow_is_bidirectional_skip"), False)
            return make(*args, **kwargs | skips)
        if padded is False:
            return make(*args, **kwargs | {"attention_mask": None})
        return make(*args, **kwargs)

    return mask


for _name in ("eager", "sdpa"):
    AttentionMaskInterface.register(_name, _with_known_padding(ALL_MASK_ATTENTION_FUNCTIONS[_name]))
