"""The commands of a terminal: arguments in, one function of `pipeline` called.

Each is a module of this folder, with its help as docstring and a function `main`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from poolblend import __version__
from poolblend.commands import command_line
from poolblend.errors import UserError, unknown

# In the order in which they are used.
COMMANDS = {
    "new": "look at a competition's folder, and draft its config",
    "doctor": "test what a run needs on this machine",
    "train": "train fold models, and keep their out-of-fold predictions",
    "blend": "fit blend weights, and score them honestly",
    "board": "show members and blends: scores, seconds, sizes, weights",
    "infer": "run the fold models, and write submission.csv",
    "bundle": "put models, blend and code into one folder, for a machine without a network",
    "submit": "hand a bundle or a submission over to Kaggle's own command-line tool",
}


def run(name: str, arguments: Sequence[str]) -> None:
    """Run a command; a user error ends in one line and exit status 2."""
    module = import_module(f"poolblend.commands.{name}")
    command_line.run(lambda: module.main(arguments))


def main() -> None:
    """`poolblend COMMAND …`, and `python -m poolblend COMMAND …`."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in COMMANDS:
        run(name, arguments)
    else:
        command_line.run(lambda: _answer(name))


def _answer(flag: str) -> None:
    if flag == "--version":
        print(__version__)
    elif flag in ("--help", "-h"):
        print(f"poolblend {__version__}\n")
        width = max(map(len, COMMANDS))
        print("\n".join(f"  poolblend {name:<{width}}  {what}" for name, what in COMMANDS.items()))
        print("\npoolblend COMMAND --help has the flags of a command.")
    elif flag.startswith("-"):
        raise UserError(f"unknown flag {flag} before a command; flags follow the command")
    else:
        raise unknown("command", flag, COMMANDS)
