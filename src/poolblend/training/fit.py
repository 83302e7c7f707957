"""The loop: fine-tune a model on some rows, predict any rows.

Shape legend: B batch, N rows, K outputs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tqdm.auto import tqdm

from poolblend.errors import UserError
from poolblend.modeling.model import TextModel
from poolblend.training.batches import (
    Encoded,
    collate,
    padding_share,
    prediction_batches,
    training_batches,
)
from poolblend.training.objectives import Objective
from poolblend.training.optim import build_optimizer, build_schedule, parameter_groups

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Epoch:
    """What one epoch did: mean loss over its rows, seconds, share of padding among its tokens."""

    number: int
    loss: float
    seconds: float
    padding: float


def choose_device() -> torch.device:
    """The first CUDA device where there is one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def resolve_precision(
    precision: Precision, device: torch.device
) -> Literal["fp32", "bf16", "fp16"]:
    """`auto` as bf16 where the device computes in it, fp16 on GPUs that do not, fp32 otherwise."""
    if precision == "fp16" and device.type == "cpu":
        return "fp32"  # accelerate trains so: fp16 needs loss scaling, which is for GPUs
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    fast_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if device.type == "cpu" and fast_bf16() else "fp32"


def fit(
    model: TextModel,
    encoded: Encoded,
    rows: np.ndarray,
    y: np.ndarray,
    objective: Objective,
    *,
    epochs: int,
    batch_size: int,
    accumulation: int,
    optimizer: str,
    lr: float,
    head_lr: float | None,
    layer_decay: float,
    weight_decay: float,
    schedule: str,
    warmup: float,
    clip: float | None,
    precision: Precision,
    gradient_checkpointing: bool,
    seed: int,
    progress: str | None = None,
) -> Iterator[Epoch]:
    """Fine-tune `model` in place on `rows` of `encoded`, yielding after each epoch what it did.

    `y` is aligned with `encoded`. Batches and their order come from `seed`; dropout from torch's
    global generator, which the caller seeds before it builds the model. `accumulation` batches make
    one optimizer step, whose loss is the mean over all their rows. `progress` labels a progress
    bar. Raises UserError when the loss is no longer finite.
    """
    accelerator = _accelerator(resolve_precision(precision, choose_device()))
    generator = np.random.default_rng(seed)
    lengths = encoded.lengths_N[rows]
    if gradient_checkpointing:
        _checkpoint_activations(model.encoder)
    _start_at_base_rates(model, objective, y[rows])
    groups = parameter_groups(
        model, lr=lr, head_lr=head_lr, layer_decay=layer_decay, weight_decay=weight_decay
    )
    plan = [training_batches(lengths, batch_size, generator) for _ in range(epochs)]
    steps = [_chunks(batches, accumulation) for batches in plan]
    n_steps = sum(map(len, steps))
    optim = build_optimizer(optimizer, groups)
    scheduler = build_schedule(schedule, optim, n_steps=n_steps, warmup=warmup)
    model, optim = accelerator.prepare(model, optim)
    targets = torch.from_numpy(y[rows])
    if targets.is_floating_point():
        targets = targets.float()  # Apple's GPUs have no float64

    with tqdm(total=n_steps, desc=progress, unit="step", disable=None if progress else True) as bar:
        for epoch, epoch_steps in enumerate(steps):
            started, total = time.perf_counter(), 0.0
            model.train()
            for step in epoch_steps:
                loss = _backward(accelerator, model, encoded, rows, targets, objective, step)
                if not np.isfinite(loss):
                    raise UserError(
                        f"the training loss became {loss} in epoch {epoch + 1}; lower train.lr, "
                        "or set train.precision=fp32"
                    )
                if clip is not None:
                    accelerator.clip_grad_norm_(model.parameters(), clip)
                optim.step()
                scheduler.step()
                optim.zero_grad()
                total += loss * sum(map(len, step))
                bar.update()
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            seconds = time.perf_counter() - started
            padding = padding_share(lengths, plan[epoch])
            yield Epoch(epoch + 1, total / len(rows), seconds, padding)
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    accelerator.free_memory()


def _backward(
    accelerator: Accelerator,
    model: TextModel,
    encoded: Encoded,
    rows: np.ndarray,
    targets: torch.Tensor,
    objective: Objective,
    step: Sequence[np.ndarray],
) -> float:
    """Add up the gradients of one step's batches; the mean loss over all their rows."""
    n_rows = sum(map(len, step))
    parts = []
    for batch in step:
        inputs = collate(encoded, rows[batch], full_width=model.mask == "none")
        logits = model(inputs.to(accelerator.device))
        losses = objective.loss(logits, targets[batch].to(accelerator.device))
        accelerator.backward(losses.sum() / n_rows)
        parts.append(losses.detach().sum() / n_rows)
    return float(torch.stack(parts).sum())


def predict(
    model: TextModel,
    encoded: Encoded,
    rows: np.ndarray,
    objective: Objective,
    *,
    batch_tokens: int,
    precision: Precision,
    progress: str | None = None,
) -> np.ndarray:
    """Predictions (N, K) float64 in the order of `rows`: probabilities, or values in regression.

    The model stays on its device and in the mode it was in. `batch_tokens` bounds a batch's tokens,
    padding included.
    """
    device = next(model.parameters()).device
    dtype = DTYPES.get(resolve_precision(precision, device))
    full_width = model.mask == "none"
    lengths = encoded.lengths_N[rows]
    batches = prediction_batches(
        np.full_like(lengths, encoded.max_length) if full_width else lengths, batch_tokens
    )
    training = model.training
    model.eval()
    predictions: list[torch.Tensor] = []
    with (
        torch.inference_mode(),
        torch.autocast(device.type, dtype=dtype, enabled=dtype is not None),
        tqdm(total=len(rows), desc=progress, unit="row", disable=None if progress else True) as bar,
    ):
        for batch in batches:
            logits = model(collate(encoded, rows[batch], full_width=full_width).to(device))
            predictions.append(objective.activation(logits.float()))
            bar.update(len(batch))
    model.train(training)
    order = np.argsort(np.concatenate(batches), kind="stable")
    return torch.cat(predictions).cpu().double().numpy()[order]


def _accelerator(precision: str) -> Accelerator:
    # accelerate keeps one state per process; each fit may ask for a precision of its own.
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision)
    if accelerator.num_processes > 1:
        raise UserError(
            "train.py runs as one process; for two GPUs start it twice instead of through a "
            "launcher, with CUDA_VISIBLE_DEVICES=0 and 1 and other --fold numbers"
        )
    return accelerator


def _checkpoint_activations(encoder: Any) -> None:
    # Renamed in transformers 5.23, where the old name warns.
    enable = getattr(encoder, "activation_checkpointing_enable", None)
    (enable or encoder.gradient_checkpointing_enable)()


def _start_at_base_rates(model: TextModel, objective: Objective, y: np.ndarray) -> None:
    bias = model.head.linear.bias
    with torch.no_grad():
        bias.copy_(torch.from_numpy(objective.prior(y, len(bias))))


def _chunks(batches: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [batches[i : i + size] for i in range(0, len(batches), size)]
