"""From members to models: find their backbones, check their settings, build new models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from poolblend.competition.tasks import Task
from poolblend.config import AnyMember, Config, Member, TfidfMember
from poolblend.errors import UserError
from poolblend.modeling import backbone, masked_lm
from poolblend.modeling.model import TextModel, build_model
from poolblend.modeling.options import Backbone
from poolblend.modeling.poolers import POOLERS, EncoderShape, Pooler, build_pooler
from poolblend.modeling.sources import Located, locate
from poolblend.training.devices import check_dtype, check_precision
from poolblend.training.head_fitting import TASKS_OF_NGRAMS, check_head
from poolblend.training.objectives import Objective, choose_objective, resolve_loss
from poolblend.training.recipes import active_recipes


def check_members(config: Config, members: Sequence[AnyMember]) -> dict[str, Located]:
    """The backbone on this machine of each member that has one, by the member's name.

    Raises UserError for a backbone, length, pooler argument or loss that cannot work, before any
    member is trained.
    """
    located: dict[tuple[str, str | None], Located] = {}
    checked: dict[str, EncoderShape] = {}
    for member in members:
        try:
            if isinstance(member, TfidfMember):
                _check_tfidf(config, member)
                continue
            source, expected = member.backbone.source, member.backbone.sha256
            if (source, expected) not in located:
                located[source, expected] = locate_backbone(config, member.backbone)
            check_member(config, member, located[source, expected], checked)
        except UserError as error:
            raise UserError(f"member {member.name}: {error}") from None
    return {
        m.name: located[m.backbone.source, m.backbone.sha256]
        for m in members
        if isinstance(m, Member)
    }


def backbones_of(
    members: Sequence[AnyMember], located: Mapping[str, Located]
) -> dict[Backbone, Located]:
    """The members' backbones, of those `located` by the members' names."""
    return {m.backbone: located[m.name] for m in members if isinstance(m, Member)}


def _check_tfidf(config: Config, member: TfidfMember) -> None:
    assert member.head.kind != "linear"  # the config says so
    check_head(member.head.kind, config.task, TASKS_OF_NGRAMS)
    for recipe in active_recipes(member.train):
        recipe.check(None, member.train, config.task)


def locate_backbone(config: Config, wanted: Backbone) -> Located:
    """The backbone on this machine; UserError where it is not there or cannot be read."""
    path = config.path(wanted.source)
    folder = str(path) if path.is_dir() else wanted.source
    return locate(folder, wanted.sha256, remote_code=config.remote_code)


def check_member(
    config: Config, member: Member, located: Located, checked: dict[str, EncoderShape]
) -> None:
    """Raise UserError for settings that cannot work, as far as the backbone's files show.

    `checked` keeps the shapes of encoders that members with the same settings have in common.
    """
    train = member.applied_train
    encoder = str((located, member.max_length, member.backbone, train))
    if encoder not in checked:
        checked[encoder] = _check_encoder(config, member, located)
    shape = checked[encoder]
    pooler = build_pooler(member.pooler, shape, member.pooler_args)
    if member.head.kind == "linear":
        resolve_loss(config.task, train.loss)
    else:
        check_head(member.head.kind, config.task)
        _check_frozen(pooler, shape, member, located, config.remote_code)


def _check_encoder(config: Config, member: Member, located: Located) -> EncoderShape:
    """The shape of the member's encoder, if it can be read and trained as the member says."""
    train = member.applied_train
    check_precision(train.precision, train.attention)
    check_dtype(member.backbone.dtype)

    def check_recipes(encoder: Any) -> None:
        for recipe in active_recipes(train):
            recipe.check(encoder, train, config.task)

    shape = backbone.check(
        located.folder,
        member.max_length,
        remote_code=config.remote_code,
        attention=train.attention,
        also=check_recipes,
    )
    if member.backbone.mlm:
        masked_lm.check(
            located.folder, member.backbone.mlm.max_length, remote_code=config.remote_code
        )
    return shape


def _check_frozen(
    pooler: Pooler, shape: EncoderShape, member: Member, located: Located, remote_code: bool
) -> None:
    """Raise UserError for a pooler with random weights, which a frozen encoder does not train."""
    if not any(True for _ in pooler.parameters()):
        return
    if pooler.adopt(None):  # it does not use the encoder's own pooler
        raise UserError(
            f"pooler '{member.pooler}' has weights to train, and with head.kind={member.head.kind} "
            f"only the head is trained; choose one of {', '.join(_without_weights(shape))}"
        )
    base = load_backbone(member, located, remote_code)
    if not pooler.adopt(base.own_pooler):
        raise UserError(
            f"pooler '{member.pooler}': the encoder has no trained pooler, and with "
            f"head.kind={member.head.kind} only the head is trained; choose another pooler"
        )


def _without_weights(shape: EncoderShape) -> list[str]:
    poolers = {name: POOLERS[name](shape) for name in POOLERS}
    return [
        name
        for name, pooler in poolers.items()
        if not any(True for _ in pooler.parameters()) or not pooler.adopt(None)
    ]


def load_backbone(member: Member, located: Located, remote_code: bool) -> backbone.Backbone:
    """The member's backbone, as its training reads it."""
    return backbone.load(
        located.folder,
        remote_code=remote_code,
        attention=member.train.attention,
        dtype=member.backbone.dtype,
    )


def new_model(
    member: Member,
    located: Located,
    *,
    n_logits: int,
    n_columns: int,
    remote_code: bool,
    base: backbone.Backbone | None = None,
) -> tuple[backbone.Backbone, TextModel, bool]:
    """The backbone, the member's model, and whether its pooler found the weights that it adopts.

    New weights are drawn from torch's global generator. `base` is the backbone, if it is loaded
    already; its encoder becomes the model's.
    """
    train = member.applied_train
    recipes = active_recipes(train)
    if base is None:
        base = load_backbone(member, located, remote_code)
    for recipe in recipes:
        recipe.prepare_encoder(base.encoder)
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
    for recipe in recipes:
        recipe.prepare_model(model)
    return base, model, adopted


def new_objective(task: Task, loss: str = "auto") -> Objective:
    """The objective of the task with this loss."""
    return choose_objective(task.kind, loss, n_outputs=len(task.outputs), classes=task.classes)
