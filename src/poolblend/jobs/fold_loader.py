"""Build fold models from the store; what is the same in models that follow one another is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Generic, TypeVar

import torch

from poolblend.cards.fold import FoldCard
from poolblend.cards.fold_names import fold_name
from poolblend.config import Member, TfidfMember
from poolblend.errors import UserError
from poolblend.jobs.tfidf_folds import load_model
from poolblend.loading.models import new_objective
from poolblend.modeling import backbone
from poolblend.modeling.adapters import DOWN, UP, add_factors
from poolblend.modeling.heads import SUPPORT
from poolblend.modeling.model import TextModel, build_model
from poolblend.modeling.options import Head
from poolblend.store.foldfiles import ENCODER, FoldFiles
from poolblend.training.devices import dtype_here, release_memory
from poolblend.training.objectives import Objective
from poolblend.training.state import under
from poolblend.training.target_scaler import TargetScaler
from poolblend.training.tfidf import TfidfModel

T = TypeVar("T")


class Latest(Generic[T]):
    """The value that was made last, and the key that it was made for."""

    def __init__(self) -> None:
        self._made: tuple[object, T] | None = None

    def get(self, key: object, make: Callable[[], T]) -> T:
        """The kept value if its key is the same, else a new one; the old one is freed first."""
        if self._made is None or self._made[0] != key:
            if self._made is not None:
                self._made = None
                release_memory()
            self._made = (key, make())
        return self._made[1]


class FoldLoader:
    """Builds fold models, one at a time: the next one has the same weights' memory.

    Not whether code that comes with them may run (`remote_code`): a store may be from elsewhere.
    """

    def __init__(self, *, remote_code: bool = False) -> None:
        self.remote_code = remote_code
        self._encoders: Latest[backbone.Backbone] = Latest()
        self._bases: Latest[dict[str, torch.Tensor]] = Latest()

    def load(self, files: FoldFiles) -> tuple[FoldCard, TextModel | TfidfModel]:
        """The fold's card and its model, until the next call; UserError where they do not fit."""
        tensors = files.tensors()  # first: hashes of the tokenizer, too
        card = files.check(model=False, base=False, oof=False)
        if isinstance(card.member, TfidfMember):
            return card, load_model(card, card.member, tensors, objective_of(card))
        built, kept = self._encoder(files, card, card.member)
        model = _with_head(backbone.fresh(built), card, card.member, tensors)
        if kept is not None:
            tensors = {name: kept[name] for name in model.state_dict() if name in kept} | tensors
        factors = {name: tensors.pop(name) for name in list(tensors) if name.endswith((DOWN, UP))}
        try:
            missing, unknown = model.load_state_dict(tensors, strict=False)
            if kept is None:  # no fold may change the encoder that the next one stands on
                missing = [name for name in missing if not name.startswith(ENCODER)]
                unknown += [name for name in tensors if name.startswith(ENCODER)]
            if wrong := [*missing, *unknown]:
                raise KeyError(wrong[0])
            if factors:
                add_factors(model, factors, _lora_scale(card.member))
        except (RuntimeError, AttributeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            name = f"{card.member.name} {fold_name(card.fold)}"
            raise UserError(f"the weights of {name} do not fit its card: {reason}") from None
        return card, model

    def _encoder(
        self, files: FoldFiles, card: FoldCard, member: Member
    ) -> tuple[backbone.Backbone, Mapping[str, torch.Tensor] | None]:
        """An encoder that is to be loaded, and the tensors that the fold's own file leaves out.

        None with one in half precision, which has its base's weights already: no fold changes them.
        """
        others, base = card.files.others_sha256, card.files.base  # others: configuration, code
        dtype = dtype_here(member.backbone.dtype)
        build = partial(backbone.build, files.folder, remote_code=self.remote_code, dtype=dtype)
        if base is None or dtype == "fp32":
            kept = {} if base is None else self._bases.get(base, lambda: files.base_tensors(base))
            return self._encoders.get((others, dtype), build), kept

        def build_on_base() -> backbone.Backbone:
            return build(weights=under(ENCODER, files.base_tensors(base)))

        return self._encoders.get((others, dtype, base), build_on_base), None


def _lora_scale(member: Member) -> float:
    lora = member.train.lora
    if lora is None:
        raise KeyError("adapters of a member without lora")
    return lora.scale


def _with_head(
    base: backbone.Backbone, card: FoldCard, member: Member, tensors: Mapping[str, Any]
) -> TextModel:
    model, _ = build_model(
        # Tried when the backbone was loaded: here the weights are of no meaning yet.
        replace(base, reads_padding=card.reads_padding),
        pooler=member.pooler,
        pooler_args=member.pooler_args,
        mask=member.mask,
        n_outputs=objective_of(card).n_logits,
        n_columns=0 if card.columns is None else card.columns.width,
        **_head(member.head, tensors),
    )
    return model


def _head(head: Head, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """What `build_model` is to know of the head."""
    if not head.frozen:
        return {"dropout": head.dropout, "norm": head.norm}
    support = tensors.get(f"head.{SUPPORT}")
    return {"kind": head.kind, "n_support": 0 if support is None else len(support)}


def objective_of(card: FoldCard) -> Objective:
    """The objective that the fold's model was trained on."""
    loss = "auto" if card.member.head.frozen else card.member.train.loss
    objective = new_objective(card.inputs.task, loss)
    scaler = card.target_scaler
    return objective.with_scaler(None if scaler is None else TargetScaler.from_json(scaler))
