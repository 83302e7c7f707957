"""Activations computed again in the backward pass, rather than kept: less memory, more time."""

from __future__ import annotations

from typing import Any

from poolblend.errors import UserError


def checkpoint_activations(encoder: Any) -> None:
    """Switch it on for every layer; UserError where the encoder's family cannot do it."""
    if not encoder.supports_gradient_checkpointing:
        raise UserError(
            f"train.gradient_checkpointing is true, which {type(encoder).__name__} does not "
            "support; set it to false, and train.batch_size lower where memory is short"
        )
    # Renamed in transformers 5.23, where the old name warns.
    enable = getattr(encoder, "activation_checkpointing_enable", None)
    (enable or encoder.gradient_checkpointing_enable)()
