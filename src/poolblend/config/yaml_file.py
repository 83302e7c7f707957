"""YAML as configs hold it: the core schema of YAML 1.2, bounded in size and depth.

<https://yaml.org/spec/1.2.2/#103-core-schema>, less octal and hexadecimal numbers. YAML 1.1, which
PyYAML reads otherwise, takes `no`, `on`, 1:30, 010 and dates for something else than the text that
a column, a label or a file of that name needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from poolblend.errors import UserError, excerpt

LARGEST = 100_000  # bytes of a file; and values and characters, once its aliases are written out
DEEPEST = 20

_TAG = "tag:yaml.org,2002:"
_DIGITS = r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
# What a plain word looks like (in this order), what it becomes, and the characters it starts with.
_WORDS: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "null": (r"~|null|Null|NULL|", lambda word: None, "~nN"),
    "bool": (r"true|True|TRUE|false|False|FALSE", lambda word: word.lower() == "true", "tTfF"),
    # Longer ones are text: Python limits the digits that it reads.
    "int": (r"[-+]?(?:0|[1-9][0-9]{0,30})", int, "-+0123456789"),
    "float": (
        rf"{_DIGITS}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        lambda word: float(re.sub(r"\.(?=[in])", "", word.lower())),
        "-+.0123456789",
    ),
    "merge": ("<<", str, "<"),
}


class Loader(yaml.SafeLoader):
    """Safe YAML of text keys, each given once, whose aliases cannot multiply beyond measure."""

    def get_single_node(self) -> yaml.Node | None:
        """The document's root, once all that it stands for is counted."""
        root: yaml.Node | None = super().get_single_node()
        left, found = LARGEST, [(root, 1)] if root is not None else []
        while found:
            node, depth = found.pop()
            left -= 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
            if depth > DEEPEST:
                raise _error(f"nested deeper than {DEEPEST} levels, or inside itself", node)
            if left < 0:
                raise _error(f"larger than {LARGEST:,} characters, aliases written out", node)
            if isinstance(node, yaml.MappingNode):
                found += [(inner, depth + 1) for pair in node.value for inner in pair]
            elif isinstance(node, yaml.SequenceNode):
                found += [(inner, depth + 1) for inner in node.value]
        return root

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Any, Any]:
        """PyYAML's own, once all keys are text and none is found twice."""
        if not isinstance(node, yaml.MappingNode):
            raise _error("expected `key: value` lines", node)
        seen = set()
        for key, _ in node.value:
            if key.tag not in (f"{_TAG}str", f"{_TAG}merge"):
                raise _error(f"key {excerpt(key.value)} is not text: quote it", key)
            if key.tag == f"{_TAG}str" and key.value in seen:
                raise _error(f"key '{excerpt(key.value)}' twice", key)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _construct_text(loader: Loader, node: yaml.ScalarNode) -> str:
    text: str = loader.construct_scalar(node)
    with suppress(UnicodeDecodeError):  # JSON writes characters beyond 16 bits as two halves
        text = text.encode("utf-16", "surrogatepass").decode("utf-16")
        if "\0" not in text:
            return text
    raise _error("a character that no text holds", node)


def _error(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def _add(name: str, pattern: str, read: Callable[[str], Any], starts: str) -> None:
    word = re.compile(rf"(?:{pattern})\Z")

    def construct(loader: Loader, node: yaml.ScalarNode) -> Any:
        text = loader.construct_scalar(node)
        if not word.match(text):  # a tag such as !!int says what the word is not
            raise _error(f"'{excerpt(text)}' is no {name}", node)
        return read(text)

    first = list(starts) + ([""] if word.match("") else [])
    Loader.add_implicit_resolver(_TAG + name, word, first)
    Loader.add_constructor(_TAG + name, construct)


Loader.yaml_implicit_resolvers = {}
Loader.yaml_constructors = {
    tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (f"{_TAG}seq", f"{_TAG}map", None)
}
Loader.add_constructor(f"{_TAG}str", _construct_text)
for _name, _word in _WORDS.items():
    _add(_name, *_word)


def read_yaml(path: Path) -> Any:
    """What a YAML file holds; UserError where it cannot be read, is too large or no YAML."""
    where = excerpt(str(path), 150)
    try:
        with path.open("rb") as file:
            source = file.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"cannot read {where}: {error.strerror}") from None
    if len(source) > LARGEST:
        raise UserError(f"{where} is larger than {LARGEST:,} bytes: is it a config?")
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{where} is not YAML: byte {error.start + 1} is not UTF-8; save the file as UTF-8"
        ) from None
    return parse_yaml(text, f"{where} is not YAML")


def parse_yaml(text: str, complaint: str) -> Any:
    """What `text` says; UserError that begins with `complaint` where it is no YAML."""
    with _explained(complaint):
        return yaml.load(text, Loader=Loader)


def parse_value(text: str, complaint: str) -> Any:
    """What one value says, as it is given on the command line.

    YAML where it begins with a bracket, brace or quote; else a number, true, false or null, or the
    text as it stands, whatever it holds: names of columns hold colons, hashes and dashes. Raises
    UserError as `parse_yaml` does.
    """
    text = text.strip()
    if text.startswith(("[", "{", '"', "'")):
        return parse_yaml(text, complaint)
    with _explained(complaint):
        loader = Loader(text)  # refuses characters that no text holds
        tag = loader.resolve(yaml.ScalarNode, text, (True, False))
        return loader.construct_object(yaml.ScalarNode(tag, text))


@contextmanager
def _explained(complaint: str) -> Iterator[None]:
    """Makes any error of YAML a UserError that begins with `complaint`."""
    try:
        yield
    except RecursionError:
        raise UserError(f"{complaint}: nested deeper than {DEEPEST} levels") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise UserError(f"{complaint}{place}: {excerpt(error.problem, 150)}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise UserError(f"{complaint}: {excerpt(' '.join(str(error).split()), 150)}") from None
