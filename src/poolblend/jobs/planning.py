"""From members and folds to jobs: what each depends on, and which backbones are trained first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from poolblend.cards.backbone import BackboneInputs
from poolblend.cards.fold import FoldInputs
from poolblend.cards.member import TFIDF_TRAIN
from poolblend.competition.templates import text_columns
from poolblend.config import AnyMember, Config, Member, TfidfMember, derive_seed
from poolblend.errors import UserError
from poolblend.jobs.job import BackboneJob, FoldJob
from poolblend.loading.competition import Competition
from poolblend.loading.dataset import test_hashes
from poolblend.loading.texts import text_columns_of, text_spec
from poolblend.modeling.options import Backbone
from poolblend.modeling.sources import Located
from poolblend.modeling.tokenizers import tokenizer_source
from poolblend.store import Store
from poolblend.text_spec import TextSpec, Windows

PIECES = Windows(overlap=0, most=None)  # in which long texts are read for continued training


def plan_jobs(
    config: Config,
    competition: Competition,
    store: Store,
    located: Mapping[str, Located],
    members: Sequence[AnyMember],
    folds: Iterable[int],
) -> tuple[list[BackboneJob], list[FoldJob]]:
    """The jobs that train these members' folds, and those that train their backbones first.

    `located` holds each encoder member's backbone on this machine, by the member's name. Raises
    UserError where two backbones of one name have different settings.
    """
    encoders = [member for member in members if isinstance(member, Member)]
    backbones = plan_backbones(config, competition, located, encoders)
    numbers = list(folds)
    jobs = []
    for member in members:
        if isinstance(member, TfidfMember):
            made_from: dict[str, Any] = {"reading": text_columns_of(config)}
        else:
            mlm = backbones[member.backbone.name] if member.backbone.mlm else None
            made_from = _encoder_inputs(config, member, located[member.name], mlm)
        inputs = _fold_inputs(config, competition, store, member, made_from)
        jobs += [
            FoldJob(
                config=config,
                member=member,
                fold=fold,
                inputs=inputs,
                precision=member.train.precision,
            )
            for fold in numbers
        ]
    return list(backbones.values()), jobs


def plan_backbones(
    config: Config,
    competition: Competition,
    located: Mapping[str, Located],
    members: Sequence[Member],
) -> dict[str, BackboneJob]:
    """The jobs of `backbone.mlm`, by the backbones' names."""
    known: dict[str, Backbone] = {}
    jobs: dict[str, BackboneJob] = {}
    for member in members:
        backbone = member.backbone
        if not backbone.mlm:
            continue
        # Some file systems ignore upper and lower case.
        if known.setdefault(backbone.name.lower(), backbone) != backbone:
            raise UserError(
                f"member {member.name}: two backbones with other settings are named "
                f"{backbone.name}; give one of them another `name`"
            )
        if backbone.name not in jobs:
            inputs = _backbone_inputs(config, competition, backbone, located[member.name])
            jobs[backbone.name] = BackboneJob(
                config=config,
                backbone=backbone,
                inputs=inputs,
                precision=config.train.precision,
            )
    return jobs


def _fold_inputs(
    config: Config,
    competition: Competition,
    store: Store,
    member: AnyMember,
    made_from: Mapping[str, Any],
) -> FoldInputs:
    """`made_from` says how texts are read, and by which encoder if there is one."""
    data, hashes = config.data, competition.data
    pseudo: dict[str, Any] = {}
    if member.pseudo:
        labels = store.known_pseudo(member.pseudo.labels).labels_sha256()
        pseudo = {"pseudo_labels_sha256": labels, **test_hashes(competition)}
    return FoldInputs(
        train_sha256=hashes["train_sha256"],
        joins_sha256=hashes.get("joins_sha256"),
        folds_sha256=hashes["folds_sha256"],
        task=competition.task,
        soft=tuple(data.soft),
        weight=data.weight,
        numeric=tuple(data.numeric),
        categorical=tuple(data.categorical),
        joins_on=tuple(join.on for join in data.joins),
        settings=_settings(member),
        **made_from,
        **pseudo,
    )


def _encoder_inputs(
    config: Config, member: Member, located: Located, mlm: BackboneJob | None
) -> dict[str, Any]:
    dtype = member.backbone.dtype
    return {
        "reading": text_spec(config, member),
        "swap": config.data.swap,
        "backbone_dtype": None if dtype == "fp32" else dtype,
        "backbone_sha256": located.weights_sha256,
        "backbone_files_sha256": located.files_sha256,
        "backbone_mlm_sha256": None if mlm is None else mlm.fingerprint(),
        "tokenizer": _tokenizer(located.folder, located.files_sha256, config.remote_code),
    }


def _settings(member: AnyMember) -> dict[str, Any]:
    """The member's settings that its weights depend on, besides how it reads texts."""
    if isinstance(member, TfidfMember):
        include: dict[str, Any] = {"model": True, "head": {"kind", "C"}, "train": TFIDF_TRAIN}
        return member.model_dump(mode="json", include={**include, "pseudo": True})
    elsewhere = {"name", "backbone", "max_length", "truncation", "windows"}
    if not member.head.frozen:
        recompute = {"gradient_checkpointing", "attention", "deterministic"}
        exclude: dict[str, Any] = dict.fromkeys(elsewhere, True)
        return member.model_dump(mode="json", exclude={**exclude, "train": recompute})
    settings = member.model_dump(mode="json", exclude=elsewhere | {"seed"})
    settings["head"] = member.head.model_dump(include={"kind", "C"})
    settings["train"] = member.train.model_dump(include={"precision", "class_weights"})
    return settings


def _backbone_inputs(
    config: Config, competition: Competition, backbone: Backbone, source: Located
) -> BackboneInputs:
    assert backbone.mlm is not None
    tables = competition.tables
    columns = text_columns(config.data.text)
    return BackboneInputs(
        source_sha256=source.weights_sha256,
        source_files_sha256=source.files_sha256,
        tokenizer=_tokenizer(source.folder, source.files_sha256, config.remote_code),
        train_texts_sha256=_texts_sha256(tables.train[columns]),
        test_texts_sha256=_texts_sha256(tables.test[columns]),
        reading=mlm_text_spec(config, backbone),
        precision=config.train.precision,
        seed=derive_seed(config.seed, "backbone", backbone.name),
        mlm=backbone.mlm.model_dump(mode="json"),
    )


def mlm_text_spec(config: Config, backbone: Backbone) -> TextSpec:
    """How continued training reads the texts: longer ones in pieces, pairs cut."""
    assert backbone.mlm is not None
    data = config.data
    return TextSpec(
        text=tuple(data.text),
        join=data.join,
        special_tokens=data.special_tokens,
        max_length=backbone.mlm.max_length,
        windows=None if data.join == "pair" else PIECES,
    )


@cache
def _tokenizer(folder: Path, files_sha256: str, remote_code: bool) -> str | None:
    """The file that texts are read by, where transformers would read them differently.

    The hash stands for the folder's content, which is read once.
    """
    return tokenizer_source(folder, remote_code)


def _texts_sha256(texts: pd.DataFrame) -> str:
    """Hex digest of the cells, row by row."""
    rows = texts.fillna("").to_numpy().tolist()
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()
