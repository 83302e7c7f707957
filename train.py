"""Train fold models: one transformer per pooling type and fold, with out-of-fold predictions.

  python train.py                                        the demo competition, everything
  python train.py --pooler max --fold 0                  one fold model
  python train.py --config configs/disaster-tweets.yaml --pooler mean,attention --fold all
  python train.py --config configs/trec.yaml --set train.epochs=3 --set data.dir=~/data/trec

Finished folds are skipped, so that the same command continues after an interruption. A fold whose
settings or data changed is named and left alone, unless --overwrite says to train it again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from poolblend import config, pipeline


def main() -> None:
    parser = pipeline.parser(__doc__, lists="pooler")
    parser.add_argument(
        "--pooler",
        default="all",
        metavar="NAMES",
        help="a name, a comma list, or all: the config's",
    )
    parser.add_argument(
        "--fold", default="all", metavar="FOLDS", help="a number, a comma list, or all"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="train again what was trained from other inputs"
    )
    args = pipeline.parse(parser)
    settings = config.load(args.config, args.set, seed=args.seed)
    pipeline.train(settings, poolers=args.pooler, folds=args.fold, overwrite=args.overwrite)


if __name__ == "__main__":
    pipeline.run(main)
