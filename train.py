"""Train fold models: one transformer per pooling type and fold, with out-of-fold predictions.

  python train.py                                        the demo competition, everything
  python train.py --pooler max --fold 0                  one fold model
  python train.py --config configs/disaster-tweets.yaml --pooler mean,attention --fold all
  python train.py --config configs/trec.yaml --set train.epochs=3 --set data.dir=~/data/trec
  python train.py --time-limit 8h30m                     stop in time, with all that is done kept
  python train.py --list                                 what can be named; how far members are
  python train.py --dry-run                              what it would train, in about what time
  python train.py --check                                is all that was written still whole?
  python train.py --doctor                               will it run on this machine?

Finished folds are skipped and begun ones taken up at their last checkpoint: the same command
continues after any interruption, and started twice it shares the folds between the two. A fold that
is damaged, or whose settings or data changed, is named and left alone, unless --overwrite says to
train it again. A fold that fails for a reason of its own (a loss of NaN, too little memory) is
noted and the others are trained; the exit status is then 1, and the same command tries it again.
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
        "--overwrite",
        action="store_true",
        help="train again what is damaged or was trained from other inputs",
    )
    parser.add_argument(
        "--skip-failed",
        action="store_true",
        help="leave out folds that failed before, rather than try them again",
    )
    parser.add_argument(
        "--time-limit",
        metavar="TIME",
        help="stop before, such as 8h30m or 45m, and exit with status 0",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--list",
        action="store_true",
        help="instead, list poolers, recipes, metrics, fold strategies, blenders, and the members",
    )
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="instead, tell jobs, tokens and an estimate of the time; nothing is written",
    )
    instead.add_argument(
        "--check", action="store_true", help="instead, read all artefacts and name damaged ones"
    )
    instead.add_argument(
        "--doctor", action="store_true", help="instead, try what the run needs on this machine"
    )
    args = pipeline.parse(parser)
    settings = config.load(args.config, args.set, seed=args.seed)
    chosen = {
        "poolers": args.pooler,
        "folds": args.fold,
        "overwrite": args.overwrite,
        "skip_failed": args.skip_failed,
    }
    if args.list:
        pipeline.list_all(settings)
    elif args.dry_run:
        pipeline.dry_run(settings, **chosen)
    elif args.doctor:
        pipeline.doctor(settings)
    elif args.check:
        pipeline.check(settings)
    else:
        pipeline.train(
            settings,
            **chosen,
            time_limit=config.parse_duration(args.time_limit) if args.time_limit else None,
        )


if __name__ == "__main__":
    pipeline.run(main)
