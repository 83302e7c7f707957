"""The board as text for the terminal, and as JSON.

`member_table`, `blend_table` and `notes` are also what the HTML page prints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict

from poolblend.printing import WIDTH, aligned, wrapped
from poolblend.report.board_rows import ROWS, Board, MemberRow, Value

MEGABYTE = 1e6
ON_FRONTIER = "*"
INDENT = "  "  # of a row whose name stands on a line of its own


def to_text(board: Board) -> str:
    """Lines of at most 100 columns."""
    direction = "higher" if board.better == "max" else "lower"
    lines = wrapped(
        f"run {board.run}: {board.metric} ({direction} is better), {board.n_folds} folds"
    )
    if board.members:
        lines += ["", *_fitted(member_table(board))]
    if board.blends:
        lines += ["", *aligned(blend_table(board), right=(1, 2))]
    for note in notes(board):
        lines += ["", *wrapped(note, hanging="")]
    return "\n".join(lines)


def to_json(board: Board) -> str:
    """All values, as they were computed; null for what is unknown."""
    content = asdict(board) | {
        "members": [asdict(row) | _named(row) for row in board.members],
        "rows_per_predict_seconds": ROWS,
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _named(row: MemberRow) -> dict[str, dict[str, float | None] | None]:
    """The row's values with intervals, which would else be lists."""
    without = row.loss_without
    return {
        "score": row.score._asdict(),
        "loss_without": None if without is None else without._asdict(),
    }


def member_table(board: Board) -> list[list[str]]:
    """Headings and a row of cells for each member; columns that would be empty are left out."""
    cells = {"member": [row.member for row in board.members]}
    cells |= {
        "OOF": [_score(row.score.value) for row in board.members],
        "95 % interval": [_interval(row.score) for row in board.members],
        "sd": [_score(row.fold_sd) for row in board.members],
        "train": [_rounded(row.train_seconds) for row in board.members],
        "predict": [_predicting(row) for row in board.members],
        "refit": [_short(row.refit_seconds) for row in board.members],
        "MB": [_short(_megabytes(row.bytes)) for row in board.members],
        "weight": ["" if row.weight is None else f"{row.weight:.3f}" for row in board.members],
        "without": [_loss(row.loss_without) for row in board.members],
    }
    kept = {head: column for head, column in cells.items() if any(column)}
    return [list(kept), *map(list, zip(*kept.values(), strict=True))]


def blend_table(board: Board) -> list[list[str]]:
    """Headings and a row of cells for each blend."""
    rows = [
        [row.blender, _score(row.in_sample), _score(row.honest), "<- used" if row.used else ""]
        for row in board.blends
    ]
    return [["blend", "in-sample", "honest", ""], *rows]


def notes(board: Board) -> Iterator[str]:
    """What the numbers mean, the blend's sentence, and why members are missing."""
    if board.sentence:
        yield board.sentence
    if board.measured_on:
        yield " ".join(_about_costs(board))
    if any(row.frontier for row in board.members):
        yield (
            f"{ON_FRONTIER} on the frontier of score against seconds to predict: no other timed "
            "member is both as good and as quick."
        )
    if any(row.outside for row in board.members):
        yield "Members of other tools have no seconds and no size: only their predictions are here."
    if board.blends:
        yield (
            "without: what the blend's honest score loses without the member; ? where the 95 % "
            "interval contains 0."
        )
    names: dict[str, list[str]] = {}
    for name, reason in board.missing.items():
        names.setdefault(reason, []).append(name)
    for reason, some in names.items():
        yield f"{', '.join(some)}: {reason}"


def _about_costs(board: Board) -> Iterator[str]:
    places = "; ".join(board.measured_on)
    elsewhere = ": not this machine with its device" if board.elsewhere else ""
    yield (
        f"predict: seconds for {ROWS:,} rows by the models of all folds, timed in training "
        f"({places}{elsewhere}), without loading models and reading tokens."
    )
    if any(row.refit_seconds is not None for row in board.members):
        yield (
            "refit: the same by the model of all rows (infer.py --refit), as the folds' models "
            "tell; it has no score of its own, since it has seen every row."
        )
    shared = max((row.shared_seconds or 0.0 for row in board.members), default=0.0)
    if shared:
        yield (
            f"Up to {_short(shared)} s of a member's are for frozen layers, computed once for all "
            "members that share them."
        )
    untimed = [row for row in board.members if not row.outside and row.predict_seconds is None]
    if untimed:
        yield f"Not timed: {', '.join(row.member for row in untimed)}; train them again to know."
    if board.shared_bytes:
        backbones = _short(_megabytes(board.shared_bytes))
        yield f"MB: without the {backbones} MB of backbones that models share."


def _fitted(rows: list[list[str]]) -> list[str]:
    """The table; where it would be too wide, each name on a line of its own above its numbers."""
    right = range(1, len(rows[0]))
    lines = aligned(rows, right)
    if max(map(len, lines)) <= WIDTH:
        return lines
    headings, *members = rows
    numbers = aligned([[INDENT, *row[1:]] for row in rows], right)
    lines = [f"{headings[0]:<{len(INDENT)}}{numbers[0][len(headings[0]) :]}"]
    for row, line in zip(members, numbers[1:], strict=True):
        lines += [row[0], line]
    return lines


def _score(value: float | None) -> str:
    return "" if value is None else f"{value + 0.0:.4f}"


def _interval(score: Value) -> str:
    if score.low is None or score.high is None:
        return ""
    return f"{_score(score.low)}..{_score(score.high)}"


def _loss(loss: Value | None) -> str:
    if loss is None or loss.value is None:
        return ""
    unclear = loss.low is None or loss.high is None or loss.low <= 0 <= loss.high
    return f"{loss.value + 0.0:+.4f}{'?' if unclear else ' '}"


def _predicting(row: MemberRow) -> str:
    if row.predict_seconds is None:
        return ""
    return f"{_short(row.predict_seconds)}{ON_FRONTIER if row.frontier else ' '}"


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _megabytes(n_bytes: int | None) -> float | None:
    return None if n_bytes is None else n_bytes / MEGABYTE


def _short(value: float | None) -> str:
    """Three figures, at most three decimals."""
    if value is None:
        return ""
    places = 3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{places}f}"
