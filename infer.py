"""The command `infer`, run from a checkout: `python infer.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from poolblend.commands import run

if __name__ == "__main__":
    run("infer", sys.argv[1:])
