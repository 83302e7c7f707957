"""The common parts of the commands: flags, the log, and one-line errors with exit status 2."""

from __future__ import annotations

import argparse
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from poolblend.config import parse_workers
from poolblend.errors import PartlyFailedError, Stopped, UserError
from poolblend.jobs.starting import prepare, set_up
from poolblend.printing import AboveBars
from poolblend.registry import declared

CONTINUE = "the same command continues from what is stored"
# In help texts and messages, which name the commands as the scripts of a checkout.
SCRIPT = re.compile(r"(?:python )?\b(train|blend|infer)\.py\b")


def as_typed(text: str) -> str:
    """The text with each command named as the user types it: `train.py`, or `poolblend train`."""
    program = Path(sys.argv[0])
    installed = program.stem == "poolblend" or program.parts[-2:] == ("poolblend", "__main__.py")
    return SCRIPT.sub(r"poolblend \1", text) if installed else text


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for every user error."""
        short = message if len(message) < 200 else f"{message[:200]}…"
        _end(f"error: {short} (--help lists all flags)", 2)


def parser(
    name: str, doc: str | None, lists: str | None = None, *, of_config: bool = True
) -> argparse.ArgumentParser:
    """The command's parser with the common flags; without `of_config` none that name a config.

    Its help is `doc`, and the registered names of `lists`.
    """
    script = f"{name}.py"
    made = _Parser(
        allow_abbrev=False,
        description=as_typed(doc or ""),
        prog=as_typed(script) if SCRIPT.match(script) else f"poolblend {name}",
        epilog=f"{lists}s:\n{describe(lists)}" if lists else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if of_config:
        _add_config(made)
    made.add_argument("--quiet", action="store_true", help="no progress bars, warnings only")
    return made


def _add_config(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--config",
        metavar="FILE",
        help="the competition's YAML (default: configs/quickstart.yaml, which needs no download)",
    )
    made.add_argument(
        "--set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override a config key, such as train.epochs=3; may be repeated. Lists are in [], "
        "mappings in {}; any other value is a number, true, false, null or text",
    )
    made.add_argument("--seed", type=int, help="the run's seed, a part of the members' names")


def add_workers(made: argparse.ArgumentParser) -> None:
    """The flag of the commands whose work several processes can share."""
    made.add_argument(
        "--workers",
        metavar="N",
        help="do the work in N processes at a time, which share cores and GPUs (default: 1, this "
        "process); auto: as many as are fastest here and have the memory",
    )
    made.add_argument(
        "--on",
        metavar="CLUSTER",
        help="do the work on a Ray cluster: ray (the one of RAY_ADDRESS or of this machine, else "
        "one is started here), ray://host:port, or auto (a cluster if there is one, else as with "
        "--workers auto); --workers N: at most N jobs at a time",
    )


def parse(made: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments; also starts the log, and prepares libraries and workers."""
    args = made.parse_args(arguments)
    handler = _AsTyped(sys.stderr)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[handler])
    set_up(quiet=args.quiet)
    if hasattr(args, "workers"):
        args.workers = parse_workers(args.workers, args.on)
        prepare(args.workers)
    return args


def describe(kind: str) -> str:
    """The registered names of a kind with their one-line descriptions, for a help text."""
    entries = declared(kind)
    width = max(map(len, entries), default=0)
    return "\n".join(f"  {name:<{width}}  {line}" for name, line in entries.items())


def run(main: Callable[[], None]) -> None:
    """Run a command; a user error ends in one line and exit status 2."""
    try:
        signal.signal(signal.SIGTERM, _terminate)
        main()
    except PartlyFailedError as error:
        _end(f"failed: {error}", 1)
    except UserError as error:
        _end(f"error: {error}", 2)
    except Stopped as stop:
        _end(str(stop), stop.status)
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if error.errno is None:  # not an error of the system, but a bug
            raise
        _end(f"error: {error}; what is finished is kept", 2)
    except MemoryError as error:
        _end(f"error: out of memory ({error}); what is finished is kept", 2)
    except KeyboardInterrupt:
        _end(f"stopped by SIGINT; {CONTINUE}", 130)
    except _Terminated:
        _end(f"stopped by SIGTERM; {CONTINUE}", 143)


class _Terminated(BaseException):
    """SIGTERM as an exception, so that temporary files are removed."""


def _terminate(*_: object) -> None:
    raise _Terminated


def _end(message: str, status: int) -> NoReturn:
    print(as_typed(" ".join(message.split())), file=sys.stderr)
    sys.exit(status)


class _AsTyped(AboveBars):
    def format(self, record: logging.LogRecord) -> str:
        return as_typed(super().format(record))
