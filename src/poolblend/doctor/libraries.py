"""Python and the libraries: are they there, and in the versions that the code supports?"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

from poolblend.doctor.checks import Finding, Run, check, fail, ok, warn

OLDEST, NEWEST = (3, 11), (3, 13)  # of Python; the first is pyproject's requires-python
INSTALL = "pip install -r requirements.txt"
# A version with a known flaw, the package without which the flaw does not show, and the flaw.
RISKY = (
    ("transformers<5.3", "kernels", "may run code that a backbone's config.json names"),
    ("filelock<3.20.3", None, "can be made to follow another user's links"),
)


@check("python", fix="install Python 3.11 to 3.13")
def python(run: Run) -> Iterator[Finding]:
    """Python's version is a supported one."""
    found = ".".join(map(str, sys.version_info[:3]))
    supported = f"{_dotted(OLDEST)} to {_dotted(NEWEST)}"
    if sys.version_info[:2] < OLDEST:
        yield fail(f"{found}; {supported} are supported", f"install Python {_dotted(NEWEST)}")
    elif sys.version_info[:2] > NEWEST:
        yield warn(f"{found} is newer than what was tested", f"should it fail, take {supported}")
    else:
        yield ok(found)


@check("libraries", fix=INSTALL)
def libraries(run: Run) -> Iterator[Finding]:
    """Every library is installed in a supported version."""
    from packaging.requirements import Requirement
    from packaging.version import Version

    lines = (files("poolblend") / "supported.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if not line.startswith("#")]
    tested, good = _tested(), 0
    for library in wanted:
        installed = _version(library.name)
        newest = tested.get(library.name)
        if installed is None:
            yield fail(f"{library.name} is not installed; {library} is needed", INSTALL)
        elif not library.specifier.contains(installed, prereleases=True):
            yield fail(f"{library.name} is {installed}; {library} is needed", INSTALL)
        elif newest is not None and Version(installed).major > Version(newest).major:
            yield warn(
                f"{library.name} is {installed}; {newest} is what was tested",
                f"should it fail: pip install {library.name}=={newest}",
            )
        else:
            good += 1
    shown = ", ".join(f"{name} {_version(name)}" for name in ("torch", "transformers", "pandas"))
    if good:
        yield ok(f"{good} of {len(wanted)} as supported; {shown}")


@check("known flaws", fix=INSTALL)
def known_flaws(run: Run) -> Iterator[Finding]:
    """No library is in a version known to be unsafe beside another that is installed."""
    from packaging.requirements import Requirement

    for line, needed, flaw in RISKY:
        risky = Requirement(line)
        installed = _version(risky.name)
        if installed is None or not risky.specifier.contains(installed, prereleases=True):
            continue
        if needed is None:
            yield warn(f"{risky.name} {installed} {flaw}", f"pip install -U {risky.name}")
        elif _version(needed) is not None:
            yield warn(
                f"{risky.name} {installed} with the package {needed} {flaw}",
                f"pip uninstall {needed}, or pip install -U {risky.name}",
            )


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _tested() -> dict[str, str]:
    """The pins of the project's requirements.txt; none where the library runs without it."""
    file = Path(__file__).resolve().parents[3] / "requirements.txt"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    pins = [line.split("#")[0].strip().split("==") for line in lines]
    return {pin[0]: pin[1] for pin in pins if len(pin) == 2}


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
