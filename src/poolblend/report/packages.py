"""The packages that reports and pictures need, which an installation may lack."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from poolblend.errors import UserError


def require_packages(what: str, packages: Sequence[str]) -> None:
    """Raise UserError if a package is missing that `what` needs."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{what} needs packages that are not installed: {', '.join(missing)}; "
            f"{Path(sys.executable).name} -m pip install {' '.join(missing)}"
        )
