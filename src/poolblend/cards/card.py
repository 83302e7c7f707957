"""The base of all cards: typed fields, a hash of them, and one function to read the JSON."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from poolblend.errors import UserError

SEAL = "card_sha256"
C = TypeVar("C", bound="Card")


class DamagedError(UserError):
    """A file of the store is not what was written: shortened, changed, exchanged, or missing."""


class CardPart(BaseModel):
    """A group of a card's fields; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Card(CardPart):
    """An artefact's card.

    The JSON file holds the fields and their hash, `card_sha256`, which reveals a card that was
    shortened or edited.
    """

    def fingerprint(self) -> str:
        """Hex sha256 of all fields."""
        return sha256_of_json(self.model_dump(mode="json"))

    def to_json(self) -> str:
        """The text of the card's file."""
        content = self.model_dump(mode="json")
        sealed = {**content, SEAL: sha256_of_json(content)}
        return json.dumps(sealed, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(kind: type[C], text: str, where: str) -> C:
    """The card of this kind in `text`; `where` is the file's name for messages.

    Raises DamagedError if the text is not what `to_json` wrote, or has other fields.
    """
    try:
        content = json.loads(text)
        seal = content.pop(SEAL)
        whole = seal == sha256_of_json(content)
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        whole = False
    if not whole:
        raise DamagedError(f"{where} is damaged: it is not the card that was written there")
    try:
        return kind.model_validate_json(json.dumps(content))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "card"
        reason = first["msg"][0].lower() + first["msg"][1:]
        raise DamagedError(
            f"{where} was written by another version of poolblend ({field}: {reason})"
        ) from None


def sha256_of_json(content: Any) -> str:
    """Hex sha256 of a JSON value; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
