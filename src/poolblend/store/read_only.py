"""A store that is only read: on a read-only mount, or for a result that is to go elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path

from poolblend.store.artefacts import Store
from poolblend.store.hidden_states import HiddenStatesFolder


@contextmanager
def only_read(store: Store) -> Iterator[Store]:
    """The same store, into which nothing is written: no predictions, locks or markers.

    Hidden states of frozen layers are in a temporary folder, which is removed after the block.
    """
    with tempfile.TemporaryDirectory(prefix="poolblend-") as scratch:
        reading = copy(store)
        reading.read_only = True
        reading.hidden_states = HiddenStatesFolder(Path(scratch), store.hidden_states.limit)
        yield reading
