"""CSV files: encodings, line ends, quotes, separators, shapes, sizes, and what is no CSV at all."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import zipfile
from pathlib import Path

from tabular import GOOD, ROWS, Case, Damage, cases, files, ids, texts

TRAIN = GOOD["train.csv"]
CAFE = TRAIN.replace("calm", "café “calm”")
WIDE = ",".join(f"c{k}" for k in range(3000))
MANY_CELLS = ",".join("1" * 1_000_000)


def zipped(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, TRAIN)
    return buffer.getvalue()


def pickled(protocol: int) -> Damage:
    """A pickle that makes a folder `executed` beside itself when it is opened."""

    def damage(folder: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple:
                return os.mkdir, (str(folder / "executed"),)

        (folder / "train.csv").write_bytes(pickle.dumps(Trap(), protocol))

    return damage


ENCODINGS = cases(
    "encoding",
    "train",
    {
        "UTF-8 with a mark": (TRAIN.encode("utf-8-sig"), ROWS),
        "UTF-16": (TRAIN.encode("utf-16"), "train.csv is not UTF-8 but UTF-16: .*'CSV UTF-8'"),
        "UTF-16 LE, no mark": (TRAIN.encode("utf-16-le"), "holds a NUL byte"),
        "UTF-16 BE, no mark": (TRAIN.encode("utf-16-be"), "holds a NUL byte"),
        "Latin-1": (
            CAFE.replace("“", "").replace("”", "").encode("latin-1"),
            r"not UTF-8: byte 0xe9 at offset 31 \(line 3\), in Windows-1252 '.*café calm",
        ),
        "Windows-1252": (CAFE.encode("cp1252"), r"\(line 3\), in Windows-1252 '.*café “cal"),
        "surrogates": (b"id,text,target\n1,\xed\xa0\x80,0\n", "not UTF-8: byte 0xed at offset 17"),
        "any letters": (CAFE, texts("a fire", "café “calm”", "rain", "sun")),
    },
)

CHARACTERS = cases(
    "characters",
    "train",
    {
        "NUL in the header": (TRAIN.replace("text", "te\0xt"), "holds a NUL byte in line 1"),
        "NUL in a text": (TRAIN.replace("calm", "ca\0lm"), "holds a NUL byte in line 3"),
        "an end-of-file mark of DOS": (TRAIN + "\x1a", r"row 6 has 1 cells, .*'\\x1a'"),
        "control characters in a text": (
            TRAIN.replace("calm", "\x01\x1b[31m\x7f"),
            texts("a fire", "\x01\x1b[31m\x7f", "rain", "sun"),
        ),
    },
)

LINES = cases(
    "lines",
    "train",
    {
        "CRLF": (TRAIN.replace("\n", "\r\n"), ROWS),
        "CR": (TRAIN.replace("\n", "\r"), ROWS),
        "empty": ("", "train.csv has no rows; expected a header"),
        "blank lines only": ("\n \n\r\n\t\n", "train.csv has no rows"),
        "blank lines and gaps": ("id,text,target,more\n\n1,a,0,\n \n\n2,b,1,\n", ids("1", "2")),
        "blank lines first": ("\n\r\n  \n" + TRAIN, ROWS),
        "quoted line breaks": (
            TRAIN.replace("calm", '"ca\nlm\r\n\rand, ""more"""'),
            texts("a fire", 'ca\nlm\r\n\rand, "more"', "rain", "sun"),
        ),
        "a line break without quotes": (TRAIN.replace("calm", "ca\nlm"), "row 3 has 2 cells"),
    },
)

QUOTES = cases(
    "quotes",
    "train",
    {
        "every cell quoted": (
            '"' + TRAIN[:-1].replace(",", '","').replace("\n", '"\n"') + '"',
            ROWS,
        ),
        "open in the last row": (TRAIN + '5,"a,1\n', "quote that opens in row 6 is never closed"),
        "open in a middle row": (TRAIN.replace("calm", '"calm'), "opens in row 3 is never closed"),
        "single ones": (TRAIN.replace("calm", "'a, b'"), "row 3 has 4 cells, the header 3 "),
        "backslashes before quotes": (
            TRAIN.replace("calm", r'"a \", b"'),
            texts("a fire", 'a ", b', "rain", "sun"),
        ),
        "backslashes before quotes in a broken file": (
            TRAIN.replace("calm", r'"a \"b\", c"').replace("rain", '"d "e" f"'),
            r"has quotes after a backslash in row 3, .* row 4 has a quote out of place .*d \"e",
        ),
        "backslashes of LaTeX and Windows": (
            TRAIN.replace("calm", r'"C:\new\"').replace("rain", r'"G\""odel, \alpha\\"'),
            texts("a fire", "C:\\new\\", r"G\"odel, \alpha\\", "sun"),
        ),
    },
)

