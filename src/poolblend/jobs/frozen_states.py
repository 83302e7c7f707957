"""The hidden states of a model's frozen layers: stored once, then read instead of computed.

Shape legend: N rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from poolblend.cards.fold import BackboneHashes
from poolblend.cards.hidden_states import HiddenStatesCard, HiddenStatesInputs
from poolblend.config import Member
from poolblend.modeling.frozen import pass_over
from poolblend.modeling.layers import unchanged_layers
from poolblend.modeling.model import TextModel
from poolblend.store import Store
from poolblend.store.files import UnwritableError
from poolblend.store.hidden_states import GIGABYTE, Put
from poolblend.store.locks import ProcessLock
from poolblend.training.devices import Precision, choose_device, resolve_precision
from poolblend.training.encoding import Encoded, rows_sha256, starts_of_rows
from poolblend.training.hidden_states import HiddenStates, stored_dtype
from poolblend.training.prediction import Stopwatch, compute_states, tokens_at_once

log = logging.getLogger(__name__)

WAIT = 0.5  # seconds between two looks at states that another process computes
_said: set[str] = set()  # in this process


def frozen_layers(member: Member, encoder: Any) -> int:
    """The number of the encoder's first layers whose outputs are the backbone's own."""
    if member.head.frozen:
        return int(encoder.config.num_hidden_layers)
    return unchanged_layers(encoder, member.train.freeze_layers or 0)


def with_states(
    encoded: Encoded,
    model: TextModel,
    member: Member,
    backbone: BackboneHashes,
    store: Store,
    *,
    precision: Precision,
    batch_tokens: int,
    progress: str | None = None,
    after_batch: Callable[[], None] = lambda: None,
) -> Encoded:
    """`encoded` with the states of the model's frozen layers, which are computed if need be.

    Without a frozen layer, or where its states cannot be stored or read on from, it is returned
    as it is: the model then computes them again in every pass. `backbone` are the hashes of what
    the frozen layers come from. The model is left on the device.
    """
    depth = frozen_layers(member, model.encoder)
    if depth == 0 or store.hidden_states.limit == 0:
        return encoded
    model.to(choose_device())
    if not _can_read_on(model, member, depth):
        return encoded
    resolved = resolve_precision(precision, choose_device())
    dtype = member.backbone.dtype
    inputs = HiddenStatesInputs(
        backbone_sha256=backbone.weights_sha256,
        backbone_files_sha256=backbone.files_sha256,
        rows_sha256=rows_sha256(encoded),
        layers=model.stored_layers(depth),
        precision=resolved if dtype == "fp32" else f"{resolved} of {dtype} weights",
        attention=member.train.attention,
        equal_lengths=model.equal_lengths,
    )
    starts_N1 = starts_of_rows(encoded)

    def compute(put: Put) -> float:
        stopwatch = Stopwatch(after_batch)
        compute_states(
            model,
            encoded,
            inputs.layers,
            starts_N1,
            put,
            precision=resolved,
            batch_tokens=tokens_at_once(batch_tokens, encoded),
            progress=progress,
            after_batch=stopwatch,
        )
        return stopwatch.seconds()

    shape = (int(starts_N1[-1]), len(inputs.layers), model.encoder.config.hidden_size)
    stored = _stored(store, inputs, shape, stored_dtype(resolved), compute, after_batch)
    if stored is None:
        model.passed_over = None
        return encoded
    x_SLH, card = stored
    states = HiddenStates(
        inputs.layers, x_SLH, starts_N1, fingerprint=inputs.fingerprint(), seconds=card.seconds
    )
    return replace(encoded, states=states)


def _can_read_on(model: TextModel, member: Member, depth: int) -> bool:
    """Whether the model can read on from the states of its first `depth` layers; it is told how."""
    if model.mask == "none":
        _say(f"{member.name}: with mask=none, frozen layers are computed each time")
        return False
    if depth == model.encoder.config.num_hidden_layers:
        return True
    training = model.training
    model.passed_over = pass_over(model.eval().encoder, depth)
    model.train(training)
    if model.passed_over is None:
        kind = type(model.encoder).__name__
        _say(f"{kind}: its frozen layers cannot be passed over: they are computed in every pass")
    return model.passed_over is not None


def _stored(
    store: Store,
    inputs: HiddenStatesInputs,
    shape: tuple[int, int, int],
    dtype: np.dtype,
    compute: Callable[[Put], float],
    while_waiting: Callable[[], None],
) -> tuple[np.ndarray, HiddenStatesCard] | None:
    """The states of the store, computed first if need be; None where they cannot be stored."""
    states = store.hidden_states
    found = states.load(inputs)
    if found is not None:
        return found
    n_bytes = int(np.prod(shape)) * dtype.itemsize
    what = f"hidden states of layer {', '.join(map(str, inputs.layers))}"
    reason = states.lacks_room(n_bytes)
    if reason is None:
        try:
            with _locked(states.lock(inputs), while_waiting):
                found = states.load(inputs)  # another process may have computed them
                if found is None:
                    log.info("%s: %.2f GB, computed once, in %s", what, n_bytes / GIGABYTE, states)
                    states.save(inputs, shape, dtype, compute)
                    found = states.load(inputs)
            return found
        except UnwritableError as error:
            reason = str(error)
    _say(f"{what} are not stored, but computed each time: {reason}")
    return None


@contextmanager
def _locked(lock: ProcessLock, while_waiting: Callable[[], None]) -> Iterator[None]:
    while not lock.acquire(wait=False):
        while_waiting()
        time.sleep(WAIT)
    try:
        yield
    finally:
        lock.release()


def _say(message: str) -> None:
    """Log the message once in this process."""
    if message not in _said:
        _said.add(message)
        log.info("%s", message)
