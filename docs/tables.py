"""Write the documents' tables of all that a config can hold, from the code.

  python docs/tables.py            (or: make docs)

A test fails while a document differs from what this would write.
"""

import ast
import inspect
import io
import json
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / name for name in ("config.md", "poolers.md", "training.md")]
sys.path.insert(0, str(ROOT / "src"))

from pydantic import BaseModel

from poolblend.competition.metrics import METRICS
from poolblend.config import Config
from poolblend.config.members import MemberSpec
from poolblend.config.presets import known_presets
from poolblend.config.reading import section_within
from poolblend.modeling.options import Tfidf
from poolblend.modeling.poolers import POOLERS
from poolblend.registry import declared
from poolblend.training.options import Train


def _arguments(pooler: type) -> str:
    parameters = inspect.signature(pooler).parameters.values()
    own = [p for p in parameters if p.kind is p.KEYWORD_ONLY]
    return ", ".join(f"`{p.name}={json.dumps(p.default)}`" for p in own)


OTHERS = ("metric", "fold strategy", "blender", "loss", "optimizer", "schedule")

# What a family's table says besides name and description.
EXTRAS = {
    "pooler": ("`pooler_args`", lambda name: _arguments(POOLERS[name])),
    "metric": ("tasks", lambda name: ", ".join(METRICS[name].tasks)),
}


def presets() -> str:
    """A table of the presets' names and one-line descriptions."""
    return _table(["preset", ""], [[f"`{name}`", line] for name, line in known_presets().items()])


def names(kind: str) -> str:
    """A table of a family's names and one-line descriptions."""
    heads, rows = [kind, ""], [[f"`{name}`", line] for name, line in declared(kind).items()]
    if kind in EXTRAS:
        title, extra = EXTRAS[kind]
        heads.append(title)
        for row, name in zip(rows, declared(kind), strict=True):
            row.append(extra(name))
    return _table(heads, rows)


def recipes() -> str:
    """A table of the recipes' options, the keys of `train:` that have a description."""
    rows = [
        [f"`{name}`", f"`{json.dumps(field.default)}`", field.description]
        for name, field in Train.model_fields.items()
        if field.description
    ]
    return _table(["key of `train:`", "default", ""], rows)


def keys() -> str:
    """A table per section of a config: its keys, their defaults, and what the code says of them."""
    tables = [_keys_of("", Config)]
    tables += [_keys_of("members[]", MemberSpec), _keys_of("members[].model", Tfidf)]
    tables += [_keys_of(name, section) for name, section in _sections("", Config)]
    return "\n\n".join(tables)


def _sections(prefix: str, section: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in section.model_fields.items():
        inner = section_within(field.annotation)
        if inner is not None and inner is not MemberSpec:
            own = f"{prefix}{name}"
            yield f"{own}[]" if get_origin(field.annotation) is list else own, inner
            yield from _sections(f"{own}.", inner)


def _keys_of(name: str, section: type[BaseModel]) -> str:
    said = _comments(section)
    rows = [
        [f"`{key}`", f"`{_default(field)}`", _choices(field.annotation, said.get(key, ""))]
        for key, field in section.model_fields.items()
        if not field.description and section_within(field.annotation) is None
    ]
    first = (inspect.getdoc(section) or "").splitlines()[0]
    title = f"### {name}" if name else "### The run"
    return f"{title}\n\n{first}\n\n{_table(['key', 'default', ''], rows)}"


def _default(field: Any) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return json.dumps(value, default=lambda each: each.model_dump())


def _choices(annotation: Any, said: str) -> str:
    """What is said of a key, with its choices where the type has them."""
    literals = [each for each in (annotation, *get_args(annotation)) if get_origin(each) is Literal]
    choices = ", ".join(f"`{value}`" for each in literals for value in get_args(each))
    return "; ".join(filter(None, (choices, said)))


def _comments(section: type[BaseModel]) -> dict[str, str]:
    """What the comments beside and above each field of a section say, with those inherited."""
    found: dict[str, str] = {}
    for each in reversed(section.__mro__):
        if issubclass(each, BaseModel) and each.__module__.startswith("poolblend."):
            with_source = inspect.getsourcefile(each) is not None
            found |= _comments_in(inspect.getsource(each)) if with_source else {}
    return found


def _comments_in(source: str) -> dict[str, str]:
    source = textwrap.dedent(source)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t for t in tokens if t.type == tokenize.COMMENT}
    (made,) = ast.parse(source).body
    found = {}
    for node in made.body if isinstance(made, ast.ClassDef) else []:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first = node.lineno
            while first - 1 in comments and comments[first - 1].line.lstrip().startswith("#"):
                first -= 1
            lines = [comments[n].string for n in range(first, node.end_lineno + 1) if n in comments]
            said = " ".join(line.lstrip("# ") for line in lines if "type: ignore" not in line)
            found[node.target.id] = said.replace("|", "\\|")
    return found


def _table(heads: list[str], rows: list[list[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def filled(text: str) -> str:
    """A document with the tables between its markers made anew."""
    blocks = {
        "keys": keys,
        "presets": presets,
        "poolers": lambda: names("pooler"),
        "recipes": recipes,
        "others": lambda: "\n\n".join(map(names, OTHERS)),
    }
    for name, make in blocks.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(pattern, lambda m, make=make: f"{m[1]}\n{make()}\n\n{m[2]}", text, flags=re.S)
    return text


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