SHAPES = cases(
    "shape",
    "train",
    {
        "a row too long": (TRAIN.replace("calm", "ca,lm"), r"row 3 has 4 cells, .*'2,ca,lm,0'"),
        "a row too short": (TRAIN.replace("calm,0", "calm"), "row 3 has 2 cells, the header 3 "),
        "two columns of a name": (TRAIN.replace("text", "id"), "has two columns 'id', expected"),
        "unnamed columns": (
            ",id,,text,target\n0,1,,a,1\n1,2,,b,0\n",
            lambda t: list(t.train) == ["Unnamed: 0", "id", "Unnamed: 2", "text", "target"],
        ),
        "a header in capitals": (TRAIN.replace("text", "Text"), r"mean 'Text'\? known: Text"),
        "no header": (TRAIN.split("\n", 1)[1], "two columns '1', .* a header where there is none"),
        "semicolons": (TRAIN.replace(",", ";"), "seems to have ';' between its cells .*commas"),
        "tabs": (TRAIN.replace(",", "\t"), r"seems to have '\\t' between its cells"),
        "thousands of columns": (
            f"id,text,{WIDE},target\n" + "".join(f"{k},a,{WIDE},{k % 2}\n" for k in range(4)),
            lambda t: t.train.shape == (4, 3003) and t.train["c2999"][3] == "c2999",
        ),
        "an unknown column among thousands": (f"id,{WIDE}\n1,{WIDE}\n", r"known: .*, … \(3001\)"),
        "a million cells in a row": (TRAIN + MANY_CELLS, "row 6 has 1000000 cells, the header 3"),
        "a million cells in the header": (MANY_CELLS, "has 1000000 columns in its header"),
        "a text of 1 MB and a row too short": (
            "id,text,target\n1," + "very " * 200_000 + ",0\n2,b\n",
            "row 3 has 2 cells, the header 3 .'2,b'",
        ),
        "a text of 20 MB": (
            TRAIN.replace("calm", '"' + 'a,\n""' * 4_000_000 + '"'),
            lambda t: t.train["text"][1] == 'a,\n"' * 4_000_000,
        ),
        "a name of 1 MB": (TRAIN.replace("text", "x" * 1_000_000), "in its header, field larger"),
    },
)

OTHER_FORMATS = [
    *cases(
        "content",
        "train",
        {
            "gzip": (gzip.compress(TRAIN.encode()), "as CSV: it holds gzip data; unpack it"),
            "zip": (zipped("train.csv"), "a zip archive or an Excel workbook; unpack or save"),
            "parquet": (b"PAR1" + b"\0" * 99 + b"PAR1", "parquet data; let its name end in .parq"),
            "HTML": ("\n<!DOCTYPE html>\n<html>Sign in</html>", "a web page; download the file"),
            "JSON": ('[{"id": 1, "text": "a", "target": 0}]', "it holds JSON; save it as CSV"),
            "a Git LFS pointer": ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
            "a header like a format's mark": (
                "PAR1,BZh9,id,text,target\n1,1,1,a,1\n1,1,2,b,0\n",
                ids("1", "2"),
            ),
            "noise": (bytes(range(250, 0, -1)) * 9, "not UTF-8: byte 0xfa"),
        },
    ),
    Case("content: a pickle", pickled(5), "it holds a pickle, which is never opened"),
    Case("content: an old pickle", pickled(0), "unknown column 'id'|has no rows|cells"),
    Case(
        "content: a pickle after a header",
        files(train=TRAIN.encode() + pickle.dumps(["a"], 4)),
        "holds a NUL byte in line 6",
    ),
]

CSV = [*ENCODINGS, *CHARACTERS, *LINES, *QUOTES, *SHAPES, *OTHER_FORMATS]
