"""The versions of Python and the libraries."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from poolblend.doctor.checks import Finding, Run, check, fail, ok, warn

OLDEST, NEWEST = (3, 11), (3, 13)  # of Python; the first is pyproject's requires-python
INSTALL = "pip install -r requirements.txt"
# Versions with a known flaw, the package that the flaw needs (or None), and the flaw.
RISKY = (
    ("transformers<5.3", "kernels", "may run code that a backbone's config.json names"),
    ("filelock<3.20.3", None, "can be made to follow another user's links"),
)


@check("python", fix="install Python 3.11 to 3.13")
def python(run: Run) -> Iterator[Finding]:
    """Python's version is supported."""
    found = ".".join(map(str, sys.version_info[:3]))
    oldest, newest = (".".join(map(str, each)) for each in (OLDEST, NEWEST))
    if sys.version_info[:2] < OLDEST:
        yield fail(f"{found}; {oldest} to {newest} are supported", f"install Python {newest}")
    elif sys.version_info[:2] > NEWEST:
        yield warn(f"{found} is newer than what was tested", f"if it fails, use {newest}")
    else:
        yield ok(found)


@check("libraries", fix=INSTALL)
def libraries(run: Run) -> Iterator[Finding]:
    """All libraries are installed in supported versions without known flaws."""
    from packaging.requirements import Requirement

    lines = (files("poolblend") / "supported.txt").read_text(encoding="utf-8").splitlines()
    needed = [Requirement(line) for line in lines if not line.startswith("#")]
    failed = 0
    for library in needed:
        installed = _version(library.name)
        if installed is None or not library.specifier.contains(installed, prereleases=True):
            state = "not installed" if installed is None else installed
            yield fail(f"{library.name} is {state}; {library} is needed", INSTALL)
            failed += 1
    if failed < len(needed):
        shown = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers"))
        yield ok(f"{len(needed) - failed} of {len(needed)} are supported; {shown}")
    for line, together_with, flaw in RISKY:
        risky = Requirement(line)
        installed = _version(risky.name)
        if installed is None or not risky.specifier.contains(installed, prereleases=True):
            continue
        if together_with is None or _version(together_with) is not None:
            package = f" with the package {together_with}" if together_with else ""
            yield warn(f"{risky.name} {installed}{package} {flaw}", f"pip install -U {risky.name}")


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
