"""poolblend: from a text competition's CSVs to a blended submission, one pooling type per model.

From Python: `import poolblend as pb`, then `pb.Run(…)`; what the user can put right is a
`pb.UserError`. Both are imported when they are used, so that `import poolblend` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Run", "UserError", "__version__"]

_MODULES = {"Run": "api", "UserError": "errors"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"poolblend.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
