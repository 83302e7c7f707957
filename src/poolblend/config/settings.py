"""A run's settings: its sections, its members resolved, and where it finds its files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator, model_validator

from poolblend.cards.member import TFIDF_TRAIN, AnyMember, Member, TfidfMember, derive_seed
from poolblend.competition.options import Data, Folds, Submission
from poolblend.config.duration import parse_duration
from poolblend.config.members import (
    Mask,
    MemberSpec,
    check_member,
    check_spec,
    counts_tokens,
    merged,
    tfidf_head,
)
from poolblend.config.workers import OnCluster
from poolblend.ensembling.options import Blend
from poolblend.errors import UserError, quoted
from poolblend.modeling.options import Backbone, Head, backbone_of_member
from poolblend.options import FileNamePart, PathText, Section, Seed, checked, repeated
from poolblend.registry import declared
from poolblend.text_spec import Truncation, Windows
from poolblend.training.options import Checkpoints, Pseudo, Train

# The project's folder when run from a checkout, else wherever the command was started. SHIPPED has
# configs/ and notebooks/: an installed package holds copies of them.
_PACKAGE = Path(__file__).resolve().parents[1]
_CHECKOUT = _PACKAGE.parents[1]
_IN_CHECKOUT = (_CHECKOUT / "configs").is_dir()
ROOT = _CHECKOUT if _IN_CHECKOUT else Path.cwd()
SHIPPED = _CHECKOUT if _IN_CHECKOUT else _PACKAGE

MOST_MEMBERS = 1000
CLASSED = ("binary", "multiclass", "ordinal")  # tasks whose targets are classes


class Config(Section):
    """A run: one competition, its folds, and the members trained on them."""

    run: FileNamePart = "run"  # names the folders; default: the config file's name
    preset: str | None = None  # names settings that take the place of the defaults
    task: Literal["binary", "multiclass", "multilabel", "regression", "ordinal"] = "binary"
    metric: str = "f1"  # the score of members and blends
    # A train column whose values are groups of rows: the score is the mean of the groups' scores.
    # Of a binary task, with roc_auc or log_loss.
    metric_by: str | None = None
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
    seed: Seed = 42  # in the members' names; each member derives a seed of its own from it
    # Exact seeds, each making every member once; null: one derived.
    seeds: list[Seed] | None = Field(None, min_length=1)
    head: Head = Head()
    train: Train = Train()
    pseudo: Pseudo | None = None  # rows of test, labelled by an earlier blend, join the training
    checkpoints: Checkpoints = Checkpoints()
    tracking: Literal["none", "tensorboard", "wandb", "mlflow"] = "none"  # where losses are sent
    batch_tokens: int = Field(8192, ge=1)  # tokens per batch of predictions, padding included
    # Gigabytes of disk for hidden states of frozen layers, which are then computed once; null: half
    # of what is free; 0: none are stored.
    cache_gb: float | None = Field(None, ge=0)
    cluster: OnCluster = OnCluster()
    blend: Blend = Blend()
    submission: Submission = Submission()
    store: PathText = "."  # the folder of models/, oof/, submissions/ and folds.csv
    output: PathText = ""  # the folder of submissions/ where the store is read-only; empty: store

    @field_validator("metric")
    @classmethod
    def _known(cls, value: str) -> str:
        return checked("metric", value)

    @model_validator(mode="after")
    def _keys_fit_the_task(self) -> Config:
        task, folds, values = self.task, self.folds, self.submission.values
        one_output = task in CLASSED or (task == "regression" and len(self.data.target) == 1)
        binned = task == "regression" and self._folds_are("binned")
        stratified = task in CLASSED and self._folds_are("every_class")
        per_output = self.blend.weights == "per_output" and one_output
        formed = values != "auto" and task == "regression"
        positive = self.data.positive is not None and task != "binary"
        possible = self.data.possible is not None and task != "multiclass"
        bins = folds.bins != Folds().bins and not binned
        rare = folds.rare != "spread" and not stratified
        for no_effect, key, kind in (
            (per_output, "blend.weights=per_output", " of one target"),
            (formed, f"submission={values}", ", which has values alone"),
            (positive, "data.positive", ""),
            (possible, "data.possible", ""),
            (bins, "folds.bins", f" with folds.strategy={folds.strategy}"),
            (rare, "folds.rare", f" with folds.strategy={folds.strategy}"),
        ):
            if no_effect:
                raise ValueError(f"{key} does nothing in a {task} task{kind}; leave it out")
        return self

    def _folds_are(self, ability: str) -> bool:
        """Whether the fold strategy has the ability; "auto" stands for one that does."""
        return self.folds.strategy in ("auto", *declared("fold strategy", ability))

    @model_validator(mode="after")
    def _budget_is_a_duration(self) -> Config:
        blend = self.blend
        try:
            _ = self.budget_seconds
        except UserError as error:
            raise UserError(f"blend.budget: {error}") from None
        if blend.budget is None and blend.budget_rows is not None:
            raise ValueError("blend.budget_rows does nothing without blend.budget; leave it out")
        return self

    @model_validator(mode="after")
    def _members_differ(self) -> Config:
        seeds = len(self.seeds or (None,))
        count = sum(1 if spec.seed is not None else seeds for spec in self.members)
        if count > MOST_MEMBERS:
            raise ValueError(f"members and seeds make {count:,} members; at most {MOST_MEMBERS:,}")
        for spec in self.members:
            check_spec(spec, self._resolve(spec, None))
        members = self.resolve_members()
        encoders = [member for member in members if isinstance(member, Member)]
        if self.head.C != Head().C and not any(each.head.frozen for each in encoders):
            raise ValueError("head.C does nothing without a head.kind of ridge, logistic or svr")
        if encoders and self.mask != "attention" and not any(map(counts_tokens, encoders)):
            raise ValueError(
                f"mask={self.mask} does nothing with poolers that read tokens by their place "
                f"({', '.join(dict.fromkeys(each.pooler for each in encoders))}); leave it out"
            )
        for member in members:
            check_member(member, self.data, self.task)
        # Some file systems ignore upper and lower case.
        repeated_name = repeated(member.name.lower() for member in members)
        if repeated_name is not None:
            same = [each for each in encoders if each.name.lower() == repeated_name]
            sources = list(dict.fromkeys(member.backbone.source for member in same))
            if len(sources) > 1:
                first, second = (quoted(source) for source in sources[:2])
                raise ValueError(
                    f"two members are named {same[0].name}, of the backbones {first} and {second}:"
                    " set backbone.name for one of them"
                )
            name = next(each.name for each in members if each.name.lower() == repeated_name)
            raise ValueError(f"two members are named {name}: give one of them a `tag`")
        return self

    def path(self, path: str) -> Path:
        """`path` as written in the config: relative ones start at the project's folder."""
        return ROOT / Path(path).expanduser()

    @property
    def drawn_groups(self) -> str | None:
        """The train column whose values are drawn whole for intervals; None where rows are."""
        return self.folds.groups if self.blend.groups == "auto" else self.blend.groups

    @property
    def budget_seconds(self) -> float | None:
        """How long infer.py may compute; None: no limit."""
        return None if self.blend.budget is None else parse_duration(self.blend.budget)

    @property
    def data_dir(self) -> Path:
        return self.path(self.data.dir or f"input/{self.run}")

    def resolve_members(self, poolers: Sequence[str] | None = None) -> list[AnyMember]:
        """The config's members in order, or those of the named poolers and models.

        One that the config does not list becomes a member with the run's settings; raises
        UserError where these do not fit it.
        """
        if poolers is None:
            return list(self._expand(self.members))
        specs: list[MemberSpec] = []
        for pooler in poolers:
            listed = [spec for spec in self.members if spec.chosen_by == pooler]
            specs += listed or [MemberSpec.model_validate(pooler)]
        members = list(self._expand(specs))
        for member in members:
            try:
                check_member(member, self.data, self.task)
            except ValueError as error:
                raise UserError(str(error)) from None
        return members

    def _expand(self, specs: Sequence[MemberSpec]) -> Iterator[AnyMember]:
        for spec in specs:
            listed = [spec.seed] if spec.seed is not None else self.seeds
            for seed in listed or (None,):
                member = self._resolve(spec, seed)
                yield member
                if member.head.frozen:  # nothing in it is random: another seed makes a copy
                    break

    def _resolve(self, spec: MemberSpec, listed_seed: int | None) -> AnyMember:
        train = Train(**merged(self.train.model_dump(), spec.train))
        pseudo = spec.pseudo if "pseudo" in spec.model_fields_set else self.pseudo
        if spec.pooler is None:
            assert spec.model is not None
            head = tfidf_head(spec, self.task)
            stem = "-".join(filter(None, (spec.model.kind, head.kind, spec.tag)))
            return TfidfMember(
                name=self._name(stem, listed_seed),
                model=spec.model,
                pseudo=pseudo,
                head=head,
                train=Train(precision="fp32", **train.model_dump(include=TFIDF_TRAIN)),
                seed=self._seed(stem, listed_seed),
            )
        backbone = backbone_of_member(self.backbone, spec.backbone or {})
        head = Head(**merged(self.head.model_dump(), spec.head))
        kind = head.kind if head.frozen else None
        stem = "-".join(filter(None, (backbone.name, spec.pooler, kind, spec.tag)))
        return Member(
            name=self._name(stem, listed_seed),
            pooler=spec.pooler,
            pooler_args=spec.pooler_args,
            mask=spec.mask or self.mask,
            backbone=backbone,
            max_length=spec.max_length or self.max_length,
            truncation=spec.truncation or self.truncation,
            windows=self._windows(spec),
            pseudo=pseudo,
            head=head,
            train=train,
            seed=self._seed(stem, listed_seed),
        )

    def _name(self, stem: str, listed_seed: int | None) -> str:
        return f"{stem}-s{self.seed if listed_seed is None else listed_seed}"

    def _seed(self, stem: str, listed_seed: int | None) -> int:
        return derive_seed(self.seed, stem) if listed_seed is None else listed_seed

    def _windows(self, spec: MemberSpec) -> Windows | None:
        if "windows" not in spec.model_fields_set:
            return self.windows
        if spec.windows is None:
            return None
        return Windows(**merged(self.windows.model_dump() if self.windows else {}, spec.windows))
