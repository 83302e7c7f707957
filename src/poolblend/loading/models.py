"""Members to models: where their backbones are, whether they can work, and new ones to train."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any

from poolblend.competition.tasks import Task
from poolblend.config import Config, Member
from poolblend.config.members import FROZEN_TRAIN
from poolblend.config.training import Train
from poolblend.errors import UserError
from poolblend.modeling import backbone, masked_lm
from poolblend.modeling.adapters import add_lora, check_lora
from poolblend.modeling.layers import check_layers, frozen_modules, reinitialise
from poolblend.modeling.model import TextModel, build_model
from poolblend.modeling.poolers import POOLERS, EncoderShape, Pooler, build_pooler
from poolblend.modeling.sources import Located, locate
from poolblend.training.head_fitting import check_head
from poolblend.training.objectives import Objective, choose_objective, resolve_loss
from poolblend.training.optim import check_layer_decay
from poolblend.training.options import FitOptions, LossOptions


def check_members(config: Config, members: Sequence[Member]) -> dict[str, Located]:
    """Each member's backbone on this machine, by the member's name.

    Raises UserError for a backbone, length, pooler argument or loss that cannot work, so that no
    member fails for one of these after hours of training others.
    """
    located: dict[tuple[str, str | None], Located] = {}
    for member in members:
        source, expected = member.backbone.source, member.backbone.sha256
        try:
            if (source, expected) not in located:
                path = config.path(source)
                folder = str(path) if path.is_dir() else source
                located[source, expected] = locate(folder, expected, remote_code=config.remote_code)
            check_member(config, member, located[source, expected])
        except UserError as error:
            raise UserError(f"member {member.name}: {error}") from None
    return {m.name: located[m.backbone.source, m.backbone.sha256] for m in members}


def check_member(config: Config, member: Member, located: Located) -> None:
    """Raise UserError for what cannot work on the backbone, as far as its files alone tell."""
    train = recipes(member)
    shape = backbone.check(
        located.folder,
        member.max_length,
        remote_code=config.remote_code,
        attention=train.attention,
        also=partial(_check_recipes, train=train),
    )
    if member.backbone.mlm:
        masked_lm.check(
            located.folder,
            member.backbone.mlm.max_length,
            remote_code=config.remote_code,
        )
    pooler = build_pooler(member.pooler, shape, member.pooler_args)
    if train.class_weights != "none" and config.task == "regression":
        raise UserError("train.class_weights: a regression has no classes; set it to none")
    if member.head.kind == "linear":
        resolve_loss(config.task, train.loss, smoothing=train.label_smoothing)
    else:
        check_head(member.head.kind, config.task)
        _check_frozen(pooler, shape, member, located, config.remote_code)


def recipes(member: Member) -> Train:
    """What of the member's `train` applies to it: to a frozen encoder, only how it computes."""
    if not member.head.frozen:
        return member.train
    return Train(**member.train.model_dump(include=set(FROZEN_TRAIN)))


def _check_frozen(
    pooler: Pooler, shape: EncoderShape, member: Member, located: Located, remote_code: bool
) -> None:
    """Raise UserError for a pooler that would stay random, as nothing trains it."""
    if not any(True for _ in pooler.parameters()):
        return
    if pooler.adopt(None):  # it wants nothing of the encoder's own
        raise UserError(
            f"pooler '{member.pooler}' has weights to learn, and with head.kind={member.head.kind} "
            f"only the head learns; choose one of {', '.join(_without_weights(shape))}"
        )
    base = backbone.load(located.folder, remote_code=remote_code, attention=member.train.attention)
    if not pooler.adopt(base.own_pooler):
        raise UserError(
            f"pooler '{member.pooler}': the encoder has no trained pooler, and with "
            f"head.kind={member.head.kind} only the head learns; choose another pooler"
        )


def _without_weights(shape: EncoderShape) -> list[str]:
    poolers = {name: POOLERS[name](shape) for name in POOLERS}
    return [
        name
        for name, pooler in poolers.items()
        if not any(True for _ in pooler.parameters()) or not pooler.adopt(None)
    ]


def _check_recipes(encoder: Any, train: Train) -> None:
    """Raise UserError for what the recipes want of an encoder that it does not have."""
    frozen, anew = train.freeze_layers or 0, train.reinit_layers
    check_layers(encoder, frozen, "train.freeze_layers")
    check_layers(encoder, anew, "train.reinit_layers")
    n_layers = encoder.config.num_hidden_layers
    if frozen + anew > n_layers:
        raise UserError(
            f"train.freeze_layers is {frozen} and train.reinit_layers {anew}, of {n_layers} "
            "layers: some would be frozen with random weights; lower one"
        )
    if frozen == n_layers:
        for key, acts in (("layer_decay", train.layer_decay < 1), ("awp", train.awp)):
            if acts:
                raise UserError(f"train.{key} does nothing where all {n_layers} layers are frozen")
    if train.lora is not None:
        check_lora(encoder, train.lora.modules)
    check_layer_decay(encoder, train.layer_decay)


def new_model(
    member: Member, located: Located, *, n_logits: int, n_columns: int, remote_code: bool
) -> tuple[backbone.Backbone, TextModel, bool]:
    """The backbone, the member's model on it, and whether its pooler took over what it wanted.

    What is random is drawn from torch's global generator.
    """
    train = recipes(member)
    base = backbone.load(located.folder, remote_code=remote_code, attention=train.attention)
    if train.reinit_layers:
        reinitialise(base.encoder, train.reinit_layers)
    model, adopted = build_model(
        base,
        pooler=member.pooler,
        pooler_args=member.pooler_args,
        mask=member.mask,
        n_outputs=n_logits,
        n_columns=n_columns,
        kind=member.head.kind,
        dropout=member.head.dropout,
        norm=member.head.norm,
    )
    if train.freeze_layers is not None:
        model.freeze(frozen_modules(base.encoder, train.freeze_layers))
    if train.lora is not None:
        lora = train.lora
        add_lora(
            base.encoder, r=lora.r, alpha=lora.alpha, dropout=lora.dropout, modules=lora.modules
        )
    return base, model, adopted


def new_objective(task: Task, loss: str = "auto") -> Objective:
    """What is minimised to learn the task."""
    return choose_objective(task.kind, loss, n_outputs=len(task.outputs), classes=task.classes)


def fit_options(train: Train, seed: int) -> FitOptions:
    """The keys of `train` that a fit takes."""
    given = train.model_dump()
    losses = LossOptions(**{field.name: given[field.name] for field in fields(LossOptions)})
    own = {f.name: given[f.name] for f in fields(FitOptions) if f.name in given}
    return FitOptions(**own, losses=losses, seed=seed)
