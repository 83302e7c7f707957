"""The members of a run: what a config may say of one, and one with every setting resolved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from poolblend.config.sections import Backbone
from poolblend.config.training import Head, Pseudo, Train, idle_recipe, spelt_out_lora
from poolblend.options import FileNamePart, Section, Seed, checked
from poolblend.text_spec import Truncation, Windows

Mask = Literal["attention", "content", "none"]


# Poolers that read a token at its place, whatever tokens count; a test holds this to their code.
BY_PLACE = ("cls", "concat_layers", "last", "pooler_output")
# The keys of `train` that a frozen member takes.
FROZEN_TRAIN = ("precision", "attention", "class_weights")


class MemberSpec(Section):
    """One entry of `members`: a pooler, and whatever sets this member apart from the run's keys.

    `windows`, `head`, `train`, and a `backbone` without a source, hold what differs from the run's;
    null leaves windows out.
    """

    pooler: str
    pooler_args: dict[str, Any] = Field(default_factory=dict)
    mask: Mask | None = None
    backbone: dict[str, Any] | None = None
    max_length: int | None = Field(None, ge=4)
    truncation: Truncation | None = None
    windows: dict[str, Any] | None = None
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

    @field_validator("backbone", mode="before")
    @classmethod
    def _a_path_alone_is_a_source(cls, value: Any) -> Any:
        return {"source": value} if isinstance(value, str) else value

    @field_validator("backbone")
    @classmethod
    def _part_of_backbone(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        Backbone(**value or {})
        return value

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
        return {k: spelt_out_lora(v) if k == "lora" else v for k, v in value.items()}

    @field_validator("windows")
    @classmethod
    def _part_of_windows(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        Windows(**value or {})
        return value

    @model_serializer(mode="wrap")
    def _what_was_said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A null that was said switches a key of the run's off; one that was not, does not."""
        return {k: v for k, v in dump(self).items() if k in self.model_fields_set}


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


def check_spec(spec: MemberSpec, member: Member) -> None:
    """Raise ValueError for the member's own keys that its kind of head makes nothing of."""
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
    if spec.mask not in (None, "attention") and not counts_tokens(member):
        raise ValueError(
            f"{member.name}: mask={spec.mask} does nothing with pooler {member.pooler}, which "
            "reads tokens by their place; leave it out"
        )


def counts_tokens(member: Member) -> bool:
    """Whether the member's pooler takes into account which tokens `mask` counts."""
    first = member.pooler == "weighted_layer" and member.pooler_args.get("tokens") == "cls"
    return member.pooler not in BY_PLACE and not first


def check_member(member: Member, join: str, task: str) -> None:
    """Raise ValueError for what does nothing, or cannot work, between sections."""
    head, train, windows = member.head, member.train, member.windows
    wrong = ""
    if not head.frozen and idle_recipe(train):
        wrong = f"train.{idle_recipe(train)}"
    elif not head.frozen and head.norm == "batch" and train.batch_size == 1:
        wrong = "head.norm=batch needs a train.batch_size above 1"
    elif not head.frozen and train.dropout_samples > 1 and not head.dropout:
        wrong = "train.dropout_samples needs a head.dropout above 0"
    elif not head.frozen and head.norm == "batch" and train.swa_epochs:
        wrong = "head.norm=batch has statistics that train.swa_epochs cannot average; take layer"
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


def merged(run: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The run's keys with a member's own in their places, section by section."""
    both = {
        key: merged(run[key], value)
        for key, value in own.items()
        if isinstance(value, Mapping) and isinstance(run.get(key), Mapping)
    }
    return {**run, **own, **both}


def derive_seed(seed: int, *names: object) -> int:
    """A seed of its own for whatever `names` say, below 2**31.

    Members that share data order and dropout err more alike than their poolers make them.
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
