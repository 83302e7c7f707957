"""Choices that models offer; this module must not import torch."""

from typing import Literal

Mask = Literal["attention", "content", "none"]  # the tokens that poolers count
Norm = Literal["none", "layer", "batch"]  # before a trained head's linear layer
FrozenKind = Literal["ridge", "logistic", "svr"]  # heads that scikit-learn fits
