"""Write the README's tables of all that a config can name.

  python docs/tables.py            (or: make docs)

A test fails while the README differs from what this would write.
"""

import inspect
import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
sys.path.insert(0, str(ROOT / "src"))

from poolblend.competition.metrics import METRICS
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


def table(kind: str) -> str:
    """A Markdown table of a family's names and one-line descriptions."""
    heads, rows = [kind, ""], [[f"`{name}`", line] for name, line in declared(kind).items()]
    if kind in EXTRAS:
        title, extra = EXTRAS[kind]
        heads.append(title)
        for row, name in zip(rows, declared(kind), strict=True):
            row.append(extra(name))
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def recipes() -> str:
    """A Markdown table of the recipes' options, the keys of `train:` that have a description."""
    rows = [
        f"| `{name}` | `{json.dumps(field.default)}` | {field.description} |"
        for name, field in Train.model_fields.items()
        if field.description
    ]
    return "\n".join(["| key of `train:` | default | |", "| --- | --- | --- |", *rows])


def filled(text: str) -> str:
    """The README with the tables between its markers made anew."""
    blocks = {
        "poolers": table("pooler"),
        "recipes": recipes(),
        "others": "\n\n".join(map(table, OTHERS)),
    }
    for name, block in blocks.items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(
            pattern, lambda m, block=block: f"{m[1]}\n{block}\n\n{m[2]}", text, flags=re.S
        )
    return text


if __name__ == "__main__":
    README.write_text(filled(README.read_text(encoding="utf-8")), encoding="utf-8")
