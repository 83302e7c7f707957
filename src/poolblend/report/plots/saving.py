"""Figures as files: a PNG to paste, an SVG to print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from poolblend.store.files import no_half_files

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PNG_DPI = 200
# Without them an SVG holds the hour and random ids, and differs from run to run.
SVG_STYLE: dict[Any, Any] = {"svg.hashsalt": "poolblend", "svg.fonttype": "path"}


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write `<stem>.png` and `<stem>.svg` and return their paths.

    The same figure gives the same bytes under one version of matplotlib. Missing folders are made;
    raises UserError where a file cannot be written, and leaves no half file.
    """
    from matplotlib import rc_context

    from poolblend.report.plots.style import theme

    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
    with theme(), rc_context(SVG_STYLE):
        for path in paths:
            kind = path.suffix[1:]
            with no_half_files(path) as temporary:
                figure.savefig(
                    temporary,
                    format=kind,
                    dpi=PNG_DPI if kind == "png" else "figure",
                    metadata={"Date": None} if kind == "svg" else {},
                )
    return paths
