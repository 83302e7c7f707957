"""What the scripts share: the few common flags, the log, and one-line errors with exit status 2."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from typing import NoReturn

from poolblend.errors import PartlyFailedError, Stopped, UserError
from poolblend.registry import declared


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, as for everything else that the user can mend."""
        short = message if len(message) < 200 else f"{message[:200]}…"
        _end(f"error: {short} (--help lists what there is)", 2)


def parser(doc: str | None, lists: str | None = None) -> argparse.ArgumentParser:
    """The common flags; the help text is the script's docstring, and the family that it `lists`."""
    made = _Parser(
        allow_abbrev=False,
        description=doc,
        epilog=f"{lists}s:\n{describe(lists)}" if lists else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
        help="override any config key, such as train.epochs=3; may be repeated. Lists and mappings "
        "stand in [] and {}; any other value is a number, true, false, null, or text as it is",
    )
    made.add_argument("--seed", type=int, help="the run's seed; members are named after it")
    made.add_argument("--quiet", action="store_true", help="no progress bars, warnings only")
    return made


def parse(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line's arguments, with log and environment set up for what follows."""
    args = made.parse_args()
    _start_log(args.quiet)
    _prepare_libraries(args.quiet)
    return args


def describe(kind: str) -> str:
    """The names of a family with their one-line descriptions, for a help text."""
    entries = declared(kind)
    width = max(map(len, entries), default=0)
    return "\n".join(f"  {name:<{width}}  {line}" for name, line in entries.items())


def run(main: Callable[[], None]) -> None:
    """Run a script's `main`; what the user can mend ends in one line and exit status 2."""
    try:
        signal.signal(signal.SIGTERM, _terminate)
        main()
    except PartlyFailedError as error:
        _end(f"failed: {error}", 1)
    except UserError as error:
        _end(f"error: {error}", 2)
    except Stopped as stop:
        _end(str(stop), stop.status)
    except BrokenPipeError:  # whoever read our output has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        # An error without a number is not the system's.
        if error.errno is None:
            raise
        _end(f"error: {error}; what is finished is kept", 2)
    except MemoryError as error:
        _end(f"error: out of memory ({error}); what is finished is kept", 2)
    except KeyboardInterrupt:
        _end("stopped by SIGINT; the same command continues with what is missing", 130)
    except _Terminated:
        _end("stopped by SIGTERM; the same command continues with what is missing", 143)


class _Terminated(BaseException):
    """SIGTERM, on its way through the blocks that remove temporary files."""


def _terminate(*_: object) -> None:
    raise _Terminated


def _end(message: str, status: int) -> NoReturn:
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(status)


class _AboveBars(logging.StreamHandler):
    """Writes whole lines above a progress bar, rather than behind what it shows."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm = sys.modules.get("tqdm")  # not imported for this: there may be no bars
        with tqdm.tqdm.external_write_mode(self.stream) if tqdm else nullcontext():
            super().emit(record)


def _start_log(quiet: bool) -> None:
    handler = _AboveBars(sys.stderr)
    logging.basicConfig(format="%(message)s", level=logging.WARNING, handlers=[handler])
    logging.getLogger("poolblend").setLevel(logging.WARNING if quiet else logging.INFO)


def _prepare_libraries(quiet: bool) -> None:
    """Environment variables that are read when torch and tqdm are imported; the user's own win."""
    if quiet:
        os.environ["TQDM_DISABLE"] = "1"
    # GNU OpenMP spins at every barrier: on two cores, one other busy process made training 12 times
    # as slow. A short spin costs nothing on an idle machine and keeps a shared one usable.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
