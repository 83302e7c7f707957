"""What all pictures share: colours and fonts, title and legend, names and numbers as text, files.

Colours are told apart by the colour-blind too (Okabe and Ito, "Color universal design", 2008).
"""

from __future__ import annotations

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
FONT = "DejaVu Sans"  # matplotlib brings it along
LONGEST_NAME = 44
LETTER = 0.085  # inches that a letter takes, or a little less
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
    # Without these an SVG holds random ids, and differs from run to run.
    "svg.hashsalt": "poolblend",
    "svg.fonttype": "path",
}


@contextmanager
def theme() -> Iterator[None]:
    """The style of all pictures, whatever the caller's own is; `@theme()` draws a figure in it."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(THEME)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this many inches, laid out so that no label leaves it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def finish(figure: Figure, title: str, note: str = "") -> Figure:
    """The figure with its title on top, and below it the legend under a line on how to read it."""
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
    """A picture that says why there is nothing to see."""
    figure = new_figure(6, 1.4)
    figure.add_subplot().set_axis_off()  # IPython shows nothing of a figure without axes
    return finish(figure, title, reason)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` and `<stem>.svg` and return their paths.

    The same figure gives the same bytes under one version of matplotlib. Raises UserError where a
    file cannot be written, and leaves no half file.
    """
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    with theme():
        for path in paths:
            kind = path.suffix[1:]
            metadata = {"Date": None} if kind == "svg" else {}
            with no_half_files(path) as temporary:
                figure.savefig(temporary, format=kind, dpi=PNG_DPI, metadata=metadata)
    return paths


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.wrap(plain(text), width))


def plain(text: str) -> str:
    """The text on one line; what the font cannot draw becomes a box instead of a warning."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont(FONT))
    return "".join(
        char if font.get_char_index(ord(char)) else "□" for char in " ".join(str(text).split())
    )


def labels(names: Sequence[str]) -> list[str]:
    """Names to be drawn: long ones lose their middle, unless two would then look alike."""
    full = [plain(name) for name in names]
    half = LONGEST_NAME // 2
    short = [
        name if len(name) <= LONGEST_NAME else f"{name[:half]}…{name[-half:]}" for name in full
    ]
    return short if len(set(short)) == len(set(full)) else full


def breadth(texts: Sequence[str]) -> float:
    """About the widest text's width in inches."""
    return LETTER * max(map(len, texts), default=0)


def legend_label(text: str) -> str:
    """The text as a legend takes it: one that starts with an underscore would be left out."""
    text = plain(text)
    return f" {text}" if text.startswith("_") else text


def series(number: int) -> dict[str, Any]:
    """The colour and the marker of a chart's n-th series; 36 are told apart."""
    return {"color": SERIES[number % 6], "marker": MARKERS[(number + number // 6) % 6]}


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


def axis_label(metric: str, better: str) -> str:
    """The label of an axis of scores; it says which direction is better."""
    direction = "higher is better →" if better == "max" else "← lower is better"
    return f"{plain(metric)}  ({direction})"
