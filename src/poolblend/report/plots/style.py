"""What all pictures share: colours, type, the canvas, and the heading above it.

Colours are told apart by the colour-blind too (Okabe and Ito, "Color universal design", 2008).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import LayoutEngine

INK, MUTED, FAINT, PALE = "#1f2933", "#66727f", "#b4bec8", "#e9edf0"
BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#a5548a",
    "#56b4e9",
    "#e69f00",
)
ROUND_STEPS = (1, 2, 2.5, 5, 10)
FONT = "DejaVu Sans"  # matplotlib brings it along
SIZE, SMALL, LARGE = 9.0, 8.0, 11.5
DPI = 110
EDGE = 0.12
LONGEST_NAME = 44
THEME: dict[Any, Any] = {
    "text.usetex": False,
    "text.parse_math": False,  # a slice may be called "$5 to $10"
    "text.color": INK,
    "font.family": [FONT],
    "font.size": SIZE,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.labelsize": SIZE,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-6, 7),
    "legend.frameon": False,
    "legend.fontsize": SMALL,
    "legend.handlelength": 1.6,
    "legend.columnspacing": 1.6,
    "lines.solid_capstyle": "round",
}


@contextmanager
def theme() -> Iterator[None]:
    """The pictures' common style, whatever the caller's own is; `@theme()` draws a figure in it."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(THEME)
        yield


def canvas(width: float, height: float) -> Figure:
    """An empty figure of this many inches, laid out so that no label leaves it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout=_layout(1))


def _layout(share: float) -> LayoutEngine:
    """No label leaves the lower `share` of the figure, or runs into its neighbours."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return ConstrainedLayoutEngine(
        rect=(0, 0, 1, share), w_pad=EDGE, h_pad=EDGE, wspace=0.03, hspace=0.03
    )


def dress(axes: Axes, grid: Literal["x", "y", "both"] = "x") -> None:
    """Ticks and grid lines; ticks are made late, when the theme no longer holds."""
    axes.tick_params(labelsize=SIZE, labelcolor=INK, color=FAINT, labelfontfamily=FONT)
    axes.grid(axis=grid, color=PALE, linewidth=0.9)


def head(figure: Figure, title: str, note: str = "", marks: Sequence[Any] = ()) -> Figure:
    """The figure with a title, a line on how to read it, and a legend, in a band above the rest."""
    width, height = figure.get_size_inches()
    room = width - 2 * EDGE
    lines = [(line, LARGE, INK) for line in wrapped(title, LARGE, room)]
    lines += [(line, SMALL, MUTED) for line in wrapped(note, SMALL, room)]
    columns = _legend_columns([mark.get_label() for mark in marks], room)
    legend_rows = -(-len(marks) // columns) if marks else 0
    band = EDGE + sum(1.5 * size / 72 for _, size, _ in lines) + 0.18 * legend_rows + 0.08
    total = height + band
    figure.set_figheight(total)
    figure.set_layout_engine(_layout(height / total))
    y = total - EDGE
    for line, size, colour in lines:
        figure.text(EDGE / width, y / total, line, size=size, color=colour, va="top")
        y -= 1.5 * size / 72
    if marks:
        figure.legend(
            handles=list(marks),
            ncols=columns,
            loc="upper left",
            bbox_to_anchor=(EDGE / width, (y - 0.03) / total),
            borderpad=0,
            borderaxespad=0,
        )
    return figure


def nothing(title: str, reason: str) -> Figure:
    """A picture that says why there is nothing to see."""
    return head(canvas(6, 0.1), title, reason)


def wrapped(text: str, size: float, room: float) -> list[str]:
    """The text in lines of at most `room` inches; a very long word loses its middle."""
    lines: list[str] = []
    for whole in plain(text).split():
        wide = breadth([whole], size)
        word = _shortened(whole, int(len(whole) * room / wide) - 2) if wide > room else whole
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and breadth([longer], size) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _legend_columns(labels: Sequence[str], room: float) -> int:
    """As many as fit beside each other, each as wide as its widest."""
    for columns in range(len(labels), 1, -1):
        widths = [breadth(labels[c::columns], SMALL) + 0.5 for c in range(columns)]
        if sum(widths) <= room:
            return columns
    return 1


def breadth(texts: Sequence[str], size: float = SIZE) -> float:
    """The widest text's width in inches."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    font = FontProperties(family=FONT, size=size)
    widths = [text_to_path.get_text_width_height_descent(t, font, False)[0] for t in texts if t]
    return max(widths, default=0.0) / 72


def plain(text: str) -> str:
    """The text on one line; what the font cannot draw becomes a box instead of a warning."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(FONT))
    return "".join(
        char if font.get_char_index(ord(char)) else "□" for char in " ".join(str(text).split())
    )


def labels(names: Sequence[str]) -> list[str]:
    """Names to be drawn: very long ones lose their middle, unless two would then look alike."""
    full = [plain(name) for name in names]
    short = [_shortened(name) for name in full]
    return short if len(set(short)) == len(set(full)) else full


def _shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A long name without its middle, cut between words where one ends near."""
    if len(name) <= longest:
        return name
    half = max(longest // 2, 2)
    near = f"{max(half - 10, 1)},{half - 1}"
    start = re.match(rf".{{{near}}}[-_. ]|.{{{half}}}", name)
    end = re.search(rf"[-_. ].{{{near}}}$", name)
    assert start
    return f"{start[0]}…{end[0] if end else name[-half:]}"


def series(number: int) -> tuple[str, str]:
    """The colour and the marker of a chart's n-th series; 36 are told apart."""
    colours, markers = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER), "osD^vP"
    return colours[number % 6], markers[(number + number // 6) % 6]


def span(*values: Any) -> tuple[float, float]:
    """The least and greatest finite value, a little apart even where all are equal."""
    flat = np.concatenate([np.ravel(np.asarray(v, dtype=float)) for v in values])
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    least = 1e-9 + 1e-6 * max(abs(low), abs(high))
    return (low, high) if high - low > least else (low - 1e4 * least, high + 1e4 * least)


def decimals(*values: Any) -> int:
    """How many decimals tell about a hundred steps of the values' range apart, at most six."""
    low, high = span(*values)
    return int(np.clip(2 - np.floor(np.log10(high - low)), 0, 6))


def number(value: float, places: int, signed: bool = False) -> str:
    """A value as text, "undefined" where there is none; a true minus sign, none before a zero."""
    if not np.isfinite(value):
        return "undefined"
    value = round(float(value), places) + 0.0
    return f"{value:{'+' if signed else ''}.{places}f}".replace("-", "−")


def towards(metric: str, better: str) -> str:
    """An axis label that says which way is better."""
    return (
        f"{metric}  (higher is better →)" if better == "max" else f"{metric}  (← lower is better)"
    )
