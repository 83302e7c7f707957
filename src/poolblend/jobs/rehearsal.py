"""Try all that a training will do, on two rows, before the first epoch.

A forward pass, a training step, saving, loading again: the same tokens and the same predictions.
All in the precision that the training will compute in; where an encoder's own code does not survive
a half precision that nobody asked for, it is trained in fp32. Nothing is left in the store, and no
random number of a training depends on it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from poolblend.competition.tasks import Task
from poolblend.config import Config, Member
from poolblend.errors import UserError
from poolblend.jobs.two_rows import Trial, TrialError
from poolblend.modeling.options import Head
from poolblend.modeling.sources import Located
from poolblend.training.devices import Precision, choose_device, resolve_precision
from poolblend.training.fit import DivergedError

log = logging.getLogger(__name__)

_passed: dict[str, Precision] = {}  # in this process


class Rehearsed(NamedTuple):
    """By their names: the precision that members compute in, and why others cannot be trained."""

    precisions: dict[str, Precision]
    unable: dict[str, str]


def rehearse_all(
    config: Config,
    task: Task,
    members: Sequence[Member],
    located: Mapping[str, Located],
    check: Callable[[], None] = lambda: None,
) -> Rehearsed:
    """Rehearse each distinct kind of member once; `check` is called between two of them.

    Members that differ in nothing but what follows the encoder are saved and loaded alike: the
    first of them alone is.
    """
    rehearsed, saved = Rehearsed({}, {}), set()
    for member in members:
        check()
        encoder = (located[member.name], str(member.applied_train))
        try:
            precision = rehearse(
                config, task, member, located[member.name], save=encoder not in saved
            )
        except UserError as error:
            rehearsed.unable[member.name] = " ".join(str(error).split())
        else:
            rehearsed.precisions[member.name] = precision
            saved.add(encoder)
    return rehearsed


def rehearse(
    config: Config, task: Task, member: Member, located: Located, *, save: bool = True
) -> Precision:
    """The precision that the member is to compute in: its own, or fp32 for `auto`.

    Raises UserError where it cannot be trained or, with `save`, not saved or loaded.
    """
    key = _kind(config, task, member, located, save)
    if key in _passed:
        return _passed[key]

    def attempt(precision: Precision) -> None:
        train = member.applied_train.model_copy(update={"precision": precision})
        head = Head() if member.head.frozen else member.head
        tried = member.model_copy(update={"train": train, "head": head})
        Trial(config, task, tried, located).run(save=save)

    _passed[key] = survived(member.name, member.train.precision, attempt)
    return _passed[key]


def survived(what: str, wanted: Precision, attempt: Callable[[Precision], None]) -> Precision:
    """The precision in which the attempt succeeds: the one that is wanted, or fp32 for `auto`.

    Raises what the attempt does in fp32; UserError where it fails in the one that was asked for.
    """
    resolved = resolve_precision(wanted, choose_device())
    try:
        attempt(wanted)
    except (TrialError, DivergedError) as error:
        if resolved == "fp32":
            raise
        reason = str(error)
    else:
        return wanted
    attempt("fp32")
    if wanted != "auto":
        raise UserError(
            f"train.precision is {wanted}, in which {reason}; in fp32 it works: set "
            "train.precision to fp32, or to auto"
        )
    log.warning("%s computes in fp32: in %s %s", what, resolved, reason)
    return "fp32"


def _kind(config: Config, task: Task, member: Member, located: Located, save: bool) -> str:
    """All that a rehearsal depends on; members of one kind are rehearsed once in a process."""
    settings = member.model_dump(exclude={"name": True, "backbone": True, "seed": True})
    data = config.data
    reading = [data.text, data.join, data.special_tokens, config.remote_code, config.batch_tokens]
    hashes = [located.weights_sha256, located.files_sha256, str(located.folder)]
    device = [choose_device().type, torch.get_num_threads()]
    kind = [settings, reading, hashes, task.kind, len(task.outputs), device, save]
    return json.dumps(kind, sort_keys=True, default=str)
