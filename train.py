"""The command `train`, run from a checkout: `python train.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from poolblend.commands import run

if __name__ == "__main__":
    run("train", sys.argv[1:])
