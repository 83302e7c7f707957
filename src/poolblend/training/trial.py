"""One small training step, to compare a device's results with the expected ones.

Shapes: H hidden.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from poolblend.modeling.encoders import HALF
from poolblend.training.optimizers import OPTIMIZERS

# Largest relative error: some 20 times that of working devices, far below a wrong result.
TOLERANCES = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.02}


def deviation(device: torch.device, precision: str) -> float:
    """How far a step on `device` is from the CPU's in float64: the largest relative error.

    0 is equal, NaN not a number. Raises whatever the device does.
    """
    expected = trial_step(torch.device("cpu"), "fp64")
    found = trial_step(device, precision)
    errors = [(a - b).norm() / b.norm() for a, b in zip(found, expected, strict=True)]
    return float(torch.stack(errors).max())  # max keeps a NaN


def trial_step(device: torch.device, precision: str) -> list[Tensor]:
    """Output, gradients and stepped weights of one step, in float64 on the CPU.

    Matrix products, normalisation, autocast and the fused optimizer are those that training uses.
    """
    generator = torch.Generator().manual_seed(0)
    dtype = torch.float64 if precision == "fp64" else torch.float32
    x_BH, first_HH, second_HH = (
        torch.randn(64, 64, generator=generator).to(device, dtype) for _ in range(3)
    )
    weights = [first_HH.requires_grad_(), second_HH.requires_grad_()]
    optimizer = OPTIMIZERS["adamw"]([{"params": weights, "lr": 1e-3}])
    half = HALF.get(precision)
    with torch.autocast(device.type, dtype=half, enabled=half is not None):
        output_BH = F.gelu(F.layer_norm(x_BH @ first_HH, (64,))) @ second_HH / 8
        loss = output_BH.to(dtype).square().sum() / 64  # a mean's gradients underflow in fp16
    loss.backward()
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    optimizer.step()
    return [tensor.detach().cpu().double() for tensor in (output_BH, *gradients, *weights)]
