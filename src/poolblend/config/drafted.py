"""The YAML of a drafted config: its keys with their reasons as comments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from poolblend.competition.drafting.findings import Finding
from poolblend.config.settings import Config
from poolblend.config.yaml_file import parse_value
from poolblend.errors import printable
from poolblend.printing import WIDTH, wrapped

_BLANK = "\0"  # stands for a blank at which no line is broken
PLAIN = re.compile(r"[\w./]([\w./ -]*[\w.])?")


def draft_yaml(findings: Sequence[Finding], heading: str) -> str:
    """The findings as the lines of a config: those that are guessed, or differ from the defaults.

    The task always stands there, since the other keys are read beside it.
    """
    kept = [each for each in findings if each.key == "task" or not _is_usual(each)]
    lines = wrapped(_comment(heading), "# ", "# ")
    for section in dict.fromkeys(["", *(_section(each) for each in kept)]):
        if section:
            lines.append(f"{section}:")
        for each in kept:
            if _section(each) == section:
                lines += _lines(each, "  " if section else "")
    return "\n".join([*lines, ""])


def written(value: Any) -> str:
    """A value as it stands in a config, on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {written(held)}' for key, held in value.items())}}}"
    if not isinstance(value, str):
        return str(yaml.safe_dump(value)).split("\n")[0]
    if PLAIN.fullmatch(value) and parse_value(value, "a plain text") == value:
        return value
    quotes = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=float("inf"))
    return str(quotes).rstrip("\n")


def _is_usual(finding: Finding) -> bool:
    """Whether a key needs no line: it is sure, and its value is the default."""
    default: Any = Config()
    for name in finding.key.split("."):
        default = getattr(default, name)
    return finding.state == "sure" and finding.value in (default, _alone(default))


def _alone(default: Any) -> Any:
    return default[0] if isinstance(default, list) and len(default) == 1 else default


def _section(finding: Finding) -> str:
    return finding.key.rpartition(".")[0]


def _lines(finding: Finding, indent: str) -> Iterator[str]:
    """The key's line with the reason after it, or above it where that would be too long."""
    mark = "# " * (finding.state == "option")
    line = f"{indent}{mark}{finding.key.rpartition('.')[2]}: {_unbroken(finding.value)}"
    reason = _comment(f"{'guess: ' * (finding.state == 'guess')}{finding.reason}")
    if len(line) + len(reason) + 4 <= WIDTH:
        yield f"{line.replace(_BLANK, ' ')}  # {reason}"
    else:
        yield from wrapped(reason, f"{indent}# ", f"{indent}#   ")
        for part in wrapped(line.lstrip(), indent, f"{indent}{mark}  "):
            yield part.replace(_BLANK, " ")


def _comment(text: str) -> str:
    """The text on one line, of characters that YAML allows."""
    return printable(" ".join(text.split()))


def _unbroken(value: Any) -> str:
    """A value as `written`, to be broken into lines only between the items of a list."""
    if isinstance(value, list):
        return f"[{', '.join(map(_unbroken, value))}]"
    return written(value).replace(" ", _BLANK)
