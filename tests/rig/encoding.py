"""Texts encoded as a `TextSpec` says, written short."""

from poolblend.text_spec import TextSpec, Windows
from poolblend.training import encoding


def encode(columns, tokenizer, max_length, *, windows=None, between=None, **spec):
    """As training.encoding.encode; `windows` are (overlap, most)."""
    if windows is not None:
        spec["windows"] = Windows(overlap=windows[0], most=windows[1])
    spec = TextSpec(max_length=max_length, **spec)
    return encoding.encode(columns, tokenizer, spec, between)
