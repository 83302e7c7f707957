"""A run's settings: its sections, its members resolved, and where it finds its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from poolblend.config.sections import (
    Backbone,
    Blend,
    Checkpoints,
    Data,
    FileNamePart,
    Folds,
    Head,
    PathText,
    Section,
    Seed,
    Train,
    checked,
    repeated,
)

# The project's folder when run from a checkout, else wherever the command was started.
_CHECKOUT = Path(__file__).resolve().parents[3]
ROOT = _CHECKOUT if (_CHECKOUT / "configs").is_dir() else Path.cwd()


MOST_MEMBERS = 1000


class MemberSpec(Section):
    """One entry of `members`: a pooler, and whatever sets this member apart from the run's keys."""

    pooler: str
    pooler_args: dict[str, Any] = Field(default_factory=dict)
    mask: Literal["attention", "content", "none"] | None = None
    backbone: Backbone | None = None
    max_length: int | None = Field(None, ge=4)
    head: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    seed: Seed | None = None
    tag: FileNamePart | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone_is_a_pooler(cls, value: Any) -> Any:
        return {"pooler": value} if isinstance(value, str) else value

    @field_validator("pooler")
    @classmethod
    def _known(cls, value: str) -> str:
        return checked("pooler", value)

    @field_validator("pooler_args")
    @classmethod
    def _fits_a_card(cls, value: dict[str, Any]) -> dict[str, Any]:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        return value

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
    task: Literal["binary", "multiclass", "multilabel", "regression", "ordinal"] = "binary"
    metric: str = "f1"
    data: Data = Data()
    folds: Folds = Folds()
    backbone: Backbone = Backbone()
    remote_code: bool = False  # run Python code that comes with a backbone; only what you have read
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
    checkpoints: Checkpoints = Checkpoints()
    batch_tokens: int = Field(8192, ge=1)  # tokens per batch of predictions, padding included
    blend: Blend = Blend()
    submission: Literal["auto", "labels", "probabilities"] = "auto"  # auto: what the metric takes
    store: PathText = "."  # the folder of models/, oof/, submissions/ and folds.csv

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str) -> str:
        return checked("metric", value)

    @model_validator(mode="after")
    def _members_differ(self) -> Config:
        seeds = len(self.seeds or (None,))
        count = sum(1 if spec.seed is not None else seeds for spec in self.members)
        if count > MOST_MEMBERS:
            raise ValueError(f"members and seeds make {count:,} members; at most {MOST_MEMBERS:,}")
        members = self.resolve_members()
        for member in members:
            if member.head.norm == "batch" and member.train.batch_size == 1:
                raise ValueError(f"{member.name}: head.norm=batch needs a train.batch_size above 1")
        # Some disks tell no capital letters from small ones.
        twice = repeated(member.name.lower() for member in members)
        if twice is not None:
            name = next(member.name for member in members if member.name.lower() == twice)
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
