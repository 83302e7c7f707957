"""Templates: "{keyword} [SEP] {text}" names columns, and is filled with each row's cells.

Texts can be made so, and a target of several columns: "{category}:{kind}".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from poolblend.errors import UserError, quoted, unknown

if TYPE_CHECKING:
    import pandas as pd

# A doubled brace is one brace in the text. A field may not hold a format.
PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
NO_COLUMN = re.compile(r"[.!:\[\]]")


def is_template(text: Sequence[str]) -> bool:
    """Whether `data.text` or `data.target` is a template: a single entry with an opening brace."""
    return len(text) == 1 and "{" in text[0]


def text_columns(text: Sequence[str]) -> list[str]:
    """The columns that `text` names: a template's in order of first use, else `text` itself.

    Raises UserError for a template that is malformed or names no column.
    """
    if not is_template(text):
        return list(text)
    _, names = _parse(text[0])
    if not names:
        raise UserError(
            f"template {quoted(text[0])} names no column; write one in braces, such as {{text}}"
        )
    return list(dict.fromkeys(names))


def without_braces(template: str) -> str:
    """The template with its columns' names in place of their fields: `category:kind`."""
    return fill(template, {name: [name] for name in text_columns([template])})[0]


def target_table(table: pd.DataFrame, target: Sequence[str]) -> pd.DataFrame:
    """The target columns of `table`; where `target` is a template, the one column that it fills."""
    import pandas as pd

    columns = text_columns(target)
    if not is_template(target):
        return table[columns]
    cells = fill(target[0], {name: table[name].tolist() for name in columns})
    return pd.DataFrame({without_braces(target[0]): cells}, index=table.index)


def fill(template: str, columns: Mapping[str, Sequence[str]]) -> list[str]:
    """One text per row of `columns`, its cells put as they are where the template names them.

    Raises UserError for a template that is malformed or names a column that is not there.
    """
    literals, names = _parse(template)
    for name in names:
        if name not in columns:
            raise unknown("column", name, columns, f"in template {quoted(template)}")
    if not names:
        return literals * max(map(len, columns.values()), default=0)
    rows = zip(*(columns[name] for name in names), strict=True)
    first, *rest = literals
    return [first + "".join(map("".join, zip(row, rest, strict=True))) for row in rows]


def _parse(template: str) -> tuple[list[str], list[str]]:
    """The template's own text before, between and after its fields, and the fields' names."""
    literals, names, end = [""], list[str](), 0
    for piece in PIECE.finditer(template):
        literals[-1] += template[end : piece.start()]
        end = piece.end()
        name = piece[1]
        if name is None and len(piece[0]) == 2:
            literals[-1] += piece[0][0]
        elif not name or NO_COLUMN.search(name):
            raise UserError(
                f"template {quoted(template)} is malformed at {quoted(template[piece.start() :])}: "
                "expected a column's name alone between two braces, and {{ or }} for a brace itself"
            )
        else:
            names.append(name)
            literals.append("")
    literals[-1] += template[end:]
    return literals, names
