"""Checks, their findings, and the run that they check."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from poolblend.config import Config, Member
from poolblend.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from poolblend.loading.competition import Competition
    from poolblend.modeling.sources import Located
    from poolblend.store import Store


@dataclass(frozen=True)
class Finding:
    """What a check found, and how to fix it; the default name is the check's."""

    status: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""
    name: str = ""


class Check(NamedTuple):
    """A check; `fix` is the advice if the check itself raises an error."""

    name: str
    fix: str
    run: Callable[[Run], Iterator[Finding]]


CHECKS: list[Check] = []  # in the order in which they run


def check(name: str, fix: str) -> Callable[[Callable[[Run], Iterator[Finding]]], Check]:
    """Decorator that registers a generator of findings as a check."""

    def register(run: Callable[[Run], Iterator[Finding]]) -> Check:
        CHECKS.append(Check(name, fix, run))
        return CHECKS[-1]

    return register


def ok(found: str, name: str = "") -> Finding:
    return Finding("ok", found, name=name)


def warn(found: str, fix: str, name: str = "") -> Finding:
    return Finding("warn", found, fix, name)


def fail(found: str, fix: str, name: str = "") -> Finding:
    return Finding("fail", found, fix, name)


def failure(error: Exception, fix: str, name: str = "") -> Finding:
    """An error as a finding, with its type unless it is a UserError."""
    reason = " ".join(str(error).split())[:500]
    if not isinstance(error, UserError):
        reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return fail(reason, fix, name)


class Run:
    """The run that the config describes."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.members = config.resolve_members()

    @cached_property
    def store(self) -> Store:
        from poolblend.loading.competition import open_store

        return open_store(self.config)

    @cached_property
    def located(self) -> dict[str, Located]:
        """Each member's backbone, found without a network; same errors as a training."""
        from poolblend.loading.models import check_members

        with no_network():
            return check_members(self.config, self.members)

    @cached_property
    def competition(self) -> Competition:
        """Tables and folds that a training would use; same errors as a training."""
        from poolblend.loading.competition import planned_competition

        config, data = self.config, self.config.data
        names = (data.train, data.test, data.sample_submission)
        if any((config.data_dir / name).exists() for name in names):
            # Without `demo`, missing tables are not made.
            data = data.model_copy(update={"demo": False})
        return planned_competition(config.model_copy(update={"data": data}), self.store)

    @cached_property
    def weights(self) -> dict[str, WeightBytes]:
        """Each member's weights; empty if a backbone cannot be read."""
        try:
            return {
                member.name: _weight_bytes(member, self.located[member.name].folder)
                for member in self.members
                if isinstance(member, Member)
            }
        except Exception:  # another check reports it
            return {}

    @property
    def memory_for_training(self) -> int:
        """Bytes of the weights, gradients and optimizer of the largest member."""
        # Of what learns also gradients, two moments of the optimizer, and a copy when saving.
        return max((each.held + 4 * each.learning for each in self.weights.values()), default=0)


class WeightBytes(NamedTuple):
    """Bytes of an encoder's weights, and of those that learn: nearly none beside adapters."""

    held: int
    learning: int


def _weight_bytes(member: Member, folder: Path) -> WeightBytes:
    import math

    from safetensors import safe_open

    total = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "np") as tensors:
            shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
        total += sum(map(math.prod, shapes))
    held = total * (4 if member.backbone.dtype == "fp32" else 2)
    return WeightBytes(held, 0 if member.head.frozen or member.train.lora else held)


@contextmanager
def no_network() -> Iterator[None]:
    """Switch off the access of huggingface_hub to the network."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
