"""Infer: run the fold models that the blend gives weight to, and write submission.csv.

  python infer.py                                        the demo competition
  python infer.py --config configs/disaster-tweets.yaml
  python infer.py --config configs/chnsenticorp.yaml --set submission=probabilities
  python infer.py --verify-oof                           are the models those of the stored OOF?
  python infer.py --vectors                              what the heads see, as parquet files
  python infer.py --pseudo-labels first                  the blend's predictions, to train on

Models run on the GPU where there is one. Their test predictions are kept, so that another blend of
the same members computes nothing again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from poolblend import config, pipeline


def main() -> None:
    parser = pipeline.parser(__doc__)
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument(
        "--verify-oof",
        action="store_true",
        help="instead, run the fold models on their own validation rows and compare",
    )
    instead.add_argument(
        "--vectors",
        action="store_true",
        help="instead, keep the vectors that each fold model pools of the test and the train rows: "
        "one file per fold, as each fold's model has a space of its own and their mean means "
        "nothing (docs/vectors.md)",
    )
    instead.add_argument(
        "--pseudo-labels",
        metavar="NAME",
        help="instead, keep the blend's test predictions as labels to train on (pseudo.labels): "
        "for each fold those of its own models alone, which never saw its rows",
    )
    parser.add_argument(
        "--members-from",
        metavar="DIR",
        help="where the folder given to blend.py lies now, if it has moved since",
    )
    args = pipeline.parse(parser)
    settings = config.load(args.config, args.set, seed=args.seed)
    if args.verify_oof:
        pipeline.verify_oof(settings)
    elif args.vectors:
        pipeline.write_vectors(settings)
    elif args.pseudo_labels is not None:
        pipeline.write_pseudo_labels(settings, args.pseudo_labels)
    else:
        pipeline.infer(settings, members_from=args.members_from)


if __name__ == "__main__":
    pipeline.run(main)
