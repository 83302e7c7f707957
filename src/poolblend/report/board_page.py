"""The board as one HTML page, with a picture of score against seconds to predict."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from poolblend.report.board_rows import ROWS, Board
from poolblend.report.board_text import blend_table, member_table, notes
from poolblend.report.packages import require_packages
from poolblend.report.page import page


def to_page(board: Board, made: str) -> str:
    """The page; `made` is the line at its end. Raises UserError where matplotlib is missing."""
    require_packages("a picture", ["matplotlib"])
    parts = [f"<h1>{escape(f'The members of {board.run}')}</h1>"]
    parts += [_table(member_table(board))] if board.members else []
    parts += [_picture(board)]
    parts += [_table(blend_table(board))] if board.blends else []
    parts += [f"<p>{escape(note)}</p>" for note in notes(board)]
    return page(f"The members of {board.run}", "\n".join(parts), made)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = [_row("th", head), *(_row("td", row) for row in body)]
    return f'<div class="output_html"><table>\n{chr(10).join(lines)}\n</table></div>'


def _row(tag: str, cells: Sequence[str]) -> str:
    first, *others = (escape(cell) for cell in cells)
    left = f'<{tag} style="text-align: left">{first}</{tag}>'
    return f"<tr>{left}{''.join(f'<{tag}>{cell}</{tag}>' for cell in others)}</tr>"


def _picture(board: Board) -> str:
    """Score against seconds of the members that have both, as SVG; or why there is none."""
    from poolblend.report import plots

    known = [
        row
        for row in board.members
        if row.score.value is not None and row.predict_seconds is not None
    ]
    title = "Score against seconds to predict"
    if not known:
        return f"<p>{escape(f'{title}: no member has both.')}</p>"
    figure = plots.score_against_seconds(
        [row.member for row in known],
        np.array([[row.score.value, row.score.low, row.score.high] for row in known], float).T,
        np.array([row.predict_seconds for row in known]),
        np.array([row.frontier for row in known]),
        board.metric,
        board.better,
        title=title,
        unit=f"seconds for {ROWS:,} rows",
    )
    return plots.to_svg(figure)
