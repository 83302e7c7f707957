"""The base of all options, and the types that several rooms' options use: names, paths, seeds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from poolblend.errors import unknown
from poolblend.registry import declared

# Windows reserves these names, also with any ending.
_PORTS = {f"{port}{n}" for port in ("com", "lpt") for n in range(10)}
_DEVICES = {"con", "prn", "aux", "nul"} | _PORTS


def file_name_part(name: str) -> str:
    """The name, if it can be a part of file names on every system; else ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9_-])?", name):
        raise ValueError(
            "becomes part of a file name: use up to 100 letters, digits, '.', '_', '-', "
            "a letter or digit first, no '.' last"
        )
    if name.split(".", maxsplit=1)[0].lower() in _DEVICES:
        raise ValueError("becomes part of a file name, and Windows keeps this one for a device")
    return name


def _path(path: str) -> str:
    if "\0" in path:
        raise ValueError("a path holds no NUL character")
    try:
        Path(path).expanduser()
    except RuntimeError:
        raise ValueError("'~' names no user with a home folder") from None
    return path


def checked(kind: str, name: str, also: tuple[str, ...] = ()) -> str:
    """`name` if it is registered in the family `kind` or in `also`; else UserError."""
    known = (*declared(kind), *also)
    if name not in known:
        raise unknown(kind, name, known)
    return name


def repeated(names: Iterable[str]) -> str | None:
    """The first of `names` that occurs more than once."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


FileNamePart = Annotated[str, AfterValidator(file_name_part)]
PathText = Annotated[str, AfterValidator(_path)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy and scikit-learn take


class Section(BaseModel):
    """A group of config keys: unknown keys and wrong types are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _no_count_overflows(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > 2**32:
            raise ValueError("too large")
        return value
