"""What a masked language model is trained on, and its loss on texts held out.

Shape legend: N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from poolblend.modeling.masked_lm import MaskedLanguageModel
from poolblend.training.batches import Encoded
from poolblend.training.batchwise import batchwise
from poolblend.training.devices import Precision
from poolblend.training.objectives import Objective


class OwnLoss(Objective):
    """The model's outputs are its losses already."""

    def targets(self, y: np.ndarray) -> np.ndarray:
        return np.zeros((len(y), 1))

    def loss(self, logits: Tensor, y_BL: Tensor) -> Tensor:
        return logits


OWN_LOSS = OwnLoss("masked language", n_outputs=1, classes=())


def distinct_pieces(encoded: Encoded, special: Sequence[int]) -> Encoded:
    """Each of the rows' windows as a row of its own, each once, if it has a token to be hidden.

    Texts that are there twice would be trained on and held out at once.
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
    """Mean loss over the rows, without dropout; one seed hides the same tokens of them each time.

    Torch's global generator is afterwards where it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        losses = batchwise(
            model,  # type: ignore[arg-type]  # of a model it wants what every one has
            encoded,
            rows,
            model,
            batch_tokens=batch_tokens,
            precision=precision,
            after_batch=after_batch,
        )
    return float(losses.double().mean())
