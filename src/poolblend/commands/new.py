"""New: look at a competition's folder, and draft its config.

  poolblend new --from input/mine                        writes configs/mine.yaml
  poolblend new --from ~/data/essays --to essays.yaml
  poolblend new --from input/mine --target score --text prompt,essay

It tells the tables apart, and finds ids, target, texts, task, further tables to join and rows that
belong together. What it is sure of, what it guessed and what to check is printed, and stands as
comments in the YAML. An existing file is not overwritten.
"""

from collections.abc import Sequence

from poolblend import pipeline
from poolblend.commands import command_line


def main(arguments: Sequence[str]) -> None:
    """Draft a config with these arguments, and print what was found."""
    parser = command_line.parser("new", __doc__, of_config=False)
    parser.add_argument(
        "--from",
        dest="folder",
        metavar="FOLDER",
        required=True,
        help="the competition's folder: train, test and sample submission as CSV or parquet",
    )
    parser.add_argument(
        "--to", metavar="FILE", help="the config to write (default: configs/<folder's name>.yaml)"
    )
    for table in ("train", "test", "sample"):
        parser.add_argument(f"--{table}", metavar="NAME", help="this table's file in the folder")
    parser.add_argument("--id", metavar="COLUMN", help="the ids' column; null: train has none")
    for columns in ("target", "text"):
        parser.add_argument(f"--{columns}", metavar="COLUMNS", help="a column, or a comma list")
    args = command_line.parse(parser, arguments)
    given = {name: getattr(args, name) for name in ("train", "test", "sample", "id")}
    lists = {name: getattr(args, name) for name in ("target", "text")}
    given |= {name: text.split(",") if text else None for name, text in lists.items()}
    print(command_line.as_typed(pipeline.new(args.folder, args.to, **given)))
