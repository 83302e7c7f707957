"""A run's settings: its sections, its members resolved, and where it finds its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from poolblend.config.sections import Backbone, Blend, Data, Folds
from poolblend.config.training import Checkpoints, Head, Pseudo, Train, Windows
from poolblend.config.values import FileNamePart, PathText, Section, Seed, checked, repeated

# The project's folder when run from a checkout, else wherever the command was started.
_CHECKOUT = Path(__file__).resolve().parents[3]
ROOT = _CHECKOUT if (_CHECKOUT / "configs").is_dir() else Path.cwd()


MOST_MEMBERS = 1000
Mask = Literal["attention", "content", "none"]
Truncation = Literal["auto", "head", "tail", "head_tail"]


# The keys of `train` that a frozen member takes.
FROZEN_TRAIN = ("precision", "attention", "class_weights")


class MemberSpec(Section):
    """One entry of `members`: a pooler, and whatever sets this member apart from the run's keys."""

    pooler: str
    pooler_args: dict[str, Any] = Field(default_factory=dict)
    mask: Mask | None = None
    backbone: Backbone | None = None
    max_length: int | None = Field(None, ge=4)
    truncation: Truncation | None = None
    windows: Windows | None = None
    pseudo: Pseudo | None = None
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

    @field_validator("head", mode="before")
    @classmethod
    def _a_name_alone_is_a_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

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
    mask: Mask
    backbone: Backbone
    max_length: int
    truncation: Truncation
    windows: Windows | None
    pseudo: Pseudo | None
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
    truncation: Truncation = "auto"  # which part of a longer text is kept; auto: the tokenizer's
    windows: Windows | None = None  # longer texts in overlapping windows, rather than cut
    # Which tokens poolers count: those that exist, those of the text alone, or all (padding too).
    mask: Mask = "attention"
    members: list[MemberSpec] = Field(
        [MemberSpec(pooler=name) for name in ("mean", "max", "cls", "attention", "mean_kmax")],
        min_length=1,
    )
    seed: Seed = 42
    seeds: list[Seed] | None = None  # exact seeds, each making every member once; null: one derived
    head: Head = Head()
    train: Train = Train()
    pseudo: Pseudo | None = None  # rows of test, labelled by an earlier blend, join the training
    checkpoints: Checkpoints = Checkpoints()
    tracking: Literal["none", "tensorboard", "wandb", "mlflow"] = "none"  # where losses are sent
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
        for spec in self.members:
            _check_spec(spec, self._resolve(spec, None))
        members = self.resolve_members()
        if self.head.C != Head().C and not any(each.head.frozen for each in members):
            raise ValueError("head.C does nothing without a head.kind of ridge, logistic or svr")
        for member in members:
            _check_member(member, self.data.join, self.task)
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
            for seed in listed or (None,):
                member = self._resolve(spec, seed)
                yield member
                if member.head.frozen:  # nothing in it is random: another seed makes a copy
                    break

    def _resolve(self, spec: MemberSpec, listed_seed: int | None) -> Member:
        backbone = spec.backbone or self.backbone
        head = Head(**self.head.model_dump() | spec.head)
        kind = head.kind if head.frozen else None
        stem = "-".join(filter(None, (backbone.name, spec.pooler, kind, spec.tag)))
        return Member(
            name=f"{stem}-s{self.seed if listed_seed is None else listed_seed}",
            pooler=spec.pooler,
            pooler_args=spec.pooler_args,
            mask=spec.mask or self.mask,
            backbone=backbone,
            max_length=spec.max_length or self.max_length,
            truncation=spec.truncation or self.truncation,
            windows=spec.windows if "windows" in spec.model_fields_set else self.windows,
            pseudo=spec.pseudo if "pseudo" in spec.model_fields_set else self.pseudo,
            head=head,
            train=Train(**self.train.model_dump() | spec.train),
            seed=derive_seed(self.seed, stem) if listed_seed is None else listed_seed,
        )


def _check_spec(spec: MemberSpec, member: Member) -> None:
    """Refuse the member's own keys that its kind of head makes nothing of."""
    kind = member.head.kind
    if member.head.frozen:
        idle = [f"train.{key}" for key in spec.train if key not in FROZEN_TRAIN]
        idle += [f"head.{key}" for key in ("dropout", "norm") if key in spec.head]
        idle += ["seed"] if spec.seed is not None else []
    else:
        idle = ["head.C"] if "C" in spec.head else []
    if idle:
        raise ValueError(
            f"{member.name}: {idle[0]} does nothing with head.kind={kind}; leave it out"
        )


def _check_member(member: Member, join: str, task: str) -> None:
    """Refuse what does nothing, or cannot work, between sections."""
    head, train, windows = member.head, member.train, member.windows
    wrong = ""
    if not head.frozen and head.norm == "batch" and train.batch_size == 1:
        wrong = "head.norm=batch needs a train.batch_size above 1"
    elif not head.frozen and train.dropout_samples > 1 and not head.dropout:
        wrong = "train.dropout_samples needs a head.dropout above 0"
    elif windows and windows.overlap >= member.max_length // 2:
        wrong = f"windows.overlap is {windows.overlap}; set it below half of max_length"
    elif windows and member.mask == "none":
        wrong = "windows have no padding to count: mask=none does not fit them"
    elif member.pseudo and member.pseudo.confidence and task in ("regression", "ordinal"):
        wrong = "pseudo.confidence is of probabilities; values have none: leave it out"
    elif member.pseudo and train.class_weights != "none" and task == "ordinal":
        wrong = "pseudo-labels of an ordinal task are values, which class_weights do not weigh"
    elif windows and join == "pair":
        wrong = "windows take one text: set data.join=separator, or a template"
    elif windows and windows.most is None and member.truncation != "auto":
        wrong = f"truncation={member.truncation} does nothing without windows.most: nothing is cut"
    if wrong:
        raise ValueError(f"{member.name}: {wrong}")


def derive_seed(seed: int, *names: object) -> int:
    """A seed of its own for whatever `names` say, below 2**31.

    Members that share data order and dropout err more alike than their poolers make them.
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
