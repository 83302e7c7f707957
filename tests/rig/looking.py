"""What a store holds, against what it should: nothing lost, corrupt, different or left over."""

import hashlib
import json
import re

from poolblend import config
from poolblend.cards.card import SEAL, sha256_of_json
from poolblend.loading.competition import open_store
from poolblend.store import DamagedError, sha256
from poolblend.store.survey import survey

TRANSIENT = re.compile(r"\.tmp(/|$)|\.lock$|(^|/)checkpoints(/|$)")
CARD = re.compile(r"(^|/)(card|blend|folds|submission[^/]*)\.json$")
# When, where and in how many attempts; two runs of the same differ in nothing else.
CIRCUMSTANCES = {"written", "seconds", "resumed", "resumed_at_steps", "commit", "store"}


def describe(tell, path, sets=()):
    """Tell a digest of each finished file, and None for each folder, by its name in the store."""
    tell(_contents(open_store(config.load(path, sets)).root)[0])


def find(settings, right, old, finished, ended=False):
    """What is wrong, by kind, where `right` is what a run that was never interrupted left.

    `old` is what was there at first, `finished` are the paths that were finished since; `ended`
    says that all should be there.
    """
    store = open_store(settings)
    held, corrupt = _contents(store.root)
    states = list(survey(store)) if store.root.is_dir() else []
    corrupt += [
        artefact.name
        for artefact in states
        # A card that came before its table, which a kill kept from coming, damages nothing.
        if artefact.state == "damaged" and (ended or _is_there(store.root, artefact.name))
    ]
    fine = [right] if ended else [right, old]
    different = [n for n in held if n in right and all(held[n] != f.get(n) for f in fine)]
    lost = [name for name in finished if held.get(name, "gone") != right[name]]
    left = [name for name in held if name not in right]
    if ended:
        lost += [name for name in right if name not in held]
        left += [path for path in _names(store.root) if TRANSIENT.search(path) and path not in held]
        left = [name for name in left if not name.endswith(".log")]
        left += [artefact.name for artefact in states if artefact.state != "whole"]
    return {"lost": lost, "corrupt": corrupt, "differing": different, "leftover": left}


def _is_there(root, place):
    return not place.endswith(".csv") or any(root.rglob(place))


def _names(root):
    return [str(path.relative_to(root)) for path in sorted(root.rglob("*"))]


def _contents(root):
    """Digests by name, and the names of those that are not whole; nothing transient."""
    contents, corrupt = {}, []
    for name in filter(lambda name: not TRANSIENT.search(name), _names(root)):
        # One submission has as many dated copies as attempts were made to write it.
        generic = re.sub(r"submission-\d{8}-\d{6}", "submission-DATE", name)
        try:
            contents[generic] = _digest(root / name)
        except DamagedError:
            corrupt.append(name)
    return contents, corrupt


def _digest(path):
    if path.is_dir():
        return None
    if not CARD.search(str(path)):
        return sha256(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    if content.pop(SEAL, None) != sha256_of_json(content):
        raise DamagedError(f"{path} is damaged")
    told = json.dumps(_lasting(content), sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _lasting(told):
    if isinstance(told, dict):
        return {k: _lasting(v) for k, v in told.items() if k not in CIRCUMSTANCES}
    return [_lasting(each) for each in told] if isinstance(told, list) else told
