"""Read YAML for configs: the core schema of YAML 1.2, with text keys that occur once.

<https://yaml.org/spec/1.2.2/#103-core-schema>, without octal and hexadecimal numbers. By default
PyYAML reads YAML 1.1, in which `no`, `on`, 1:30, 010 and dates are not text, although a column, a
label or a file may have such a name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from poolblend.errors import UserError, quoted

LARGEST = 100_000  # bytes of a config file
_TAG = "tag:yaml.org,2002:"
_NUMBER = r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
_SPECIAL = r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
# For each kind of plain scalar: its pattern, and the characters that it may start with.
_SCALARS = {
    "null": (r"(?:~|null|Null|NULL|)\Z", "~nN"),
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)\Z", "tTfF"),
    # More digits are text, as Python limits the digits that it converts.
    "int": (r"[-+]?(?:0|[1-9][0-9]{0,30})\Z", "-+0123456789"),
    "float": (rf"(?:{_NUMBER}|{_SPECIAL})\Z", "-+.0123456789"),
    "merge": (r"<<\Z", "<"),
}
_KINDS = [_TAG + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map")]


class Loader(yaml.SafeLoader):
    """Safe YAML without dates, sets and binary data; keys are text and occur once."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own attribute
    yaml_constructors = {  # noqa: RUF012
        tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (*_KINDS, None)
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """PyYAML's node; MarkedYAMLError for a key that is not text, or occurs twice."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            mark = key.start_mark
            if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                problem = f"key {quoted(key.value)} is not text: quote it"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
            if key.value in seen:
                problem = f"key {quoted(key.value)} is given twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=mark)
            seen.add(key.value)
        return node


for _kind, (_pattern, _starts) in _SCALARS.items():
    _first = [*_starts, ""] if _kind == "null" else [*_starts]
    Loader.add_implicit_resolver(_TAG + _kind, re.compile(_pattern), _first)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; UserError if it cannot be read, is too large or not YAML."""
    try:
        with path.open("rb") as file:
            source = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if len(source) > LARGEST:
        raise UserError(f"{path} is larger than {LARGEST:,} bytes: is it a config?")
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not YAML: byte {error.start + 1} is not UTF-8; save the file as UTF-8"
        ) from None
    with _in_one_line(f"{path} is not YAML"):
        return yaml.load(text, Loader=Loader)


def parse_value(text: str, complaint: str) -> Any:
    """The value of `--set key=value`; UserError that begins with `complaint` for malformed YAML.

    A value that begins with a bracket, brace or quote is YAML. Others are a number, true, false,
    null or plain text, in which names of columns may have colons, hashes and dashes.
    """
    text = text.strip()
    with _in_one_line(complaint):
        if text.startswith(("[", "{", '"', "'")):
            return yaml.load(text, Loader=Loader)
        loader = Loader(text)  # it refuses control characters
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))
        return loader.construct_object(yaml.ScalarNode(tag, text))


@contextmanager
def _in_one_line(complaint: str) -> Iterator[None]:
    """Turn any error of PyYAML into a UserError with the line and column."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise UserError(f"{complaint}{place}: {error.problem}") from None
    except RecursionError:
        raise UserError(f"{complaint}: it is nested too deep") from None
    except (yaml.YAMLError, ValueError, LookupError, OverflowError) as error:
        raise UserError(f"{complaint}: {' '.join(str(error).split())}") from None
