"""The command `blend`, run from a checkout: `python blend.py --help`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from poolblend.commands import run

if __name__ == "__main__":
    run("blend", sys.argv[1:])
