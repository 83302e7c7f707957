"""Peak memory of training one fold, and how long `train.py --help` takes, each in its own process.

  python benchmarks/memory.py
  python benchmarks/memory.py --config configs/disaster-tweets.yaml --set data.dir=~/data/tweets

Everything is written into a temporary folder.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TRAIN = Path(__file__).resolve().parents[1] / "train.py"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--runs", type=int, default=7)
    args = parser.parse_args()

    waits = []
    for _ in range(args.runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, TRAIN, "--help"], stdout=subprocess.DEVNULL, check=True)
        waits.append(time.perf_counter() - started)
    print(f"train.py --help: {statistics.median(waits):.2f} s (median of {args.runs})")

    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            TRAIN,
            "--config",
            args.config,
            "--pooler",
            "mean",
            "--fold",
            "0",
        ]
        for item in (*args.set, f"store={folder}"):
            command += ["--set", item]
        subprocess.run(command, check=True)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"training one fold of {args.config}: peak memory {peak:.2f} GB")


if __name__ == "__main__":
    main()
