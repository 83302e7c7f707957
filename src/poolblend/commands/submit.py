"""Submit: hand a bundle, or a submission's CSV, over to Kaggle's own command-line tool.

  poolblend submit bundle --dry-run                      the commands, and what is missing
  poolblend submit bundle                                the next steps of a code competition
  poolblend submit submissions/mine/submission.csv --competition spooky-texts

For a bundle, the dataset is uploaded, the notebook pushed, and the version that has run submitted:
the same command goes on as far as Kaggle is ready (docs/kaggle.md). Nothing else is sent, and your
API key is read by that tool alone.
"""

from collections.abc import Sequence

from poolblend import pipeline
from poolblend.commands import command_line


def main(arguments: Sequence[str]) -> None:
    """Hand over with these arguments."""
    parser = command_line.parser("submit", __doc__, of_config=False)
    parser.add_argument("what", metavar="BUNDLE_OR_CSV", help="a bundle's folder, or a CSV")
    parser.add_argument("--owner", metavar="NAME", help="your name in Kaggle's addresses")
    parser.add_argument(
        "--competition", metavar="SLUG", help="the competition's name in Kaggle's addresses"
    )
    parser.add_argument("--message", metavar="TEXT", help="the description of the submission")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the commands and what is missing for them; nothing is sent",
    )
    args = command_line.parse(parser, arguments)
    pipeline.submit(
        args.what,
        owner=args.owner,
        competition=args.competition,
        message=args.message,
        dry_run=args.dry_run,
    )
