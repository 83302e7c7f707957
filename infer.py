"""Infer: run the fold models that the blend gives weight to, and write submission.csv.

  python infer.py                                        the demo competition
  python infer.py --config configs/disaster-tweets.yaml
  python infer.py --config configs/trec.yaml --set submission=probabilities
  python infer.py --verify-oof                           are the models those of the stored OOF?

Models run on the GPU where there is one. Their test predictions are kept, so that another blend of
the same members computes nothing again.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from poolblend import config, pipeline


def main() -> None:
    parser = pipeline.parser(__doc__)
    parser.add_argument(
        "--verify-oof",
        action="store_true",
        help="instead, run the fold models on their own validation rows and compare",
    )
    args = pipeline.parse(parser)
    settings = config.load(args.config, args.set, seed=args.seed)
    if args.verify_oof:
        pipeline.verify_oof(settings)
    else:
        pipeline.infer(settings)


if __name__ == "__main__":
    pipeline.run(main)
