"""Hidden states of frozen layers, stored once for all models that read on from them.

    cache/<run>/states-<hash>.npy       an array (tokens, layers, hidden), read through a memory map
    cache/<run>/states-<hash>.json      its card

The folder can be deleted at any time: what is missing is computed again.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolblend.cards.card import DamagedError
from poolblend.cards.hidden_states import HiddenStatesCard, HiddenStatesInputs
from poolblend.store.files import sha256
from poolblend.store.kept import read_card_of, write_with_card
from poolblend.store.locks import ProcessLock

if TYPE_CHECKING:
    import numpy as np

Put = Callable[[int, "np.ndarray"], None]  # the place of the first token, and its states

log = logging.getLogger(__name__)

GIGABYTE = 1e9


class HiddenStatesFolder:
    """The stored hidden states of a run.

    `limit` is how many bytes they may take together; None: half of the disk space that is free.
    """

    def __init__(self, folder: Path, limit: float | None = None) -> None:
        self.folder, self.limit = folder, limit
        # By fingerprint, each with its card; hashed once in a process.
        self._opened: dict[str, tuple[Any, HiddenStatesCard]] = {}

    def __str__(self) -> str:
        return str(self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the files itself, rather than being sent what they hold."""
        return vars(self) | {"_opened": {}}

    def path(self, inputs: HiddenStatesInputs) -> Path:
        return self.folder / f"states-{inputs.fingerprint()[:16]}.npy"

    def lock(self, inputs: HiddenStatesInputs) -> ProcessLock:
        """The lock of whoever computes them."""
        return ProcessLock(self.path(inputs).with_suffix(".lock"))

    def lacks_room(self, n_bytes: int) -> str | None:
        """Why so many bytes more cannot be stored, or None."""
        if self.limit is None:
            existing = next(each for each in (self.folder, *self.folder.parents) if each.exists())
            room, what = shutil.disk_usage(existing).free / 2, "half of the free disk space is"
        else:
            stored = sum(file.stat().st_size for file in self.folder.glob("states-*.npy"))
            room, what = self.limit - stored, "cache_gb leaves"
        if n_bytes <= room:
            return None
        return f"{n_bytes / GIGABYTE:.1f} GB are needed, {what} {max(room, 0) / GIGABYTE:.1f} GB"

    def load(self, inputs: HiddenStatesInputs) -> tuple[np.ndarray, HiddenStatesCard] | None:
        """The states through a memory map, and their card; None if there are none or damaged."""
        import numpy as np

        key, path = inputs.fingerprint(), self.path(inputs)
        if key not in self._opened:
            if not path.is_file():
                return None
            try:
                card = read_card_of(path, HiddenStatesCard)
                if card.inputs != inputs or sha256(path) != card.file.sha256:
                    raise DamagedError(f"{path} is damaged")
                self._opened[key] = np.load(path, mmap_mode="r", allow_pickle=False), card
            except (DamagedError, OSError, ValueError) as error:
                log.warning("%s; the hidden states are computed again", error)
                return None
        return self._opened[key]

    def save(
        self,
        inputs: HiddenStatesInputs,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any],
        fill: Callable[[Put], float],
    ) -> None:
        """Write the states that `fill` puts, each part at the place of its first token.

        `fill` returns how many seconds that took, which the card keeps.
        Raises UnwritableError where the disk cannot take them.
        """
        from numpy.lib import format

        seconds = 0.0

        def write(path: Path) -> None:
            nonlocal seconds
            # Plain writes: on a full disk, writing through a memory map kills the process.
            with path.open("wb") as file:
                described = format.dtype_to_descr(dtype)
                format.write_array_header_1_0(
                    file, {"descr": described, "fortran_order": False, "shape": shape}
                )
                start, size = file.tell(), shape[1] * shape[2] * dtype.itemsize

                def put(token: int, x_SLH: np.ndarray) -> None:
                    file.seek(start + token * size)
                    file.write(x_SLH.tobytes())

                seconds = fill(put)

        write_with_card(
            self.path(inputs),
            write,
            lambda file: HiddenStatesCard(
                inputs=inputs, shape=shape, file=file, seconds=round(seconds, 3)
            ),
        )
