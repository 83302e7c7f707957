"""How a fold model is trained: the options of `train:`, pseudo-labels, checkpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from poolblend.options import FileNamePart, Section, checked
from poolblend.training.recipes import with_recipes

Precision = Literal["auto", "fp32", "bf16", "fp16"]


class Pseudo(Section):
    """Rows of test with the predictions of a blend as labels, joined to each fold's own rows."""

    labels: FileNamePart  # the NAME given to `infer.py --pseudo-labels`
    weight: float = Field(1.0, gt=0)  # of such a row, where a train row counts 1
    confidence: float = Field(0.0, ge=0, lt=1)  # least probability of its likeliest label


class Checkpoints(Section):
    """When a fold in training is saved to resume from, besides after epochs of a minute or more."""

    minutes: float | None = Field(10, gt=0)  # between two within an epoch; null: none by time
    steps: int | None = Field(None, ge=1)  # optimizer steps between two; null: none by count


class Loop(Section):
    """The options of the training loop itself."""

    # Fixed: choosing the best epoch on the fold makes its OOF predictions dishonest.
    epochs: int = Field(2, ge=1)
    batch_size: int = Field(32, ge=1)  # rows
    accumulation: int = Field(1, ge=1)  # batches per optimizer step
    optimizer: str = "adamw"
    lr: float = Field(5e-5, gt=0)  # of the encoder
    head_lr: float | None = Field(5e-4, gt=0)  # of head and pooler; null: the same as lr
    weight_decay: float = Field(0.01, ge=0)
    schedule: str = "linear"
    warmup: float = Field(0.1, ge=0, le=1)  # share of all steps
    clip: float | None = Field(1.0, gt=0)  # gradient norm; null: no clipping
    loss: str = "auto"  # auto: by the task
    precision: Precision = "auto"  # auto: bf16 where the machine is fast at it, fp16 on GPUs, fp32
    gradient_checkpointing: bool = False  # less memory, slower: activations are computed twice
    deterministic: bool = False  # the same bits each time on a GPU, too; slower there
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"

    @field_validator("optimizer")
    @classmethod
    def _known_optimizer(cls, value: str) -> str:
        return checked("optimizer", value)

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        return checked("schedule", value)

    @field_validator("loss")
    @classmethod
    def _known_loss(cls, value: str) -> str:
        return checked("loss", value, ("auto",))


class Train(with_recipes(Loop)):  # type: ignore[misc]
    """One fold's fine-tuning: the loop, and the options of every recipe."""
