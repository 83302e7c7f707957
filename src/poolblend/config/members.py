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

from poolblend.cards.member import FROZEN_TRAIN, TFIDF_TRAIN, AnyMember, Member, TfidfMember
from poolblend.competition.options import Data
from poolblend.modeling.options import MODELS, Backbone, Head, Mask, Tfidf
from poolblend.options import FileNamePart, Section, Seed, checked
from poolblend.text_spec import Truncation, Windows
from poolblend.training.options import Pseudo, Train
from poolblend.training.recipes import check_options

# Poolers that read a token at a fixed place, so that `mask` has no effect; a test checks this list.
BY_PLACE = ("cls", "concat_layers", "last", "pooler_output")

TFIDF_C = {"logistic": 3.0, "ridge": 0.5, "nb": 3.0}  # by the kind of head, where none is given


class MemberSpec(Section):
    """One entry of `members`: a pooler or a model, and the keys that differ from the run's.

    `windows`, `head`, `train`, and a `backbone` without a source, hold only the keys that differ;
    `windows: null` means no windows. The head of a `model` is its own: the run's is an encoder's.
    """

    pooler: str | None = None
    model: Tfidf | None = None  # instead of an encoder and its pooler
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
    def _a_name_alone_is_a_pooler_or_a_model(cls, value: Any) -> Any:
        if isinstance(value, str):
            name = checked("pooler", value, also=tuple(MODELS))
            return {"model" if name in MODELS else "pooler": name}
        return value

    @field_validator("pooler")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        return None if value is None else checked("pooler", value)

    @field_validator("backbone", "head", "model", mode="before")
    @classmethod
    def _a_word_is_short_for_a_section(cls, value: Any, info: ValidationInfo) -> Any:
        key = {"backbone": "source"}.get(str(info.field_name), "kind")
        return {key: value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _has_a_pooler_or_a_model(self) -> MemberSpec:
        if (self.pooler is None) == (self.model is None):
            raise ValueError("a member has either a `pooler` or a `model`, one of them")
        return self

    @property
    def chosen_by(self) -> str:
        """What `--pooler` calls it: its pooler's name, or its model's."""
        return self.model.kind if self.model else str(self.pooler)

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


def check_spec(spec: MemberSpec, member: AnyMember) -> None:
    """Raise ValueError for the member's keys that have no effect with its head, pooler or model."""
    kind = member.head.kind
    if isinstance(member, TfidfMember):
        _check_tfidf_spec(spec, member)
        return
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


def _check_tfidf_spec(spec: MemberSpec, member: TfidfMember) -> None:
    fitting = {"model", "head", "train", "pseudo", "tag"}
    idle = [key for key in MemberSpec.model_fields if key in spec.model_fields_set - fitting]
    idle += [f"train.{key}" for key in spec.train if key not in TFIDF_TRAIN]
    idle += [f"head.{key}" for key in ("dropout", "norm") if key in spec.head]
    if idle:
        raise ValueError(f"{member.name}: {idle[0]} does nothing with model=tfidf; leave it out")


def tfidf_head(spec: MemberSpec, task: str) -> Head:
    """The head of a model without an encoder: what is not given follows from the task."""
    kind = spec.head.get("kind", "ridge" if task in ("regression", "ordinal") else "logistic")
    return Head(**{"kind": kind, "C": TFIDF_C.get(kind, 1.0), **spec.head})


def counts_tokens(member: Member) -> bool:
    """Whether `mask` has an effect on the member's pooler."""
    first = member.pooler == "weighted_layer" and member.pooler_args.get("tokens") == "cls"
    return member.pooler not in BY_PLACE and not first


def check_member(member: AnyMember, data: Data, task: str) -> None:
    """Raise ValueError for settings of different sections that do not fit together."""
    if isinstance(member, TfidfMember):
        wrong = _wrong_head(member, data)
    else:
        wrong = _wrong_encoder(member, data.join, task)
    if member.pseudo and member.pseudo.confidence and task in ("regression", "ordinal"):
        wrong = "pseudo.confidence needs probabilities, which values do not have: leave it out"
    elif member.pseudo and member.train.class_weights != "none" and task == "ordinal":
        wrong = "pseudo-labels of an ordinal task are values, which class_weights do not weigh"
    if wrong:
        raise ValueError(f"{member.name}: {wrong}")


def _wrong_head(member: TfidfMember, data: Data) -> str:
    kind = member.head.kind
    if kind not in TFIDF_C:
        return f"head.kind={kind} does not fit model=tfidf; choose {', '.join(TFIDF_C)}"
    if kind == "nb" and (data.numeric or data.categorical):
        return (
            "head.kind=nb counts n-grams, and data.numeric and data.categorical are no counts: "
            "choose head.kind=logistic"
        )
    return ""


def _wrong_encoder(member: Member, join: str, task: str) -> str:
    wrong = _wrong_windows(member, join)
    backbone, learns = member.backbone, not (member.head.frozen or member.train.lora)
    if backbone.dtype != "fp32" and (learns or backbone.mlm):
        wrong = (
            f"backbone.dtype={backbone.dtype} is for weights that do not learn: set train.lora, or "
            "head.kind to ridge, logistic or svr"
            if learns
            else f"backbone.mlm trains weights, which backbone.dtype={backbone.dtype} is not for"
        )
    if member.head.kind == "nb":
        wrong = "head.kind=nb counts n-grams: it needs model=tfidf instead of a pooler"
    if not member.head.frozen:
        if member.head.norm == "batch" and member.train.batch_size == 1:
            wrong = "head.norm=batch needs a train.batch_size above 1"
        try:
            check_options(member.train, member.head, task)
        except ValueError as error:
            wrong = str(error)
    return wrong


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
