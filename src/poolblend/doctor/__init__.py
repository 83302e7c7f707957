"""`train.py --doctor`: look at all that a run needs; each failure tells its cause and its fix.

A check is one generator under `@check("name", fix=…)` in one of the ROOMS below. They import what
they look at inside their functions: a missing library is a finding like any other.
"""

from __future__ import annotations

import logging
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module

from poolblend.config import Config
from poolblend.doctor.checks import CHECKS, Check, Finding, Run, failure, warn
from poolblend.errors import UserError

# In the order in which they look.
ROOMS = ("libraries", "machine", "devices", "storage", "contents")
for room in ROOMS:
    import_module(f"{__name__}.{room}")

MARKS = {"ok": "ok", "warn": "warn", "fail": "FAIL"}
WIDTH = 100


def doctor(config: Config) -> None:
    """Print what every check found, line by line; UserError at the end where any failed."""
    findings = []
    for finding in _look_at_all(config):
        findings.append(finding)
        _print(finding)
    failed = [finding.name for finding in findings if finding.status == "fail"]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}; do what each "
            "`fix` above says, then run the doctor again"
        )


def examine(config: Config) -> list[Finding]:
    """What every check found; no check is left out because another failed."""
    return list(_look_at_all(config))


def _look_at_all(config: Config) -> Iterator[Finding]:
    run, failed = Run(config), False
    for check in CHECKS:
        for finding in _look(check, run, sick=failed):
            failed |= finding.status == "fail"
            yield finding


def _look(check: Check, run: Run, *, sick: bool) -> list[Finding]:
    """The check's findings; its own error is one of them, or no more than a follow-up."""
    found: list[Finding] = []
    try:
        with _silence():
            for finding in check.look(run):
                found.append(finding)  # which stays where a later one ends in an error
    except ImportError as error:
        # Where a library is missing, that is one fault, however many checks would use it.
        again = warn(f"not looked at: {error}", "mend what failed above first")
        found.append(again if sick else failure(error, "pip install -r requirements.txt"))
    except Exception as error:
        found.append(failure(error, check.fix))
    return [replace(finding, name=finding.name or check.name) for finding in found]


@contextmanager
def _silence() -> Iterator[None]:
    """Findings say all there is to say: no log lines and no libraries' warnings between them."""
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
    lines = textwrap.wrap(
        finding.found,
        WIDTH,
        initial_indent=head,
        subsequent_indent=" " * len(head),
        break_long_words=False,
        break_on_hyphens=False,
    )
    if finding.fix:
        lines += textwrap.wrap(
            f"fix: {finding.fix}",
            WIDTH,
            initial_indent=" " * len(head),
            subsequent_indent=" " * (len(head) + 5),
            break_long_words=False,
            break_on_hyphens=False,
        )
    encoding = sys.stdout.encoding or "ascii"
    text = "\n".join(lines)
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
