"""Options of models: the head after the pooler, and the further training of a backbone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from poolblend.options import Section

Mask = Literal["attention", "content", "none"]  # the tokens that poolers count
Norm = Literal["none", "layer", "batch"]  # before a trained head's linear layer
FrozenKind = Literal["ridge", "logistic", "svr"]  # heads that scikit-learn fits


class Head(Section):
    """What follows the pooler: dropout, an optional normalisation, a linear layer.

    Or one of scikit-learn's models over a frozen encoder's pooled vectors, which trains in seconds.
    """

    kind: Literal["linear", "ridge", "logistic", "svr"] = "linear"
    dropout: float = Field(0.1, ge=0, lt=1)
    norm: Norm = "none"
    C: float = Field(1.0, gt=0)  # of ridge (alpha = 1 / 2C), logistic, svr: the larger, the freer

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone_is_a_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @property
    def frozen(self) -> bool:
        """Whether it is fitted to a frozen encoder's vectors, rather than trained with it."""
        return self.kind != "linear"


class MaskedLanguage(Section):
    """Continued masked-language-model training of a backbone on the texts of train and test."""

    epochs: int = Field(1, ge=1)
    lr: float = Field(5e-5, gt=0)
    batch_size: int = Field(32, ge=1)
    mask: float = Field(0.15, gt=0, lt=1)  # share of the tokens that are masked
    max_length: int = Field(128, ge=4)
