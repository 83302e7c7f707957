"""How a model is fine-tuned, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from poolblend.training.devices import Precision


@dataclass(frozen=True)
class LossOptions:
    """What is made of each row's loss; keys of a config's `train:` section."""

    dropout_samples: int = 1
    label_smoothing: float = 0.0
    rdrop: float = 0.0
    fgm: float | None = None
    awp: float | None = None


@dataclass(frozen=True)
class FitOptions:
    """How a model is fine-tuned; keys of a config's `train:` section, and a seed.

    Batches and their order come from `seed`; dropout from torch's global generator, which the
    caller seeds before it builds the model. `accumulation` batches make one optimizer step, whose
    loss is the mean over all their rows.
    """

    epochs: int
    batch_size: int
    accumulation: int
    optimizer: str
    lr: float
    head_lr: float | None
    layer_decay: float
    weight_decay: float
    schedule: str
    warmup: float
    clip: float | None
    precision: Precision
    gradient_checkpointing: bool
    seed: int
    losses: LossOptions = field(default_factory=LossOptions)
    adversarial_start: float = 0.0
    ema: float | None = None
    swa_epochs: int = 0

    def adversarial_from(self, n_steps: int) -> int:
        """The first of `n_steps`, counted from 0, whose gradients are adversarial."""
        wanted = self.losses.fgm or self.losses.awp
        return int(self.adversarial_start * n_steps) if wanted else n_steps
