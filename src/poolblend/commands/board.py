"""Board: a run's members and blends in one table: scores, seconds, sizes, weights.

  poolblend board                                        the demo competition
  poolblend board --config configs/mine.yaml
  poolblend board --config configs/mine.yaml --html board.html
  poolblend board --json > board.json

It says which members are on the frontier of score against seconds to predict, what the blend loses
without each member, and why members are missing. From a clone: python -m poolblend board, with src/
on the PYTHONPATH.
"""

from collections.abc import Sequence

from poolblend import config, pipeline
from poolblend.commands import command_line


def main(arguments: Sequence[str]) -> None:
    """Print the board with these arguments."""
    parser = command_line.parser("board", __doc__)
    parser.add_argument(
        "--html", metavar="FILE", help="also write the board as one HTML page, with a picture"
    )
    parser.add_argument("--json", action="store_true", help="print all values as JSON instead")
    args = command_line.parse(parser, arguments)
    settings = config.load(args.config, args.set, seed=args.seed)
    print(pipeline.board(settings, as_json=args.json, html=args.html))
