"""Blend: fit weights over the members' out-of-fold predictions, and score the blend honestly.

  python blend.py                                        the members of the demo competition
  python blend.py --config configs/disaster-tweets.yaml
  python blend.py --report                               with pictures, in one HTML file
  python blend.py --members minilm-max-s42,minilm-mean-s42
  python blend.py --config configs/mine.yaml --members-from ~/oofs       any tool's predictions
  python blend.py --set blend.fitter=equal --set blend.trials=500

Each blender has two scores: in-sample, and honest, on rows that were not used for its fit.
notebooks/blend.ipynb does the same with pictures; --report writes it as one HTML file.
"""

from collections.abc import Sequence

from poolblend import config, pipeline
from poolblend.commands import command_line


def main(arguments: Sequence[str]) -> None:
    """Blend with these arguments, and print the blend and its members."""
    parser = command_line.parser("blend", __doc__, lists="blender")
    parser.add_argument(
        "--members",
        metavar="NAMES",
        help="a comma list of members (default: all that were trained)",
    )
    parser.add_argument(
        "--members-from",
        metavar="DIR",
        help="also blend the OOF predictions in DIR, one CSV or parquet file per member",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="also write blend.html beside the blend card, with tables, pictures and explanations",
    )
    args = command_line.parse(parser, arguments)
    named = None if args.members is None else [name.strip() for name in args.members.split(",")]
    chosen = {"members": named, "members_from": args.members_from}
    if args.report:
        sets = [*args.set, *([] if args.seed is None else [f"seed={args.seed}"])]
        print(pipeline.write_report(args.config, sets, **chosen))
    else:
        settings = config.load(args.config, args.set, seed=args.seed)
        print(pipeline.blend(settings, **chosen))
