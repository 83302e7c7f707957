"""Bundle: a finished run in one folder, for inference on a machine without a network.

  poolblend bundle --config configs/mine.yaml --to bundle
  poolblend bundle --config configs/mine.yaml --to bundle --fp16          weights of half the size
  poolblend bundle --config configs/mine.yaml --to bundle --refit         one model per member
  poolblend bundle --config configs/mine.yaml --to bundle --owner me --competition spooky-texts

The folder has a dataset (the fold models that the blend gives weight to, and the wheels that
Kaggle's notebooks lack) and a notebook that finds it and writes submission.csv (docs/kaggle.md).
"""

from collections.abc import Sequence

from poolblend import config, pipeline
from poolblend.commands import command_line


def main(arguments: Sequence[str]) -> None:
    """Write the bundle with these arguments."""
    parser = command_line.parser("bundle", __doc__)
    parser.add_argument("--to", metavar="FOLDER", required=True, help="the folder to write")
    parser.add_argument("--owner", metavar="NAME", help="your name in Kaggle's addresses")
    parser.add_argument(
        "--competition", metavar="SLUG", help="the competition's name in Kaggle's addresses"
    )
    parser.add_argument(
        "--fp16",
        action="store_true",
        help="store the encoders' weights in half precision, and report how well predictions of "
        "the out-of-fold rows agree",
    )
    parser.add_argument(
        "--refit",
        action="store_true",
        help="take one model of all rows per member (train.py --fold refit) instead of the folds'",
    )
    parser.add_argument(
        "--wheels",
        metavar="DIR",
        help="take the wheels that Kaggle lacks from DIR, rather than download them",
    )
    command_line.add_workers(parser)
    args = command_line.parse(parser, arguments)
    pipeline.bundle(
        config.load(args.config, args.set, seed=args.seed),
        args.to,
        owner=args.owner,
        competition=args.competition,
        half=args.fp16,
        refit=args.refit,
        wheels=args.wheels,
        workers=args.workers,
    )
