"""What the store holds of one fold, against what the config would train now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

from poolblend.cards.inputs import changed
from poolblend.errors import UserError
from poolblend.store import Checkpoints, DamagedError, Store


class Look(NamedTuple):
    """How a fold stands; `told` says what is damaged or has changed.

    `resumable` tells whether it has a checkpoint to go on from; `failed` is the store's note of an
    attempt from the same inputs that failed.
    """

    state: Literal["missing", "finished", "damaged", "stale"]
    told: str = ""
    resumable: bool = False
    failed: Mapping[str, Any] | None = None

    @property
    def replaces(self) -> bool:
        """Whether training the fold would overwrite something, which must be asked for."""
        return self.state in ("damaged", "stale")


def look_at(
    store: Store, member: str, fold: int, inputs: Mapping[str, Any], *, hashes: bool = False
) -> Look:
    """How the fold stands where it would be trained from `inputs`.

    Without `hashes`, a finished fold's files are known by their sizes alone, which is quick.
    """

    def finished() -> Mapping[str, Any] | None:
        card = store.fold_card(member, fold)
        if card and hashes:
            store.check_fold(member, fold)
        return card

    look = judge(f"{member} fold {fold}", store.checkpoints(member, fold), finished, inputs)
    note = None if look.state == "finished" else store.failure(member, fold)
    return look if note is None or changed(note["inputs"], inputs) else look._replace(failed=note)


def judge(
    what: str,
    checkpoints: Checkpoints,
    finished: Callable[[], Mapping[str, Any] | None],
    inputs: Mapping[str, Any],
) -> Look:
    """How `what` stands where it would be trained from `inputs`.

    `finished` reads the card of a finished one: None where there is none, or DamagedError.
    """
    begun = checkpoints.newest()
    since = "; ".join(changed(begun.card["inputs"], inputs)) if begun else ""
    resumable = begun is not None and not since
    try:
        card = finished()
    except DamagedError as error:
        return Look("damaged", str(error), resumable)
    changes = "; ".join(changed(card["inputs"], inputs)) if card else ""
    if changes:
        return Look("stale", f"{what} is stale: {changes}", resumable)
    if card:
        return Look("finished")
    if since:
        return Look("stale", f"{what} was begun otherwise: {since}")
    return Look("missing", resumable=resumable)


def refusal(looks: list[Look]) -> UserError:
    """The error for folds that are not trained without being asked for; the first is named."""
    first = looks[0]
    more = f" ({len(looks) - 1} more: train.py --check lists them)" if len(looks) > 1 else ""
    if first.state == "damaged":
        return UserError(f"{first.told}{more}")
    return UserError(
        f"{first.told}{more}. Train it again with --overwrite, or give the member a `tag` to keep "
        "both"
    )
