"""Infer: run the fold models that the blend gives weight to, and write submission.csv.

  python infer.py                                        the demo competition
  python infer.py --config configs/disaster-tweets.yaml
  python infer.py --config configs/chnsenticorp.yaml --set submission=probabilities
  python infer.py --workers auto                         several processes, or one for each GPU
  python infer.py --out submission.csv                   that file alone; the store is only read
  python infer.py --refit                                one model per member, of all rows
  python infer.py --estimate 100                         how long for 100 times the test rows?
  python infer.py --verify-oof                           do the models predict the stored OOF?
  python infer.py --vectors                              pooled vectors as parquet files
  python infer.py --pseudo-labels first                  the blend's predictions, to train on

Models run on the GPU if there is one. Their test predictions are stored, so that another blend of
the same members does not compute them again.
"""

from argparse import ArgumentParser
from collections.abc import Sequence

from poolblend import config, pipeline
from poolblend.commands import command_line


def main(arguments: Sequence[str]) -> None:
    """Infer with these arguments, or do what a flag names instead."""
    parser = _parser()
    args = command_line.parse(parser, arguments)
    settings = config.load(args.config, args.set, seed=args.seed)
    workers = args.workers
    if args.time_limit and (args.verify_oof or args.vectors or args.pseudo_labels is not None):
        parser.error("--time-limit does nothing with --verify-oof, --vectors or --pseudo-labels")
    if args.refit and (args.verify_oof or args.vectors or args.pseudo_labels is not None):
        parser.error("--refit does nothing with --verify-oof, --vectors or --pseudo-labels")
    time_limit = config.parse_duration(args.time_limit) if args.time_limit else None
    if args.verify_oof:
        pipeline.verify_oof(settings, workers=workers)
    elif args.estimate is not None:
        pipeline.estimate(
            settings, args.estimate, workers=workers, limit=time_limit, refit=args.refit
        )
    elif args.vectors:
        pipeline.write_vectors(settings, workers=workers)
    elif args.pseudo_labels is not None:
        pipeline.write_pseudo_labels(settings, args.pseudo_labels, workers=workers)
    else:
        pipeline.infer(
            settings,
            members_from=args.members_from,
            workers=workers,
            out=args.out,
            time_limit=time_limit,
            refit=args.refit,
        )


def _parser() -> ArgumentParser:
    parser = command_line.parser("infer", __doc__)
    command_line.add_workers(parser)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--verify-oof",
        action="store_true",
        help="instead, run the fold models on their own validation rows and compare",
    )
    instead.add_argument(
        "--vectors",
        action="store_true",
        help="instead, write the vectors that each fold model pools from the test and train rows: "
        "one file per fold, as vectors of different models cannot be averaged (docs/vectors.md)",
    )
    instead.add_argument(
        "--pseudo-labels",
        metavar="NAME",
        help="instead, write the blend's test predictions as labels to train on (pseudo.labels): "
        "for each fold, only those of its own models, which were trained without its rows",
    )
    parser.add_argument(
        "--members-from",
        metavar="DIR",
        help="the new place of the folder given to blend.py, if it has moved",
    )
    parser.add_argument(
        "--refit",
        action="store_true",
        help="run members' models of all rows (train.py --fold refit) instead of the folds' models",
    )
    instead.add_argument(
        "--out",
        metavar="FILE",
        help="write the submission to FILE, without a card; the store is only read",
    )
    instead.add_argument(
        "--estimate",
        metavar="N",
        type=int,
        help="instead, time the fold models and say how long N times the test rows would take; an "
        "error if that is above --time-limit",
    )
    parser.add_argument(
        "--time-limit",
        metavar="TIME",
        help="stop before this time, such as 8h30m or 45m; the same command continues. With --out, "
        "the submission is then written from the fold models that are done",
    )
    return parser
