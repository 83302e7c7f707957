"""Training rows of a masked language model, and its loss on held-out texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from poolblend.modeling.masked_lm import MaskedLanguageModel
from poolblend.training.batches import Encoded
from poolblend.training.devices import Precision
from poolblend.training.objectives import Objective
from poolblend.training.prediction import batchwise


class OwnLoss(Objective):
    """The model's outputs are its losses already."""

    def targets(self, y: np.ndarray) -> np.ndarray:
        return np.zeros((len(y), 1))

    def loss(self, logits: Tensor, y_BL: Tensor) -> Tensor:
        return logits


OWN_LOSS = OwnLoss("masked language", n_outputs=1, classes=())


def distinct_pieces(encoded: Encoded, special: Sequence[int]) -> Encoded:
    """The rows' windows as separate rows without repeats, if they have a token to mask.

    A repeated text could be both trained on and held out.
    """
    ids, content = encoded.ids, encoded.content
    if encoded.windowing is not None:
        cut = encoded.windowing.cut
        content = tuple(piece for row in content for piece in cut(row)[0])
        ids = tuple(piece for row in ids for piece in cut(row)[0])
    first = {row.tobytes(): n for n, row in reversed(list(enumerate(ids)))}
    kept = [
        n for n in sorted(first.values()) if (content[n] & ~np.isin(ids[n], list(special))).any()
    ]
    types = encoded.types
    return replace(
        encoded,
        ids=tuple(ids[n] for n in kept),
        content=tuple(content[n] for n in kept),
        types=None if types is None else tuple(types[n] for n in kept),
        windowing=None,
    )


def held_out_loss(
    model: MaskedLanguageModel,
    encoded: Encoded,
    rows: np.ndarray,
    *,
    seed: int,
    batch_tokens: int,
    precision: Precision,
    after_batch: Callable[[], None] | None = None,
) -> float:
    """Mean loss over the rows, without dropout; one seed masks the same tokens each time.

    The state of torch's global generator is restored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        losses = batchwise(
            model,  # type: ignore[arg-type]  # it uses only what both kinds of model have
            encoded,
            rows,
            model,
            batch_tokens=batch_tokens,
            precision=precision,
            after_batch=after_batch,
        )
    return float(losses.double().mean())
