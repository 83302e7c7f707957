"""The common parts of pictures: colours, fonts, title, legend, text of names and numbers, files.

The colours suit colour-blind readers (Okabe and Ito, "Color universal design", 2008).
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poolblend.store.files import no_half_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, FAINT, PALE = "#1f2933", "#66727f", "#b4bec8", "#e9edf0"
BLUE, ORANGE, AMBER = "#0072b2", "#d55e00", "#e69f00"
SERIES = (BLUE, ORANGE, "#009e73", "#a5548a", "#56b4e9", AMBER)
MARKERS = "osD^vP"
FONT = "DejaVu Sans"  # part of matplotlib
LONGEST_NAME = 44
LETTER = 0.085  # about the width of a letter in inches
PNG_DPI = 200
THEME: dict[Any, Any] = {
    "text.parse_math": False,  # a slice may be called "$5 to $10"
    "text.color": INK,
    "font.family": [FONT],
    "font.size": 9,
    "figure.dpi": 110,
    "figure.titlesize": 11.5,
    "figure.constrained_layout.w_pad": 0.1,
    "figure.constrained_layout.h_pad": 0.1,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-6, 7),
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": PALE,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "legend.title_fontsize": 8,
    # Without these, an SVG has random ids and differs between runs.
    "svg.hashsalt": "poolblend",
    "svg.fonttype": "path",
}


@contextmanager
def theme() -> Iterator[None]:
    """The style of all pictures, as a context or decorator; the caller's style is kept."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(THEME)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches; its layout keeps all labels inside."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def finish(figure: Figure, title: str, note: str = "") -> Figure:
    """The figure with its title above, and a note and the legend below."""
    width = int(figure.get_figwidth() / LETTER)
    figure.suptitle(_wrapped(title, int(0.85 * width)), x=0.01, ha="left")
    entries = [axes.get_legend_handles_labels() for axes in figure.axes]
    handles = [handle for drawn, _ in entries for handle in drawn]
    names = [name for _, drawn in entries for name in drawn]
    if handles or note:
        longest = max(map(len, names), default=0)
        figure.legend(
            handles,
            names,
            title=_wrapped(note, width),
            loc="outside lower left",
            alignment="left",
            ncols=max(1, min(len(names), width // (longest + 6))),
        )
    return figure


@theme()
def nothing(title: str, reason: str) -> Figure:
    """A picture with the reason why there is nothing to show."""
    figure = new_figure(6, 1.4)
    figure.add_subplot().set_axis_off()  # IPython shows nothing of a figure without axes
    return finish(figure, title, reason)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` and `<stem>.svg` and return their paths.

    With one version of matplotlib, the same figure gives the same bytes. Raises UserError if a file
    cannot be written.
    """
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    with theme():
        for path in paths:
            kind = path.suffix[1:]
            metadata = {"Date": None} if kind == "svg" else {}
            with no_half_files(path) as temporary:
                figure.savefig(temporary, format=kind, dpi=PNG_DPI, metadata=metadata)
    return paths


def to_svg(figure: Figure) -> str:
    """The figure as an SVG element, to stand within a page."""
    text = io.StringIO()
    with theme():
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return smaller(text.getvalue()[text.getvalue().index("<svg") :])


def smaller(svg: str) -> str:
    """The same picture without comments, indentation and names of groups, to 0.01 points."""
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", re.sub(r"\s*\n\s*", "\n", svg))
    return re.sub(r"(\d\d\.\d\d)\d+", r"\1", svg)


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(plain(text), width))


def plain(text: str) -> str:
    """The text on one line; characters that the font lacks become boxes."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(FONT))
    return "".join(
        char if font.get_char_index(ord(char)) else "□" for char in " ".join(str(text).split())
    )


def labels(names: Sequence[str]) -> list[str]:
    """Names for a picture: the middle of long names is removed, if they remain different."""
    full = [plain(name) for name in names]
    half = LONGEST_NAME // 2
    short = [
        name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}" for name in full
    ]
    return short if len(set(short)) == len(set(full)) else full


def breadth(texts: Sequence[str]) -> float:
    """About the width of the widest text in inches."""
    return LETTER * max(map(len, texts), default=0)


def legend_label(text: str) -> str:
    """The text for a legend, which would omit a text that starts with an underscore."""
    text = plain(text)
    return f" {text}" if text.startswith("_") else text


def series(number: int) -> dict[str, Any]:
    """The colour and the marker of a chart's n-th series; 36 are different."""
    return {"color": SERIES[number % 6], "marker": MARKERS[(number + number // 6) % 6]}


def span(*values: Any) -> tuple[float, float]:
    """The least and greatest finite value; a small range around equal values."""
    flat = np.concatenate([np.ravel(np.asarray(v, dtype=float)) for v in values])
    finite = flat[np.isfinite(flat)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    least = 1e-9 + 1e-6 * max(abs(low), abs(high))
    return (low, high) if high - low > least else (low - 1e4 * least, high + 1e4 * least)


def decimals(*values: Any) -> int:
    """The number of decimals (at most six) for about a hundred steps in the values' range."""
    low, high = span(*values)
    return int(np.clip(2 - np.floor(np.log10(high - low)), 0, 6))


def number(value: float, places: int, signed: bool = False) -> str:
    """A value as text, or "undefined"; with a real minus sign, and never −0."""
    if not np.isfinite(value):
        return "undefined"
    value = round(float(value), places) + 0.0
    return f"{value:{'+' if signed else ''}.{places}f}".replace("-", "−")


def axis_label(metric: str, better: str) -> str:
    """The label of an axis of scores, with the better direction."""
    direction = "higher is better →" if better == "max" else "← lower is better"
    return f"{plain(metric)}  ({direction})"
