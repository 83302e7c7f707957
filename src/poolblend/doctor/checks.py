"""What a check is, what it may say, and what it looks at."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from poolblend.config import Config, Member
from poolblend.errors import UserError

if TYPE_CHECKING:
    from poolblend.modeling.sources import Located
    from poolblend.store import Store

Source = tuple[str, str | None]  # of a backbone, with the sha256 that the config asks for


@dataclass(frozen=True)
class Finding:
    """What was looked at, how it stands, what was found, and what mends it where that is wanted."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


class Check(NamedTuple):
    """A check by name; `fix` is the advice where the check itself ends in an error."""

    name: str
    fix: str
    look: Callable[[Run], Iterator[Finding]]


CHECKS: list[Check] = []  # in the order in which they are made


def check(name: str, fix: str) -> Callable[[Callable[[Run], Iterator[Finding]]], Check]:
    """Decorator that enters a generator of findings; those without a name take the check's."""

    def enter(look: Callable[[Run], Iterator[Finding]]) -> Check:
        CHECKS.append(Check(name, fix, look))
        return CHECKS[-1]

    return enter


def ok(found: str, name: str = "") -> Finding:
    return Finding(name, "ok", found)


def warn(found: str, fix: str, name: str = "") -> Finding:
    return Finding(name, "warn", found, fix)


def fail(found: str, fix: str, name: str = "") -> Finding:
    return Finding(name, "fail", found, fix)


def failure(error: Exception, fix: str, name: str = "") -> Finding:
    """An error as a finding; ours need no type to be understood."""
    reason = " ".join(str(error).split())[:500]
    if not isinstance(error, UserError):
        reason = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    return fail(reason, fix, name)


class Run:
    """The run that the config describes, as far as several checks look at it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.members = config.resolve_members()

    @cached_property
    def store(self) -> Store:
        from poolblend.loading.competition import open_store

        return open_store(self.config)

    @cached_property
    def unfinished(self) -> list[tuple[Member, int, Exception | None]]:
        """Each member and fold without a valid card, with what is wrong where there is one."""
        folds = range(self.config.folds.n)
        jobs = [(member, fold) for member in self.members for fold in folds]
        return [(*job, error) for job in jobs for error in self._card_errors(*job)]

    def _card_errors(self, member: Member, fold: int) -> list[Exception | None]:
        try:
            return [] if self.store.fold_card(member.name, fold) else [None]
        except (UserError, OSError) as error:
            there = self.store.fold_folder(member.name, fold).is_dir()
            return [error if there else None]

    @cached_property
    def located(self) -> dict[Source, Located | Exception]:
        """Each distinct backbone of the members: where it lies, or why it could not be found."""
        return {source: self._locate(*source) for source in map(source_of, self.members)}

    def _locate(self, source: str, sha256: str | None) -> Located | Exception:
        from poolblend.modeling.sources import locate

        path = self.config.path(source)
        try:
            with no_network():
                folder = str(path) if path.is_dir() else source
                return locate(folder, sha256, remote_code=self.config.remote_code)
        except Exception as error:
            return error

    @cached_property
    def weights(self) -> dict[Source, int]:
        """Bytes of each backbone's weights in fp32, of those that can be read."""
        sizes = {}
        for source, located in self.located.items():
            if not isinstance(located, Exception) and (size := _fp32_bytes(located)):
                sizes[source] = size
        return sizes


def source_of(member: Member) -> Source:
    return member.backbone.source, member.backbone.sha256


def _fp32_bytes(located: Located) -> int | None:
    """None where a file is damaged, which loading the backbone will tell."""
    import math

    from safetensors import SafetensorError, safe_open

    total = 0
    for file in located.folder.glob("*.safetensors"):
        try:
            with safe_open(file, "np") as tensors:
                shapes = [tensors.get_slice(name).get_shape() for name in tensors.keys()]  # noqa: SIM118
        except (OSError, SafetensorError):
            return None
        total += 4 * sum(map(math.prod, shapes))
    return total


@contextmanager
def no_network() -> Iterator[None]:
    """Whatever HF_HUB_OFFLINE said when huggingface_hub read it: the hub is not asked in here."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def size(n_bytes: float) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.0f} MB"
