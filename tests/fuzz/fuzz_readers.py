"""Fuzz every reader of files: each must read a damaged input, or refuse it in one line.

    python tests/fuzz/fuzz_readers.py --minutes 5
    python tests/fuzz/fuzz_readers.py --inputs 1000 --only config --seed 7 --crashes found

Inputs are seeded mutations of valid contents. Each reader runs in a process of its own, with limits
of time per input and of memory, so that hangs and deaths of the interpreter are found as well.
Inputs that crash a reader are written to the folder given, and make the exit status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import logging
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inputs import make_input

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent / "src"), str(TESTS)]

CORPORA = ["corpus.readers", "corpus.backbones", "corpus.configs", "corpus.artefacts"]
MOST_DEATHS = 20  # of the processes of one reader
MEMORY = 2 << 30  # bytes beyond what the libraries take
LONGEST_LINE = 1000
Reader = Callable[[bytes, Path], None]


class Hang(BaseException):
    """The time for one input is over. No reader may catch this."""


def main() -> None:
    args = _arguments()
    if args.worker:
        _work(args)
        return
    crashes = args.crashes or Path(tempfile.mkdtemp(prefix="crashes-"))
    crashes.mkdir(parents=True, exist_ok=True)
    readers = _named(args)
    if not readers:
        sys.exit(f"no reader is called anything like '{args.only}'")
    crashed = False
    for corpus, name in readers:
        tally = _run(args, corpus, name, 60 * args.minutes / len(readers), crashes)
        print(f"{name}: {json.dumps(tally)}", flush=True)
        crashed |= tally["crashes"] > 0
    if crashed:
        print(f"crash inputs and tracebacks are in {crashes}")
        sys.exit(1)


def _arguments() -> argparse.Namespace:
    made = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    made.add_argument("--minutes", type=float, default=5.0, help="for all readers together")
    made.add_argument("--inputs", type=int, default=10**9, help="for each reader, at most")
    made.add_argument("--seconds", type=float, default=5.0, help="for one input, at most")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--only", default="", help="readers with this in their name")
    made.add_argument("--crashes", type=Path, help="folder for inputs that crash")
    made.add_argument("--corpus", action="append", help=f"modules; default: {' '.join(CORPORA)}")
    made.add_argument("--worker", help=argparse.SUPPRESS)
    made.add_argument("--started", type=int, default=0, help=argparse.SUPPRESS)
    return made.parse_args()


def _named(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Corpus and name of each reader that is to be fuzzed."""
    return [
        (corpus, name)
        for corpus in args.corpus or CORPORA
        for name in importlib.import_module(corpus).READERS
        if args.only in name
    ]


def _run(
    args: argparse.Namespace, corpus: str, name: str, seconds: float, crashes: Path
) -> dict[str, Any]:
    """Fuzz one reader in a process of its own, and start another one where it has died."""
    tally: dict[str, Any] = dict(inputs=0, refused=0, accepted=0, crashes=0, slowest=0.0)
    until, deaths = time.monotonic() + seconds, 0
    current = crashes / f".current-{_slug(name)}"
    while (left := until - time.monotonic()) > 0 and tally["inputs"] < args.inputs:
        command = [sys.executable, __file__, "--worker", name, "--corpus", corpus]
        command += ["--minutes", str(left / 60), "--inputs", str(args.inputs - tally["inputs"])]
        command += ["--seed", str(args.seed + 1_000_003 * deaths), "--crashes", str(crashes)]
        command += ["--seconds", str(args.seconds), "--started", str(tally["inputs"])]
        worker = subprocess.run(command, capture_output=True, text=True)
        part = json.loads(worker.stdout.strip().rpartition("\n")[2] or "{}")
        for key in ("inputs", "refused", "accepted", "crashes"):
            tally[key] += part.get(key, 0)
        tally["slowest"] = max(tally["slowest"], part.get("slowest", 0.0))
        if worker.returncode:
            message = f"the process ended with status {worker.returncode}\n{worker.stderr[-5000:]}"
            if not current.exists():
                sys.exit(f"{name}: {message}")
            _keep(crashes, name, current.read_bytes(), message)
            tally["inputs"] += 1
            tally["crashes"] += 1
            deaths += 1
        if deaths == MOST_DEATHS:
            break
    current.unlink(missing_ok=True)
    return tally


def _work(args: argparse.Namespace) -> None:
    """Fuzz one reader until time or inputs are over; print the tally after each input."""
    warnings.simplefilter("ignore")
    logging.disable()
    corpus = importlib.import_module(args.corpus[0])
    reader, seeds = corpus.READERS[args.worker], corpus.SEEDS[args.worker]
    current = args.crashes / f".current-{_slug(args.worker)}"
    rng, seen = random.Random(args.seed), set()
    tally: dict[str, Any] = dict(inputs=0, refused=0, accepted=0, crashes=0, slowest=0.0)
    until = time.monotonic() + 60 * args.minutes
    feed(reader, seeds[0], 60)  # what is imported on first use counts neither as time nor as memory
    _limit_memory()
    while (now := time.monotonic()) < until and tally["inputs"] < args.inputs:
        number = args.started + tally["inputs"]
        content = seeds[number] if number < len(seeds) else make_input(rng, seeds)
        current.write_bytes(content)
        outcome, message = feed(reader, content, args.seconds)
        tally["slowest"] = max(tally["slowest"], time.monotonic() - now)
        tally["inputs"] += 1
        if outcome in ("accepted", "refused"):
            tally[outcome] += 1
        elif outcome not in seen:
            seen.add(outcome)
            tally["crashes"] += 1
            _keep(args.crashes, args.worker, content, message)
        print(json.dumps(tally), flush=True)
    current.unlink(missing_ok=True)


def feed(reader: Reader, content: bytes, seconds: float) -> tuple[str, str]:
    """`accepted`, `refused`, or a name for the kind of crash; and its traceback."""
    from poolblend.errors import UserError

    signal.signal(signal.SIGALRM, _stop)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        signal.setitimer(signal.ITIMER_PROF, 2 * seconds)  # ends what never comes back to Python
        try:
            reader(content, Path(folder))
        except UserError as error:
            line = str(error)
            if len(line) <= LONGEST_LINE and "\n" not in line:
                return "refused", ""
            return "a refusal of more than a line", line
        except (Exception, Hang, SystemExit) as error:
            message = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            return _fingerprint(error), message
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.setitimer(signal.ITIMER_PROF, 0)
    return "accepted", ""


def _fingerprint(error: BaseException) -> str:
    """Kind of error, and the line of our code that it came from; a hang may be anywhere."""
    if isinstance(error, Hang):
        return "a hang"
    frames = traceback.extract_tb(error.__traceback__)
    last = [f for f in frames if "poolblend" in f.filename or "corpus" in f.filename] or frames
    return f"{type(error).__name__} at {last[-1].filename}:{last[-1].lineno}"


def _stop(*_: object) -> None:
    raise Hang("the time for one input is over")


def _limit_memory() -> None:
    """Limit the address space to MEMORY more than now, where the system says how much that is."""
    taken = Path("/proc/self/statm")
    if taken.exists():
        bytes_taken = int(taken.read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (bytes_taken + MEMORY, resource.RLIM_INFINITY))


def _keep(crashes: Path, name: str, content: bytes, message: str) -> None:
    stem = f"{_slug(name)}-{hashlib.sha256(content).hexdigest()[:12]}"
    (crashes / f"{stem}.input").write_bytes(content)
    (crashes / f"{stem}.txt").write_text(message, encoding="utf-8", errors="backslashreplace")


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)


if __name__ == "__main__":
    main()
