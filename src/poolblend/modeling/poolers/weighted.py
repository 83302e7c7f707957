"""Poolers that weight tokens by how rare their words are, or by learned scores.

Shapes: V words of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poolblend.errors import unknown
from poolblend.modeling.poolers import masked
from poolblend.modeling.poolers.contract import POOLERS, EncoderShape, Pooler, Tokens, whole


@POOLERS.register("weighted")
class Weighted(Pooler):
    """The mean of the tokens weighted by IDF, or (by=features) by a learned softplus(wx + b).

    IDF is ln((1 + N) / (1 + df)) + 1 over the N rows given to `fit`, as in scikit-learn; before
    `fit` all tokens weigh the same.
    """

    idf_V: Tensor
    LEAST = 1e-6  # keeps the weights of a row from all vanishing

    def __init__(self, shape: EncoderShape, *, by: str = "idf") -> None:
        super().__init__(shape)
        if by not in ("idf", "features"):
            raise unknown("weight", by, ("idf", "features"), "in 'by'")
        self.by = by
        if by == "idf":
            self.register_buffer("idf_V", torch.ones(shape.vocab_size))
        else:
            self.score = nn.Linear(shape.hidden_size, 1)

    def fit(self, rows: Sequence[np.ndarray]) -> None:
        """Count in how many of the rows each token id occurs (`by="idf"` alone needs it)."""
        if self.by == "idf":
            df_V = np.zeros(len(self.idf_V))
            for row in rows:
                df_V[row] += 1  # an id that repeats in the row still counts once
            self.idf_V.copy_(torch.from_numpy(np.log((1 + len(rows)) / (1 + df_V)) + 1))

    def pool(self, tokens: Tokens) -> Tensor:
        x_BTH, mask_BT = tokens.hidden[0], tokens.mask_BT
        return masked.weighted_mean(x_BTH, self.weights(tokens), mask_BT)

    def weights(self, tokens: Tokens) -> Tensor:
        """One positive weight per token, (B, T)."""
        if self.by == "idf":
            # With mask=none padding counts: it weighs as much as a word that is in every row.
            return self.idf_V[tokens.ids_BT].where(tokens.attention_BT, 1.0)
        x_BTH = masked.kept(tokens.hidden[0], tokens.mask_BT).to(self.score.weight.dtype)
        return F.softplus(self.score(x_BTH)[..., 0].float()) + self.LEAST


@POOLERS.register("attention")
class Attention(Pooler):
    """The mean of the tokens weighted by a small network: linear, norm, GELU, linear, softmax."""

    def __init__(self, shape: EncoderShape, *, hidden: int | None = None) -> None:
        super().__init__(shape)
        size = shape.hidden_size if hidden is None else whole("hidden", hidden, least=1)
        self.score = nn.Sequential(
            nn.Linear(shape.hidden_size, size),
            nn.LayerNorm(size),
            nn.GELU(),
            # A bias would add the same to all scores of a row, which softmax cancels.
            nn.Linear(size, 1, bias=False),
        )

    def pool(self, tokens: Tokens) -> Tensor:
        x_BTH, mask_BT = tokens.hidden[0], tokens.mask_BT
        kept_BTH = masked.kept(x_BTH, mask_BT).to(next(self.parameters()).dtype)
        score_BT = self.score(kept_BTH)[..., 0].float().masked_fill(~mask_BT, -torch.inf)
        return masked.weighted_mean(x_BTH, score_BT.softmax(1), mask_BT)
