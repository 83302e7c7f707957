"""`train.py --doctor`: check what a run needs; each failure names its cause and its fix.

A check is a generator of findings with `@check("name", fix=…)` in one of the MODULES below. It
imports what it tests inside its function, so that a missing library becomes a finding.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

from poolblend.config import Config
from poolblend.doctor.checks import CHECKS, Check, Finding, Run, failure, warn
from poolblend.errors import UserError
from poolblend.printing import wrapped

MODULES = ("libraries", "machine", "devices", "storage", "training")  # in order
for module in MODULES:
    import_module(f"{__name__}.{module}")

MARKS = {"ok": "ok", "warn": "warn", "fail": "FAIL"}


def doctor(config: Config) -> None:
    """Print the findings of all checks; UserError at the end if any check failed."""
    findings = []
    for finding in examine(config):
        findings.append(finding)
        _print(finding)
    failed = [finding.name for finding in findings if finding.status == "fail"]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}; follow the "
            "`fix` lines above, then run the doctor again"
        )


def examine(config: Config) -> Iterator[Finding]:
    """The findings of all checks; the others run although one fails."""
    run, failed = Run(config), False
    for check in CHECKS:
        for finding in _findings(check, run, failed):
            failed |= finding.status == "fail"
            yield finding


def _findings(check: Check, run: Run, failed_before: bool) -> list[Finding]:
    """The check's findings; an error that it raises becomes a finding."""
    found: list[Finding] = []
    try:
        with _silence():
            for finding in check.run(run):
                found.append(finding)  # not lost if the check raises an error later
    except ImportError as error:
        # Report a missing library only once, although several checks import it.
        if failed_before:
            found.append(warn(f"not checked: {error}", "fix what failed above first"))
        else:
            found.append(failure(error, "pip install -r requirements.txt"))
    except Exception as error:
        found.append(failure(error, check.fix))
    return [replace(finding, name=finding.name or check.name) for finding in found]


@contextmanager
def _silence() -> Iterator[None]:
    """Suppress log lines and warnings of libraries."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _print(finding: Finding) -> None:
    column = max(len(check.name) for check in CHECKS)
    head = f"{MARKS[finding.status]:<4}  {finding.name:<{column}}  "
    indent = " " * len(head)
    lines = wrapped(finding.found, head, indent)
    if finding.fix:
        lines += wrapped(f"fix: {finding.fix}", indent, f"{indent}     ")
    encoding = sys.stdout.encoding or "ascii"
    text = "\n".join(lines).encode(encoding, "backslashreplace").decode(encoding)
    print(text, flush=True)
