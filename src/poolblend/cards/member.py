"""A member: one way of making predictions, as jobs and cards hold it."""

from __future__ import annotations

import hashlib
from typing import Any

from poolblend.modeling.options import Backbone, Head, Mask, Tfidf
from poolblend.options import Section
from poolblend.text_spec import Truncation, Windows
from poolblend.training.options import Pseudo, Train
from poolblend.training.recipes import RECIPES

# The keys of `train` that apply to a model without an encoder, and to a frozen encoder.
TFIDF_TRAIN = {name for name in RECIPES if RECIPES[name].with_frozen_encoder}
FROZEN_TRAIN = {"precision", "attention"} | TFIDF_TRAIN


class Member(Section):
    """An encoder, a pooler and a head, with all settings resolved."""

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

    @property
    def has_frozen_part(self) -> bool:
        """Whether some weights of the encoder stay as its backbone has them."""
        train = self.train
        return self.head.frozen or train.freeze_layers is not None or train.lora is not None

    @property
    def keeps_encoder(self) -> bool:
        """Whether a trained model's encoder has the backbone's own weights, each of them."""
        return self.head.frozen or self.backbone.dtype != "fp32"

    @property
    def applied_train(self) -> Train:
        """The keys of `train` that apply to the member: few of them for a frozen encoder."""
        if not self.head.frozen:
            return self.train
        return Train(**self.train.model_dump(include=FROZEN_TRAIN))


class TfidfMember(Section):
    """A model without an encoder, with all settings resolved."""

    name: str
    model: Tfidf
    pseudo: Pseudo | None
    head: Head
    train: Train  # at its defaults, but for TFIDF_TRAIN
    seed: int

    @property
    def applied_train(self) -> Train:
        """The keys of `train` that apply to the member."""
        return self.train


AnyMember = Member | TfidfMember  # one way of making predictions


def derive_seed(seed: int, *names: object) -> int:
    """A seed below 2**31 that is derived from `seed` and `names`.

    Members with equal data order and dropout would make more similar errors.
    """
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
