"""A whole card with other contents, as another version or somebody with a purpose writes it."""

import json
from pathlib import Path

from poolblend.cards.card import SEAL, sha256_of_json


def edit_card(path: Path, change) -> None:
    """Apply `change` to the card's content and seal it anew."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop(SEAL, None)
    change(content)
    path.write_text(json.dumps({**content, SEAL: sha256_of_json(content)}), encoding="utf-8")
