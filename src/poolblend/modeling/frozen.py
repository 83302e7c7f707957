"""Read on from stored hidden states: the encoder's first layers, which are frozen, are passed over.

The layer before the first that is computed returns the stored states. Whether an encoder's family
allows this is tried on a few tokens: T5 makes a bias in its first layer that all others use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from poolblend.modeling.layers import layer_stacks

ROUNDING = 1e-5  # relative difference below which two results count as equal


class PassedOver(NamedTuple):
    """The first `depth` layers of an encoder; a layer returns a tuple of `n_outputs`, or a tensor.

    `n_outputs` is 0 for a tensor.
    """

    depth: int
    n_outputs: int

    @contextmanager
    def given(self, encoder: Any, state_BTH: Tensor) -> Iterator[None]:
        """A context in which the last of these layers returns `state_BTH`, and none is computed."""
        layers = _layers(encoder)[: self.depth]
        for layer in layers:
            # An attribute of the module hides the method; the embeddings are passed through.
            layer.forward = self._forward(state_BTH if layer is layers[-1] else None)
        try:
            yield
        finally:
            for layer in layers:
                del layer.forward

    def _forward(self, state_BTH: Tensor | None) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            x_BTH = state_BTH
            if x_BTH is None:
                x_BTH = args[0] if args else kwargs["hidden_states"]
            return (x_BTH, *[None] * (self.n_outputs - 1)) if self.n_outputs else x_BTH

        return forward


def pass_over(encoder: Any, depth: int) -> PassedOver | None:
    """How the first `depth` layers are passed over; None where the encoder's family does not allow.

    `depth` is below the number of layers. The encoder is read in its present mode, on its device.
    """
    if len(layer_stacks(encoder)) != 1:
        return None
    ids_BT = torch.arange(16, device=encoder.device).view(2, 8) % encoder.config.vocab_size
    attention_BT = torch.ones_like(ids_BT)
    attention_BT[1, 5:] = 0
    forms: list[int] = []
    hook = _layers(encoder)[0].register_forward_hook(
        lambda _layer, _args, output: forms.append(len(output) if isinstance(output, tuple) else 0)
    )

    def read() -> Any:
        return encoder(ids_BT, attention_mask=attention_BT, output_hidden_states=True)

    # Some attention draws random numbers: a training must not depend on the trial.
    devices = [encoder.device] if encoder.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices):
        try:
            expected = read()
        finally:
            hook.remove()
        passed = PassedOver(depth, forms[0])
        try:
            with passed.given(encoder, expected.hidden_states[depth]):
                found = read()
        except (TypeError, ValueError, AttributeError, RuntimeError):
            return None
    kept_BT = attention_BT.bool()
    same = all(
        (found_BTH - expected_BTH)[kept_BT].norm() <= ROUNDING * expected_BTH[kept_BT].norm()
        for found_BTH, expected_BTH in zip(
            found.hidden_states[depth + 1 :], expected.hidden_states[depth + 1 :], strict=True
        )
    )
    return passed if same else None


def _layers(encoder: Any) -> nn.ModuleList:
    (name,) = layer_stacks(encoder)
    return encoder.get_submodule(name)
