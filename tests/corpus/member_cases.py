"""Predictions that other tools wrote, damaged in the same ways; <folder>/m.csv is whole before."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

from file_cases import becomes, sparse

WHOLE = "id,pred\n1,0.5\n2,0.25\n3,0.75\n4,0.5\n"


def holds(content: str | bytes, name: str = "m.csv") -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


# How the folder is changed, and a pattern of the refusal; none where all is read right.
MEMBERS: dict[str, tuple[Callable[[Path], object], str | None]] = {
    "whole": (holds(WHOLE), None),
    "UTF-8 with a mark": (holds(WHOLE.encode("utf-8-sig")), None),
    "CR line ends": (holds(WHOLE.replace("\n", "\r")), None),
    "blank lines": (holds(WHOLE.replace("\n", "\n\n")), None),
    "an index of pandas, twice": (
        holds(",Unnamed: 0,id,pred\n" + "".join(f"0,0,{k},.5\n" for k in "1234")),
        None,
    ),
    "a text of 1 MB beside": (
        holds("id,note,pred\n" + "".join(f"{k},{'x' * 10**6},.5\n" for k in "1234")),
        None,
    ),
    "thousands of columns beside": (
        holds(
            f"id,pred,{','.join(f'x{k}' for k in range(3000))}\n"
            + "".join(f"{k},.5{',' * 3000}\n" for k in "1234")
        ),
        None,
    ),
    "UTF-16": (holds(WHOLE.encode("utf-16")), "m.csv is not UTF-8 but UTF-16"),
    "semicolons": (holds(WHOLE.replace(",", ";")), "m.csv seems to have ';' between its cells"),
    "a row too short": (holds(WHOLE + "5\n"), "row 6 has 1 cells, the header 2"),
    "an open quote": (holds(WHOLE + '"5,0.5\n'), "quote that opens in row 6 is never closed"),
    "NUL alone": (holds(b"\0" * 99), "m.csv begins with NUL bytes; it is damaged"),
    "a NUL": (holds(WHOLE.replace("0.25", "0.\x0025")), "m.csv holds a NUL byte in line 3"),
    "a pickle": (holds(pickle.dumps([0.5])), "m.csv cannot be read as CSV: it holds a pickle"),
    "a pickle under the name of parquet": (
        lambda folder: [
            (folder / "m.csv").unlink(),
            holds(pickle.dumps([0.5]), "m.parquet")(folder),
        ],
        "m.parquet cannot be read as parquet: it holds a pickle",
    ),
    "a parquet file cut off": (
        lambda folder: [
            (folder / "m.csv").unlink(),
            holds(b"PAR1\x15\x04\x15", "m.parquet")(folder),
        ],
        "m.parquet cannot be read as parquet",
    ),
    "a pipe": (becomes(os.mkfifo, "m.csv"), "m.csv is a link that leads nowhere, or no plain"),
    "a device": (
        becomes(lambda path: path.symlink_to("/dev/zero"), "m.csv"),
        "m.csv is a link that leads nowhere, or no plain",
    ),
    "a folder": (becomes(Path.mkdir, "m.csv"), "holds no member's file"),
    "64 GB of nothing": (becomes(sparse, "m.csv"), "m.csv begins with NUL bytes"),
    "a million cells in a row": (holds(WHOLE + "1," * 10**6), "row 6 has 1000001 cells"),
    "a number of 1 MB": (holds(WHOLE.replace("0.25", "1" * 10**6)), "holds '111.*111' in column"),
    "an id of 1 MB": (
        holds(WHOLE + "9" * 10**6 + ",1\n"),
        "not among the training rows.*'999.*999'",
    ),
    "a name that leaves the folder": (holds(WHOLE, "x\\..\\y.csv"), "expected a member's name"),
    "a name that Windows reserves": (holds(WHOLE, "nul.csv"), "a name that Windows reserves"),
    "a hidden file": (holds("rubbish", ".m.csv"), None),
    "a reserved name with a line break": (holds(WHOLE, "a\nb.csv"), r"holds 'a\\nb.csv', expected"),
}
