"""The members of a run: the config keys of a member, and checks that its settings fit together."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from poolblend.cards.member import FROZEN_TRAIN, Member
from poolblend.modeling.options import Backbone, Head, Mask
from poolblend.options import FileNamePart, Section, Seed, checked
from poolblend.text_spec import Truncation, Windows
from poolblend.training.options import Pseudo, Train
from poolblend.training.recipes import check_options

# Poolers that read a token at a fixed place, so that `mask` has no effect; a test checks this list.
BY_PLACE = ("cls", "concat_layers", "last", "pooler_output")


class MemberSpec(Section):
    """One entry of `members`: a pooler, and the keys that differ from the run's.

    `windows`, `head`, `train`, and a `backbone` without a source, hold only the keys that differ;
    `windows: null` means no windows.
    """

    pooler: str
    pooler_args: dict[str, Any] = Field(default_factory=dict)  # such as {k: 8} for mean_kmax
    mask: Mask | None = None
    backbone: dict[str, Any] | None = None  # another one, or some of its keys
    max_length: int | None = Field(None, ge=4)
    truncation: Truncation | None = None
    windows: dict[str, Any] | None = None
    pseudo: Pseudo | None = None
    head: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)
    seed: Seed | None = None  # exactly this one
    tag: FileNamePart | None = None  # a part of the name, for whatever else sets it apart

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone_is_a_pooler(cls, value: Any) -> Any:
        return {"pooler": value} if isinstance(value, str) else value

    @field_validator("pooler")
    @classmethod
    def _known(cls, value: str) -> str:
        return checked("pooler", value)

    @field_validator("backbone", "head", mode="before")
    @classmethod
    def _a_word_is_short_for_a_section(cls, value: Any, info: ValidationInfo) -> Any:
        key = {"backbone": "source", "head": "kind"}[str(info.field_name)]
        return {key: value} if isinstance(value, str) else value

    @field_validator("backbone", "head", "train", "windows")
    @classmethod
    def _part_of_its_section(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        sections: dict[str, type[Section]] = {"head": Head, "train": Train, "windows": Windows}
        if info.field_name == "backbone":
            Backbone(**value)  # the run's keys are added later
            return value
        return sections[str(info.field_name)](**value).model_dump(exclude_unset=True)

    @field_validator("pooler_args")
    @classmethod
    def _fits_a_card(cls, value: dict[str, Any]) -> dict[str, Any]:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        return value

    @model_serializer(mode="wrap")
    def _what_was_said(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only the keys that the config sets: an explicit null differs from a missing key."""
        return {k: v for k, v in dump(self).items() if k in self.model_fields_set}


def check_spec(spec: MemberSpec, member: Member) -> None:
    """Raise ValueError for the member's keys that have no effect with its head or pooler."""
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
    """Whether `mask` has an effect on the member's pooler."""
    first = member.pooler == "weighted_layer" and member.pooler_args.get("tokens") == "cls"
    return member.pooler not in BY_PLACE and not first


def check_member(member: Member, join: str, task: str) -> None:
    """Raise ValueError for settings of different sections that do not fit together."""
    wrong = _wrong_windows(member, join)
    if not member.head.frozen:
        if member.head.norm == "batch" and member.train.batch_size == 1:
            wrong = "head.norm=batch needs a train.batch_size above 1"
        try:
            check_options(member.train, member.head, task)
        except ValueError as error:
            wrong = str(error)
    if member.pseudo and member.pseudo.confidence and task in ("regression", "ordinal"):
        wrong = "pseudo.confidence needs probabilities, which values do not have: leave it out"
    elif member.pseudo and member.train.class_weights != "none" and task == "ordinal":
        wrong = "pseudo-labels of an ordinal task are values, which class_weights do not weigh"
    if wrong:
        raise ValueError(f"{member.name}: {wrong}")


def _wrong_windows(member: Member, join: str) -> str:
    windows = member.windows
    if windows is None:
        return ""
    if windows.overlap >= member.max_length // 2:
        return f"windows.overlap is {windows.overlap}; set it below half of max_length"
    if member.mask == "none":
        return "windows have no padding to count: mask=none does not fit them"
    if join == "pair":
        return "windows take one text: set data.join=separator, or a template"
    if windows.most is None and member.truncation != "auto":
        return f"truncation={member.truncation} does nothing without windows.most: nothing is cut"
    return ""


def merged(run: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The run's keys, replaced by the member's own keys, section by section."""
    both = {
        key: merged(run[key], value)
        for key, value in own.items()
        if isinstance(value, Mapping) and isinstance(run.get(key), Mapping)
    }
    return {**run, **own, **both}
