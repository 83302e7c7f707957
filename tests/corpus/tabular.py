"""What a case of the corpus is: a competition of three files, one of them damaged or odd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from poolblend.competition.tables import Tables

GOOD = {
    "train.csv": "id,text,target\n1,a fire,1\n2,calm,0\n3,rain,1\n4,sun,0\n",
    "test.csv": "id,text\n11,one\n12,two\n",
    "sample.csv": "id,target\n11,0\n12,0\n",
}

Content = str | bytes
Damage = Callable[[Path], object]
Check = Callable[[Tables], bool]
Expected = str | Check  # a pattern of the one line that refuses it, or a check of what is read


@dataclass(frozen=True)
class Case:
    """`damage` changes the folder of good files, which is then read for a task of `kind`."""

    name: str
    damage: Damage
    expected: Expected
    kind: str = "binary"
    train: str = "train.csv"

    @property
    def refused(self) -> bool:
        return isinstance(self.expected, str)

    def write(self, folder: Path) -> Path:
        """The files of the case, in a new folder."""
        folder.mkdir()
        for name, content in GOOD.items():
            (folder / name).write_text(content, encoding="utf-8")
        self.damage(folder)
        return folder


def files(**contents: Content) -> Damage:
    """Replaces files: `train`, `test` or `sample`."""

    def damage(folder: Path) -> None:
        for name, content in contents.items():
            data = content.encode() if isinstance(content, str) else content
            (folder / f"{name}.csv").write_bytes(data)

    return damage


def cases(group: str, file: str, contents: dict[str, tuple[Content, Expected]]) -> list[Case]:
    """Cases that replace one file."""
    return [
        Case(f"{group}: {name}", files(**{file: content}), expected)
        for name, (content, expected) in contents.items()
    ]


def texts(*wanted: str) -> Check:
    return lambda tables: tables.train["text"].tolist() == list(wanted)


def ids(*wanted: str) -> Check:
    return lambda tables: tables.train["id"].tolist() == list(wanted)


def targets(*wanted: object) -> Check:
    def same(tables: Tables) -> bool:
        found = tables.train["target"].tolist()
        return [(type(v), v) for v in found] == [(type(v), v) for v in wanted]

    return same


ROWS = ids("1", "2", "3", "4")
