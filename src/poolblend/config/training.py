"""How a fold model is trained: its head, its loop, and the recipes; each recipe is one key."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from poolblend.options import FileNamePart, Section


class Head(Section):
    """What follows the pooler: dropout, an optional normalisation, a linear layer.

    Or one of scikit-learn's models over a frozen encoder's pooled vectors, which trains in seconds.
    """

    kind: Literal["linear", "ridge", "logistic", "svr"] = "linear"
    dropout: float = Field(0.1, ge=0, lt=1)
    norm: Literal["none", "layer", "batch"] = "none"
    C: float = Field(1.0, gt=0)  # of ridge (alpha = 1 / 2C), logistic, svr: the larger, the freer

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone_is_a_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @property
    def frozen(self) -> bool:
        """Whether it is fitted to a frozen encoder's vectors, rather than trained with it."""
        return self.kind != "linear"


class Lora(Section):
    """Low-rank adapters: only they, pooler and head learn; merged into the weights when saved."""

    r: int = Field(8, ge=1)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    modules: list[str] | None = Field(
        None, min_length=1
    )  # names of linear layers; default: all within the layers


class MaskedLanguage(Section):
    """Continued masked-language-model training of a backbone on the texts of train and test."""

    epochs: int = Field(1, ge=1)
    lr: float = Field(5e-5, gt=0)
    batch_size: int = Field(32, ge=1)
    mask: float = Field(0.15, gt=0, lt=1)  # share of the tokens to be guessed
    max_length: int = Field(128, ge=4)


class Pseudo(Section):
    """Rows of test with the predictions of a blend as labels, joined to each fold's own rows."""

    labels: FileNamePart  # what `infer.py --pseudo-labels NAME` has kept
    weight: float = Field(1.0, gt=0)  # of such a row, where a train row counts 1
    confidence: float = Field(0.0, ge=0, lt=1)  # least probability of its likeliest label


class Checkpoints(Section):
    """When a fold in training is saved so that it can continue; each epoch's end always is one."""

    minutes: float | None = Field(10, gt=0)  # between two within an epoch; null: none by time
    steps: int | None = Field(None, ge=1)  # optimizer steps between two; null: none by count


def recipe(default: Any, description: str, **limits: Any) -> Any:
    """A key that changes how models are trained; `train.py --list` shows its description."""
    return Field(default, description=description, **limits)


class Train(Section):
    """One fold's fine-tuning."""

    epochs: int = Field(
        2, ge=1
    )  # fixed: choosing the best epoch on the fold makes its OOF dishonest
    batch_size: int = Field(32, ge=1)
    accumulation: int = Field(1, ge=1)  # batches per optimizer step
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(5e-5, gt=0)
    head_lr: float | None = Field(5e-4, gt=0)  # of head and pooler; null: the same as lr
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(0.1, ge=0, le=1)  # share of all steps
    clip: float | None = Field(1.0, gt=0)  # gradient norm; null: no clipping
    loss: Literal[
        "auto", "cross_entropy", "binary_cross_entropy", "cumulative", "smooth_l1", "mse"
    ] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    gradient_checkpointing: bool = False
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"

    layer_decay: float = recipe(
        1.0, "each layer's learning rate is this times the next one's", ge=0.01, le=1
    )
    reinit_layers: int = recipe(
        0, "as many of the last layers begin anew, with random weights", ge=0
    )
    freeze_layers: int | None = recipe(
        None, "embeddings and as many of the first layers do not learn; 0: embeddings alone", ge=0
    )
    lora: Lora | None = recipe(
        None, "low-rank adapters (r, alpha, dropout, modules) learn instead of the encoder"
    )
    dropout_samples: int = recipe(
        1, "mean loss over as many dropout masks before the head (multi-sample dropout)", ge=1
    )
    label_smoothing: float = recipe(0.0, "share of each label that is spread over all", ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = recipe(
        "none", "balanced: rows count in inverse proportion to how frequent their label is"
    )
    rdrop: float = recipe(
        0.0, "weight of the distance between two passes under other dropout (R-Drop)", ge=0
    )
    fgm: float | None = recipe(
        None, "length of an adversarial step on the embeddings, as a second pass (FGM)", gt=0
    )
    awp: float | None = recipe(
        None, "relative size of an adversarial step on the weights, as a second pass (AWP)", gt=0
    )
    adversarial_start: float = recipe(
        0.0, "share of the steps after which fgm or awp begins", ge=0, lt=1
    )
    ema: float | None = recipe(
        None, "decay of a moving average of the weights, which is what is kept (EMA)", gt=0, lt=1
    )
    swa_epochs: int = recipe(
        0, "the mean of the weights at the ends of as many last epochs is kept (SWA)", ge=0
    )
    early_stopping: int | None = recipe(
        None, "the best epoch is kept, and training ends after as many without a better one", ge=1
    )

    @field_validator("lora", mode="before")
    @classmethod
    def _a_rank_alone_is_a_lora(cls, value: Any) -> Any:
        return spelt_out_lora(value)


def spelt_out_lora(value: Any) -> Any:
    """A rank alone is a section of that rank."""
    return {"r": value} if isinstance(value, int) and not isinstance(value, bool) else value


def idle_recipe(train: Train) -> str:
    """Which recipe of a whole `train` would do nothing, or cannot beside another; "" for none."""
    wrong = {
        f"swa_epochs is {train.swa_epochs} of {train.epochs} epochs; set it to 2 or more, up to "
        "all of them, or to 0": train.swa_epochs == 1 or train.swa_epochs > train.epochs,
        "early_stopping chooses among epochs, of which there is one; raise train.epochs": (
            train.early_stopping and train.epochs == 1
        ),
        "adversarial_start does nothing without fgm or awp; set one of them": (
            train.adversarial_start and not (train.fgm or train.awp)
        ),
        "fgm steps on the embeddings, which freeze_layers freezes": (
            train.fgm and train.freeze_layers is not None
        ),
    }
    for first, second in (("fgm", "awp"), ("ema", "swa_epochs"), ("early_stopping", "swa_epochs")):
        told = f"{first} and {second} exclude each other; leave one out"
        wrong[told] = getattr(train, first) and getattr(train, second)
    for other in ("freeze_layers", "reinit_layers", "fgm"):
        told = f"{other} needs weights that learn, which lora freezes"
        wrong[told] = train.lora is not None and getattr(train, other) not in (None, 0)
    return next((told for told, is_so in wrong.items() if is_so), "")
