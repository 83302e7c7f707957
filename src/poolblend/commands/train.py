"""Train fold models: one transformer per pooling type and fold, with out-of-fold predictions.

  python train.py                                        the demo competition, everything
  python train.py --pooler max --fold 0                  one fold model
  python train.py --config configs/disaster-tweets.yaml --pooler mean,attention --fold all
  python train.py --config configs/trec.yaml --set train.epochs=3 --set data.dir=~/data/trec
  python train.py --fold refit                           one model of all rows per member
  python train.py --workers auto                         several processes, or one for each GPU
  python train.py --time-limit 8h30m                     stop before; finished work is kept
  python train.py --screen                               which poolers are worth training?
  python train.py --list                                 names for the config
  python train.py --dry-run                              the folds to train and their tokens
  python train.py --check                                is any stored file damaged or stale?
  python train.py --doctor                               will it run on this machine?

Finished folds are skipped, and interrupted folds resume from their last checkpoint: the same
command continues after any interruption. Two processes with the same command share the folds. A
fold that is damaged, or whose settings or data changed, is reported and not trained, unless
--overwrite is given. If a fold fails (a loss of NaN, too little memory), the reason is stored and
the other folds are trained; the exit status is then 1, and the same command tries the fold again.
"""

from argparse import ArgumentParser
from collections.abc import Sequence

from poolblend import config, pipeline
from poolblend.commands import command_line


def main(arguments: Sequence[str]) -> None:
    """Train with these arguments, or do what a flag names instead."""
    parser = _parser()
    args = command_line.parse(parser, arguments)
    settings = config.load(args.config, args.set, seed=args.seed)
    time_limit = config.parse_duration(args.time_limit) if args.time_limit else None
    chosen = {
        "poolers": args.pooler,
        "folds": args.fold,
        "overwrite": args.overwrite,
        "skip_failed": args.skip_failed,
    }
    if args.list:
        pipeline.list_all()
    elif args.screen:
        pipeline.screen(settings, fold=args.fold, time_limit=time_limit, workers=args.workers)
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
            standalone=args.standalone,
            workers=args.workers,
            time_limit=time_limit,
        )


def _parser() -> ArgumentParser:
    parser = command_line.parser("train", __doc__, lists="pooler")
    parser.add_argument(
        "--pooler",
        default="all",
        metavar="NAMES",
        help="a pooler, a comma-separated list, or all of the config (default)",
    )
    parser.add_argument(
        "--fold",
        default="all",
        metavar="FOLDS",
        help="a number, a comma-separated list, all (default), or refit: one model of all rows for "
        "each member that has weight in the blend, which infer.py --refit runs",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="train again folds that are damaged or stale",
    )
    parser.add_argument(
        "--skip-failed",
        action="store_true",
        help="do not try again folds that failed before",
    )
    parser.add_argument(
        "--standalone",
        action="store_true",
        help="store whole models of members with frozen layers, so that a fold's folder is of use "
        "by itself; by default the folds share one copy of the backbone, in models/<run>/bases",
    )
    parser.add_argument(
        "--time-limit",
        metavar="TIME",
        help="stop before this time, such as 8h30m or 45m, with exit status 0",
    )
    command_line.add_workers(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--list",
        action="store_true",
        help="instead, list presets, poolers, recipes, metrics, fold strategies, blenders",
    )
    instead.add_argument(
        "--screen",
        action="store_true",
        help="instead, compare all poolers on one fold, with all layers but the last frozen, and "
        "suggest a short list; kept as the run <run>-screen",
    )
    instead.add_argument(
        "--dry-run",
        action="store_true",
        help="instead, print the folds to train and their tokens; nothing is written",
    )
    instead.add_argument(
        "--check",
        action="store_true",
        help="instead, read all stored files and report damage",
    )
    instead.add_argument(
        "--doctor", action="store_true", help="instead, test what the run needs on this machine"
    )
    return parser
