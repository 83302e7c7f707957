"""Draw the documents' pictures from a finished run: docs/figures/blend.svg and errors.svg.

  python docs/figures.py --config configs/quickstart.yaml
  python docs/figures.py --config configs/mine.yaml --set store=~/mine --to /tmp/figures

It blends the run's members again, as blend.py does: a submission of the run is then older than its
blend, until infer.py is run. The same run gives the same bytes.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from poolblend import config, pipeline
from poolblend.commands import command_line
from poolblend.report import pictures
from poolblend.report.plots.style import smaller

# The document's picture, how it is drawn, and the name that the store keeps it under.
PICTURES = {
    "blend": (pictures.blender_scores, "blends"),
    "errors": (pictures.error_correlation, "errors"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", help="the run's YAML (default: the quickstart's)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "figures", metavar="DIR")
    args = parser.parse_args()
    result = pipeline.blend(config.load(args.config, args.set))
    args.to.mkdir(parents=True, exist_ok=True)
    for name, (draw, kept) in PICTURES.items():
        draw(result)
        svg = smaller((result.figures / f"{kept}.svg").read_text(encoding="utf-8"))
        (args.to / f"{name}.svg").write_text(svg, encoding="utf-8")
        print(f"{args.to / name}.svg: {len(svg.encode()) / 1000:.0f} kB")


if __name__ == "__main__":
    command_line.run(main)
